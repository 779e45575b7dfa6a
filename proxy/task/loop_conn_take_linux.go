package task

// Take has b sent with those of other connections, when the tasks of the turn have run: the kernel's way of sending, once it is in the
// processor's caches, costs less each time.
func (c *loopConn) Take(b *Buffer) bool {
	const no = partial | closed | noMore
	if c.state&no != 0 || !c.is(writable) || c.writeErr != nil || c.queued > 0 && !c.is(later) || len(b.B) != BufferSize {
		return false
	}
	c.l.count.buffers-- // the queue's are not counted
	c.queue = append(c.queue, b)
	c.queued += b.W - b.R
	if !c.is(later) {
		c.state |= later
		c.l.late = append(c.l.late, c)
	}
	return true
}

// sendLate sends what has been taken in this turn.
func (l *loop) sendLate() {
	for l.lateAt < len(l.late) {
		c := l.late[l.lateAt]
		l.late[l.lateAt] = nil
		l.lateAt++
		c.state &^= later
		if c.fd >= 0 && c.queued > 0 && !c.is(partial) {
			c.flush()
		}
	}
	l.late, l.lateAt = l.late[:0], 0
}
