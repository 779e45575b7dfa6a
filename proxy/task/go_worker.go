package task

import "sync"

// maxIdleWorkers bounds the goroutines of a shard that wait for a task.
const maxIdleWorkers = 32

// workers are goroutines that have run a task and wait for another: their stacks have grown already, which takes a new goroutine longer than
// many a task.
type workers struct {
	mu   sync.Mutex
	open bool
	idle []*worker // the last is taken first
}

// worker is a goroutine that waits for a task, or, if next is closed, for its end.
type worker struct{ next chan func() }

// begin lets goroutines wait from now on.
func (ws *workers) begin() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.open = true
}

// end ends those that wait; no more will.
func (ws *workers) end() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.open = false
	for _, w := range ws.idle {
		close(w.next)
	}
	ws.idle = nil
}

// give lets a waiting goroutine run f, and reports whether there was one.
func (ws *workers) give(f func()) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	last := len(ws.idle) - 1
	if last < 0 {
		return false
	}
	w := ws.idle[last]
	ws.idle[last] = nil
	ws.idle = ws.idle[:last]
	w.next <- f // it has a slot, and nobody else knows w
	return true
}

// keep notes that w waits, and reports whether it may.
func (ws *workers) keep(w *worker) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if !ws.open || len(ws.idle) >= maxIdleWorkers {
		return false
	}
	ws.idle = append(ws.idle, w)
	return true
}

// work is a goroutine of the shard: it runs f, and then what it is given.
func (s *goShard) work(f func()) {
	s.task(f)
	w := &worker{next: make(chan func(), 1)}
	for s.workers.keep(w) {
		f, more := <-w.next
		if !more {
			return
		}
		s.task(f)
	}
}
