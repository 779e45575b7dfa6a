package task

import (
	"net"
	"syscall"
)

// The bytes of a connection leave in this order: what Push queued before a Write began to send, the Write,
// what Push queued meanwhile. Who sends has set sending; the queue is sent by the writer goroutine.

// maxSpare is the largest queue that a connection keeps for reuse, in bytes.
const maxSpare = 64 << 10

func (c *goConn) Write(p []byte) (int, error) {
	if err := c.beginWrite(); err != nil {
		return 0, err
	}
	n, err := 0, error(nil)
	if len(p) > 0 {
		n, err = c.nc.Write(p)
	}
	return n, c.endWrite(n, len(p), err)
}

// endWrite ends the turn of a Write that sent n of size bytes.
func (c *goConn) endWrite(n, size int, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writers--
	c.sending, c.writing = false, false
	c.turn.Broadcast()
	err = c.writeErrorLocked(err)
	c.cut = n > 0 && n < size
	switch {
	case !c.closed:
		c.flushLocked()
	case c.cut:
		c.resetLocked()
	case c.queued > 0:
		c.applyWriteLocked(c.closeUntil)
		c.flushLocked()
	default:
		c.finishLocked()
	}
	if c.closed && n == size {
		return nil // it was all sent before the close
	}
	return err
}

// beginWrite waits for the turn of the calling task.
func (c *goConn) beginWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writers++
	for {
		switch {
		case c.closed:
			c.writers--
			return c.closeErr
		case c.writeErr != nil:
			c.writers--
			return c.writeErr
		case c.noMore:
			c.writers--
			return syscall.EPIPE
		case c.expired():
			c.writers--
			c.turn.Broadcast()
			return ErrDeadline
		}
		c.applyWriteLocked(Instant(c.deadline.Load()))
		if !c.sending && c.queued == 0 {
			break
		}
		c.turn.Wait()
	}
	c.sending, c.writing = true, true
	return nil
}

func (c *goConn) Push(p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return c.closeErr
	case c.writeErr != nil:
		return c.writeErr
	case c.noMore:
		return syscall.EPIPE
	}
	if !c.sending && c.queued == 0 && c.raw != nil {
		c.applyWriteLocked(0)
		n, err := c.raw.send(p)
		if err = c.writeErrorLocked(err); err != nil {
			return err
		}
		p = p[n:]
	}
	if len(p) == 0 {
		return nil
	}
	c.queue = append(c.queue, p...)
	c.queued += len(p)
	c.flushLocked()
	return nil
}

// flushLocked starts the writer goroutine if there is work for it, and sends a FIN that was due.
func (c *goConn) flushLocked() {
	if c.sending {
		return
	}
	if c.queued > 0 {
		c.sending = true
		c.s.rt.live.start(c.sendQueue)
		return
	}
	if c.noMore && !c.finSent && !c.closed {
		c.finSent = true
		if h, ok := c.nc.(interface{ CloseWrite() error }); ok {
			c.writeErrorLocked(h.CloseWrite())
		}
	}
}

// sendQueue is the writer goroutine.
func (c *goConn) sendQueue() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) > 0 && c.writeErr == nil {
		b := c.queue
		c.queue, c.spare = c.spare[:0], nil
		c.sendLocked(b)
		if cap(b) <= maxSpare {
			c.spare = b[:0]
		}
	}
	c.sending = false
	c.drainedLocked()
	if c.closed && c.closeUntil != 0 {
		if c.writeErr != nil {
			c.abortLocked()
		}
		c.finishLocked()
		return
	}
	c.flushLocked()
}

// sendLocked sends b, unlocking mu meanwhile. The deadline of a Write that waits behind b may pass; b then
// goes on after that Write has left.
func (c *goConn) sendLocked(b []byte) {
	for len(b) > 0 && c.writeErr == nil {
		if c.closeUntil == 0 && c.writers == 0 {
			c.applyWriteLocked(0)
		}
		c.mu.Unlock()
		n, err := c.nc.Write(b)
		c.mu.Lock()
		b = b[n:]
		c.queued -= n
		err = plainError(err)
		switch {
		case err == nil:
		case err == ErrDeadline && c.closeUntil == 0:
			c.turn.Broadcast()
			for c.writers > 0 && c.expired() && !c.closed {
				c.turn.Wait()
			}
		default:
			c.fail(err)
		}
	}
}

// fail discards the queue and makes every later send return err. mu must be held.
func (c *goConn) fail(err error) {
	if c.writeErr == nil {
		c.writeErr = err
	}
	if err == syscall.ECONNRESET && c.readErr == nil {
		c.readErr = err
	}
	had := c.queued > 0
	c.queue, c.queued = nil, 0
	c.turn.Broadcast()
	if had && !c.sending {
		c.drainedLocked()
	}
}

// drainedLocked announces that nothing is queued any more.
func (c *goConn) drainedLocked() {
	c.queued = 0
	c.turn.Broadcast()
	if c.onDrain != nil {
		c.s.Post(c.drain)
	}
}

func (c *goConn) drain() {
	c.mu.Lock()
	f := c.onDrain
	c.mu.Unlock()
	if f != nil {
		f()
	}
}

// CloseWrite sends FIN behind what is queued. It does not wait.
func (c *goConn) CloseWrite() error {
	if _, ok := c.nc.(interface{ CloseWrite() error }); !ok {
		return &net.OpError{Op: "close write", Net: c.nc.LocalAddr().Network(), Err: syscall.ENOTSUP}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return c.closeErr
	case c.writeErr != nil:
		return c.writeErr
	}
	c.noMore = true
	c.flushLocked()
	return nil
}

func (c *goConn) Queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queued
}

func (c *goConn) OnDrain(f func()) {
	c.mu.Lock()
	c.onDrain = f
	c.mu.Unlock()
}

func (c *goConn) applyWriteLocked(t Instant) {
	if t != c.writeEnd {
		c.writeEnd = t
		c.nc.SetWriteDeadline(t.wall())
	}
}
