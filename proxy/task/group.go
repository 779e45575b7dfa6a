package task

import "sync"

// group counts goroutines. Unlike a WaitGroup it may be started into while somebody waits for its end.
type group struct {
	mu    sync.Mutex
	n     int
	ended chan struct{} // not nil once end was called, closed when n has then reached zero
	over  bool          // ended is closed
}

// start runs f on a goroutine of the group; once the group is over it does nothing.
func (g *group) start(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over {
		return
	}
	g.n++
	go g.run(f)
}

func (g *group) run(f func()) {
	defer g.done()
	f()
}

func (g *group) done() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n--
	g.check()
}

// end returns a channel that is closed as soon as no goroutine of the group runs.
func (g *group) end() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended == nil {
		g.ended = make(chan struct{})
	}
	g.check()
	return g.ended
}

func (g *group) check() {
	if g.n == 0 && g.ended != nil && !g.over {
		g.over = true
		close(g.ended)
	}
}
