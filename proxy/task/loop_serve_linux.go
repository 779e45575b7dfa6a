package task

import (
	"golang.org/x/sys/unix"
)

// setIdle moves c to or from the idle state, which is counted.
func (c *loopConn) setIdle(on bool) {
	if on {
		c.state |= idle
		c.l.count.idle++
		return
	}
	c.state &^= idle
	c.l.count.idle--
	c.until = 0
}

// rest makes c idle, or closes it if idle connections are not wanted.
func (c *loopConn) rest() {
	c.onHangup, c.onDrain, c.deadline = nil, nil, 0
	if c.ln.closeIdle.Load() || c.l.stopping {
		c.Close()
		return
	}
	c.setIdle(true)
	if d := c.ln.o.Idle; d > 0 {
		c.until = c.l.now.Add(d)
		c.arm()
	}
}

// startServe begins a task for c.
func (c *loopConn) startServe() {
	if c.is(idle) {
		c.setIdle(false)
	}
	c.l.spawn(nil, c)
}

// serve is that task. It ends when there is nothing more to read, or c is closed.
func (c *loopConn) serve() {
	l := c.l
	for {
		var b *Buffer
		if c.is(eager) {
			c.state &^= eager
		} else if b = l.Buffer(); !c.fill(b) {
			l.Free(b)
			return
		}
		c.ln.o.Serve(l, c, b)
		if c.is(closed) {
			return
		}
		if !c.is(readable) && c.readErr == nil {
			c.rest()
			return
		}
		c.onHangup, c.onDrain, c.deadline = nil, nil, 0
		if t := l.cur; t.budget <= 0 {
			t.yieldTurn()
			if c.is(closed) {
				return
			}
		}
	}
}

// fill reads the first bytes of an exchange. It reports false if there are none: c is then idle again, or closed.
func (c *loopConn) fill(b *Buffer) bool {
	for {
		n, errno := sysRecv(c.fd, b.B)
		switch {
		case n > 0:
			if n < len(b.B) && !c.is(hungUp) {
				c.state &^= readable
			}
			b.W = n
			c.l.cur.budget--
			return true
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN && c.readErr == nil:
			c.state &^= readable
			c.rest()
		default:
			c.state &^= readable // there is nothing to discard
			c.Close()
		}
		return false
	}
}
