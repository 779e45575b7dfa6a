package task

import (
	"io"

	"golang.org/x/sys/unix"
)

// With edge-triggered events a descriptor need be asked again only after one: a read that fills less than its
// buffer has drained it, unless epoll has reported an end, about which only recv tells the truth.

func (c *loopConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	t := c.l.current("Conn.Read")
	for {
		if err := c.awaitEvent(t); err != nil {
			return 0, err
		}
		if c.readErr == io.EOF {
			return 0, c.endRead(0)
		}
		n, errno := sysRecv(c.fd, p)
		switch {
		case n > 0:
			if n < len(p) && !c.is(hungUp) {
				c.state &^= readable
			} else if c.onHangup != nil && c.is(readable) {
				c.checkHangup()
			}
			return n, nil
		case errno == unix.EINTR:
		case errno == unix.EAGAIN && c.readErr == nil:
			c.state &^= readable
		default:
			return 0, c.endRead(errno)
		}
	}
}

// endRead says, and keeps, how reading has ended.
func (c *loopConn) endRead(errno unix.Errno) error {
	switch {
	case c.readErr != nil: // the kernel reports a reset once, then the end
	case errno == 0:
		c.readErr = io.EOF
	default:
		c.readErr = c.fail(errno)
	}
	if c.onHangup != nil && c.is(readable) {
		c.checkHangup()
	}
	return c.readErr
}

// WaitReadable trusts the last event: to look would cost as much as to read.
func (c *loopConn) WaitReadable() error { return c.awaitEvent(c.l.current("Conn.WaitReadable")) }

// awaitEvent waits until recv may have something.
func (c *loopConn) awaitEvent(t *loopTask) error {
	for {
		switch {
		case c.is(closed):
			return ErrClosed
		case c.expired():
			return ErrDeadline
		case c.is(readable) || c.readErr != nil:
			if t.budget > 0 {
				t.budget--
				return nil
			}
			t.yieldTurn()
		default:
			if c.reader != nil {
				panic("task: two tasks read one Conn")
			}
			c.reader = t
			t.prepare(c.deadline)
			t.park()
			c.reader = nil
		}
	}
}

// awaitIO parks t until an event, the deadline, or the end of the connection. The caller finds out which.
func (t *loopTask) awaitIO(deadline Instant) { t.l.wait(t, deadline) }

func (c *loopConn) OnHangup(f func(err error)) {
	if c.is(closed) {
		return
	}
	c.onHangup = f
	if f != nil && (c.is(readable) || c.readErr != nil) {
		c.checkHangup()
	}
}

// checkHangup looks at the connection when the tasks of this turn have run.
func (c *loopConn) checkHangup() {
	if !c.is(checking) {
		c.state |= checking
		if c.hangupCall == nil {
			c.hangupCall = c.hangup
		}
		c.l.call(c.hangupCall)
	}
}

// hangup calls onHangup if the connection has ended, or has bytes that nobody reads.
func (c *loopConn) hangup() {
	c.state &^= checking
	if c.onHangup == nil || c.reader != nil || c.is(closed) || !c.is(readable) && c.readErr == nil {
		return
	}
	err := c.readErr
	if err == nil {
		var one [1]byte
		n, errno := sysPeek(c.fd, one[:])
		switch {
		case errno == unix.EAGAIN:
			c.state &^= readable
			return
		case errno == unix.EINTR:
			c.checkHangup()
			return
		case errno != 0:
			c.readErr = c.fail(errno)
			err = c.readErr
		case n == 0:
			err = io.EOF
		}
	}
	f := c.onHangup
	c.onHangup = nil
	f(err)
}
