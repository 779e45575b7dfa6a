package task

import (
	"net"
	"sync"
	"time"
)

// goListener accepts on one goroutine and serves each connection on one of its own.
type goListener struct {
	// Static after construction.
	rt *goRuntime
	ln net.Listener
	o  ServeOptions

	closec  chan struct{} // closed by Close
	reserve reserve       // owned by accept

	mu        sync.Mutex
	room      sync.Cond        // of mu: a connection has left, or the listener is closed
	conns     map[*goConn]bool // true while idle
	closed    bool
	closeIdle bool
}

func newGoListener(rt *goRuntime, ln net.Listener, o ServeOptions) *goListener {
	l := &goListener{rt: rt, ln: ln, o: o, closec: make(chan struct{}), conns: make(map[*goConn]bool)}
	l.room.L = &l.mu
	return l
}

func (l *goListener) Addr() net.Addr { return l.ln.Addr() }

func (l *goListener) Active() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

func (l *goListener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	close(l.closec)
	l.room.Broadcast()
	l.rt.mu.Lock()
	delete(l.rt.listeners, l)
	l.rt.mu.Unlock()
	return l.ln.Close()
}

func (l *goListener) CloseIdle() {
	l.mu.Lock()
	l.closeIdle = true
	var idle []*goConn
	for c, is := range l.conns {
		if is {
			l.conns[c] = false // so that bytes that come now find it taken
			l.rt.idle.Add(-1)
			idle = append(idle, c)
		}
	}
	l.mu.Unlock()
	for _, c := range idle {
		c.Close()
	}
}

func (l *goListener) accept() {
	l.reserve.open()
	defer l.reserve.close()
	for l.awaitRoom() {
		nc, err := l.ln.Accept()
		switch {
		case err == nil:
			l.add(nc)
		case l.isClosed():
			return
		default:
			if outOfDescriptors(err) && l.reserve.shed(l.ln) {
				l.rt.shed.Add(1)
			}
			waitFor(l.closec, acceptBackoff)
		}
	}
}

func (l *goListener) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// awaitRoom waits until another connection may be open, and reports false once the listener is closed.
func (l *goListener) awaitRoom() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.closed && l.o.Max > 0 && len(l.conns) >= l.o.Max {
		l.room.Wait()
	}
	return !l.closed
}

func (l *goListener) add(nc net.Conn) {
	s := l.rt.Pick().(*goShard)
	l.mu.Lock()
	c, err := newGoConn(s, nc, l)
	if err == nil {
		l.conns[c] = false
	}
	l.mu.Unlock()
	if err != nil {
		nc.Close()
		return
	}
	l.rt.live.start(func() { l.serve(c) })
}

// left is called once c is closed, with c.mu held: hence mu comes after it and before rt.mu.
func (l *goListener) left(c *goConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns[c] {
		l.rt.idle.Add(-1)
	}
	delete(l.conns, c)
	l.room.Signal()
}

// serve is the life of a connection.
func (l *goListener) serve(c *goConn) {
	if l.o.Eager {
		l.run(c, nil)
	}
	for l.setIdle(c) {
		err := c.WaitReadable()
		if !l.setBusy(c) {
			return
		}
		c.SetDeadline(0)
		b := c.s.Buffer()
		if err == nil {
			b.W, err = c.Read(b.B)
		}
		if err != nil {
			c.s.Free(b)
			c.Close()
			return
		}
		l.run(c, b)
	}
}

// run calls Serve in a task. A panic or Goexit resets the connection.
func (l *goListener) run(c *goConn, first *Buffer) {
	l.rt.tasks.Add(1)
	defer l.rt.tasks.Add(-1)
	returned := false
	defer func() {
		if l.rt.recovered(recover()) || !returned {
			c.Reset()
		}
	}()
	l.o.Serve(c.s, c, first)
	returned = true
}

// setIdle reports false if c is closed or was closed because idle connections are not wanted.
func (l *goListener) setIdle(c *goConn) bool {
	c.OnHangup(nil)
	c.OnDrain(nil)
	c.SetDeadline(0)
	if l.o.Idle > 0 {
		c.SetDeadline(Now().Add(l.o.Idle))
	}
	closed := c.isClosed()
	l.mu.Lock()
	_, open := l.conns[c]
	idle := open && !closed && !l.closeIdle
	if idle {
		l.conns[c] = true
		l.rt.idle.Add(1)
	}
	l.mu.Unlock()
	if !idle {
		c.Close()
	}
	return idle
}

// setBusy reports false if somebody has closed c meanwhile.
func (l *goListener) setBusy(c *goConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.conns[c] {
		return false
	}
	l.conns[c] = false
	l.rt.idle.Add(-1)
	return true
}

// acceptBackoff is how long an acceptor rests after an error.
const acceptBackoff = 10 * time.Millisecond
