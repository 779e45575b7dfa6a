package task

import (
	"golang.org/x/sys/unix"
)

// The bytes of a connection leave in this order: what Push queued before a Write began to send, the Write, what
// Push queued meanwhile. A send that takes less than it was given has filled the kernel's buffer: only an event
// makes the descriptor writable again.

// writeUnit is what Write sends, in bytes, for one call of its task's budget.
const writeUnit = 64 << 10

func (c *loopConn) Write(p []byte) (int, error) {
	t := c.l.current("Conn.Write")
	total := 0
	for {
		err := c.awaitRoom(t)
		if err == nil && len(p) > 0 {
			var n int
			n, err = c.send(p[:min(len(p), writeUnit)])
			total += n
			p = p[n:]
		}
		if err != nil || len(p) == 0 {
			c.endWrite(err != nil && total > 0)
			return total, err
		}
		if total > 0 {
			c.state |= partial
		}
	}
}

// endWrite lets what was pushed meanwhile follow.
func (c *loopConn) endWrite(short bool) {
	c.state &^= partial | cut
	if short {
		c.state |= cut
	}
	switch {
	case c.is(closed) || c.writeErr != nil:
	case c.queued > 0:
		c.flush()
	case c.is(noMore):
		c.sendFin()
	}
}

// awaitRoom waits until the queue is empty and the kernel may take something.
func (c *loopConn) awaitRoom(t *loopTask) error {
	for {
		switch {
		case c.is(closed):
			return ErrClosed
		case c.writeErr != nil:
			return c.writeErr
		case c.is(noMore) && !c.is(partial):
			return unix.EPIPE
		case c.expired():
			return ErrDeadline
		case c.is(writable) && (c.queued == 0 || c.is(partial)):
			if t.budget > 0 {
				t.budget--
				return nil
			}
			t.yieldTurn()
		default:
			if c.writer != nil {
				panic("task: two tasks write one Conn")
			}
			c.writer = t
			t.awaitIO(c.deadline)
			c.writer = nil
		}
	}
}

// maxSend bounds one send, in bytes, so that no call holds its thread for long.
const maxSend = 256 << 10

// send sends what the kernel takes of p. It takes less than all only if it is full.
func (c *loopConn) send(p []byte) (int, error) {
	total := 0
	for total < len(p) {
		unit := p[total:min(len(p), total+maxSend)]
		n, errno := sysSend(c.fd, unit)
		switch {
		case errno == unix.EINTR:
		case errno == unix.EAGAIN:
			c.state &^= writable
			return total, nil
		case errno != 0:
			c.writeErr = c.fail(errno)
			return total, c.writeErr
		case n < len(unit):
			c.state &^= writable
			return total + n, nil
		default:
			total += n
		}
	}
	return total, nil
}

func (c *loopConn) Push(p []byte) error {
	switch {
	case c.is(closed):
		return ErrClosed
	case c.writeErr != nil:
		return c.writeErr
	case c.is(noMore):
		return unix.EPIPE
	}
	if c.queued == 0 && !c.is(partial) && c.is(writable) {
		n, err := c.send(p)
		if err != nil {
			return err
		}
		p = p[n:]
	}
	c.enqueue(p)
	return nil
}

// enqueue copies p into chunks.
func (c *loopConn) enqueue(p []byte) {
	c.queued += len(p)
	for len(p) > 0 {
		var b *Buffer
		if n := len(c.queue); n > 0 && c.queue[n-1].W < BufferSize {
			b = c.queue[n-1]
		} else {
			b = c.l.takeBuffer()
			c.queue = append(c.queue, b)
		}
		n := copy(b.Room(), p)
		b.W += n
		p = p[n:]
	}
}

// maxChunks bounds the chunks that one system call sends.
const maxChunks = 16

// flush sends the queue as far as the kernel takes it.
func (c *loopConn) flush() {
	for c.queued > 0 && c.is(writable) {
		chunks := c.queue[:min(len(c.queue), maxChunks)]
		var n int
		var errno unix.Errno
		if len(chunks) == 1 {
			n, errno = sysSend(c.fd, chunks[0].Unread())
		} else {
			n, errno = c.l.sendChunks(int(c.fd), chunks)
		}
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN:
			c.state &^= writable
			return
		case errno != 0:
			c.writeErr = c.fail(errno)
			c.dropQueue()
		default:
			if c.sent(n) {
				c.state &^= writable
			}
		}
	}
	if c.queued == 0 {
		c.drained()
	}
}

// sent takes n bytes from the queue, and reports whether that ended within what one call was given.
func (c *loopConn) sent(n int) (short bool) {
	c.queued -= n
	if c.queued == 0 && len(c.queue) == 1 {
		c.l.giveBuffer(c.queue[0])
		c.queue[0] = nil
		c.queue = c.queue[:0]
		return false
	}
	done := 0
	for done < len(c.queue) && done < maxChunks {
		b := c.queue[done]
		m := min(n, b.W-b.R)
		b.R += m
		n -= m
		if b.R < b.W {
			short = true
			break
		}
		c.l.giveBuffer(b)
		done++
	}
	kept := copy(c.queue, c.queue[done:])
	clear(c.queue[kept:])
	c.queue = c.queue[:kept]
	return short
}

// drained follows the end of the queue.
func (c *loopConn) drained() {
	if cap(c.queue) > 16 {
		c.queue = c.one[:0]
	}
	c.announceDrain()
	switch {
	case c.is(closed) && c.writeErr != nil:
		c.abort()
	case c.is(closed):
		c.finish()
	default:
		if c.is(noMore) && !c.is(partial) {
			c.sendFin()
		}
		if c.writer != nil {
			c.l.wake(c.writer)
		}
	}
}

// announceDrain calls onDrain later in the turn.
func (c *loopConn) announceDrain() {
	if c.onDrain == nil || c.is(draining) {
		return
	}
	c.state |= draining
	if c.drainCall == nil {
		c.drainCall = c.drain
	}
	c.l.call(c.drainCall)
}

func (c *loopConn) drain() {
	c.state &^= draining
	if f := c.onDrain; f != nil {
		f()
	}
}

// dropQueue discards what is queued.
func (c *loopConn) dropQueue() {
	for _, b := range c.queue {
		c.l.giveBuffer(b)
	}
	clear(c.queue)
	c.queue, c.queued = c.one[:0], 0
}

// CloseWrite sends FIN behind what is queued, and behind a Write under way. It does not wait.
func (c *loopConn) CloseWrite() error {
	switch {
	case c.is(closed):
		return ErrClosed
	case c.writeErr != nil:
		return c.writeErr
	}
	c.state |= noMore
	if c.queued == 0 && !c.is(partial) {
		c.sendFin()
	}
	return nil
}

func (c *loopConn) sendFin() {
	if !c.is(finSent | closed) {
		c.state |= finSent
		unix.Shutdown(int(c.fd), unix.SHUT_WR)
	}
}

func (c *loopConn) Queued() int { return c.queued }

func (c *loopConn) OnDrain(f func()) { c.onDrain = f }
