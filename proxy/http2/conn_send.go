package http2

import "github.com/pillion-proxy/pillion/proxy/task"

const (
	flushSize  = 64 << 10 // bytes in the buffer that are pushed without waiting for the end of the turn
	slabSize   = flushSize + 2*turnSize
	turnSize   = 16 << 10 // bytes of one stream before another's
	smallSend  = 1 << 10  // bytes that count as small whatever their stream has sent before
	maxQueued  = 64 << 10 // bytes in the Transport's queue at which streams wait
	maxBacklog = 1 << 20  // bytes of control frames that a peer may leave unread
)

// sendQueue is a list of streams with something to send, oldest first.
type sendQueue struct{ head, tail *stream }

func (q *sendQueue) push(st *stream) {
	st.queue, st.next = q, nil
	if q.tail == nil {
		q.head = st
	} else {
		q.tail.next = st
	}
	q.tail = st
}

func (q *sendQueue) pop() *stream {
	st := q.head
	if st == nil {
		return nil
	}
	q.head = st.next
	if q.head == nil {
		q.tail = nil
	}
	st.queue, st.next = nil, nil
	return st
}

// dequeue takes st out of the queue that it is in, if any.
func (st *stream) dequeue() {
	q := st.queue
	if q == nil {
		return
	}
	var before *stream
	for x := q.head; x != st; x = x.next {
		before = x
	}
	if before == nil {
		q.head = st.next
	} else {
		before.next = st.next
	}
	if q.tail == st {
		q.tail = before
	}
	st.queue, st.next = nil, nil
}

// ready makes sure that out has memory. Whoever appends to out calls it first and kick afterwards. The lock is held.
func (c *Conn) ready() {
	if c.out == nil {
		c.outBuf = c.s.Buffer()
		c.out = c.outBuf.B[:0]
	}
}

// grow makes room for n bytes: beyond a Buffer in a slab that holds whatever a turn may append of DATA, and that the connection
// keeps while it has use for it.
func (c *Conn) grow(n int) {
	c.ready()
	if cap(c.out)-len(c.out) >= n || c.outBuf == nil {
		return
	}
	slab := c.slab
	c.slab, c.slabUsed = nil, true
	if slab == nil {
		slab = make([]byte, 0, slabSize)
	}
	slab = append(slab[:0], c.out...)
	c.s.Free(c.outBuf)
	c.out, c.outBuf = slab, nil
}

// letGo gives memory of out back.
func (c *Conn) letGo(p []byte, buf *task.Buffer) {
	if buf != nil {
		c.s.Free(buf)
	} else if cap(p) <= 2*slabSize {
		c.slab = p[:0]
	}
}

func (c *Conn) kick() { c.batch.Kick() }

// room waits until the Transport takes more, so that heads do not pile up before a peer that does not read. It returns the
// stream's error if that ends meanwhile. The lock is held.
func (c *Conn) room(st *stream, deadline task.Instant) error {
	for c.full() && !st.over {
		if !c.awaitRoom(st, deadline) {
			c.end(st, errDeadline, ErrCancel, tell)
		}
	}
	st.dequeue()
	if st.over {
		return st.writeErr()
	}
	return nil
}

// full reports whether heads have to wait. What fills the buffer is pushed at once, while the lock is not held.
func (c *Conn) full() bool {
	if !c.blocked && len(c.out) >= flushSize {
		c.unlock()
		c.flush()
		c.s.Lock()
	}
	return c.blocked || len(c.out) >= flushSize
}

// awaitRoom lets st wait in line until callHeads calls it, or something ends it. It returns false once deadline has passed. The lock is held.
func (c *Conn) awaitRoom(st *stream, deadline task.Instant) bool {
	if st.queue == nil {
		c.heads.push(st)
	}
	c.kick()
	inTime := c.wait(st, &st.sendGate, deadline)
	if st.called {
		st.called = false
		c.called--
	}
	c.kick() // whatever st does now, it may be the turn of the next
	return inTime
}

// leastHead bounds from below, in bytes, what a head and what follows it are taken to be.
const leastHead = 64

// callHeads wakes those who have waited longest for room for a head: no more of them than the buffer will probably hold, since whoever finds it
// full again has been woken in vain, and with thousands in line that would be most of the work. The lock is held.
func (c *Conn) callHeads() {
	each := max(leastHead, c.headSize)
	for room := flushSize - len(c.out) - c.called*each; room > 0 && !c.blocked && c.heads.head != nil; room -= each {
		st := c.heads.pop()
		st.called = true
		c.called++
		st.sendGate.Wake()
	}
}

// measureHeads learns from what is about to be pushed, n bytes, how much follows a head.
func (c *Conn) measureHeads(n int) {
	if c.headsOut > 0 {
		c.headSize += (n/c.headsOut - c.headSize) / 4
		c.headsOut = 0
	}
}

// writeErr is what a writer gets on a stream that is over or whose half is closed.
func (st *stream) writeErr() error {
	if st.err != nil {
		return st.err
	}
	return task.ErrClosed
}

// send appends p as DATA, ended by END_STREAM if end, and returns once all of it is in the connection's buffer.
func (c *Conn) send(st *stream, p []byte, end bool, deadline task.Instant) (int, error) {
	c.s.Lock()
	defer c.unlock()
	if st.over || st.outEnd {
		if end && len(p) == 0 && st.err == nil {
			return 0, nil
		}
		return 0, st.writeErr()
	}
	st.pend, st.pendEnd = p, end
	if len(p) == 0 {
		if end {
			c.emit(st, 0)
			c.kick()
		}
		return 0, nil
	}
	if !c.blocked && len(c.out) < flushSize {
		if c.small.head == nil && c.bulk.head == nil {
			c.emit(st, max(turnSize, flushSize-len(c.out)))
		} else if st.isSmall() {
			c.emit(st, turnSize)
		}
	}
	c.kick()
	for len(st.pend) > 0 && !st.over {
		if st.queue == nil {
			c.enqueue(st)
		}
		if !c.wait(st, &st.sendGate, deadline) {
			c.end(st, errDeadline, ErrCancel, tell)
		}
	}
	n := len(p) - len(st.pend)
	st.pend = nil
	st.dequeue()
	c.stalls.Stream.end(&st.stalled, c.s)
	if n < len(p) {
		return n, st.writeErr()
	}
	return n, nil
}

// isSmall reports whether what st has to send goes before bulk data: the first 16 KiB of a stream, and single small writes.
func (st *stream) isSmall() bool {
	return st.sent+int64(len(st.pend)) <= turnSize || len(st.pend) <= smallSend
}

// enqueue lets st wait for its turn; a stream without window waits for that first.
func (c *Conn) enqueue(st *stream) {
	switch {
	case st.sendWin <= 0:
		c.stalls.Stream.begin(&st.stalled, c.s)
	case st.isSmall():
		c.small.push(st)
	default:
		c.bulk.push(st)
	}
}

// emit appends up to max bytes of what st has to send, as far as the windows go. The lock is held.
func (c *Conn) emit(st *stream, max int) {
	for {
		n := min(int64(len(st.pend)), int64(max), st.sendWin, c.sendWin, int64(c.maxFrame), turnSize)
		if n <= 0 && len(st.pend) > 0 {
			return
		}
		max -= int(n)
		var flags uint8
		if st.pendEnd && int(n) == len(st.pend) {
			flags = flagEndStream
		}
		c.grow(frameHeaderLen + int(n))
		c.out = appendFrameHeader(c.out, int(n), frameData, flags, st.id)
		c.out = append(c.out, st.pend[:n]...)
		st.pend = st.pend[n:]
		st.sent += n
		st.sendWin -= n
		c.sendWin -= n
		c.limits.sent++
		if flags != 0 {
			st.pendEnd = false
			c.sentEnd(st)
		}
		if len(st.pend) == 0 {
			return
		}
	}
}

// schedule takes turns between the waiting streams until the buffer is full, windows or streams are
// used up. Small sends go first, but a bulk stream has one turn in each call. The lock is held.
func (c *Conn) schedule() {
	c.callHeads()
	c.takeTurns()
	if c.sendWin <= 0 && (c.small.head != nil || c.bulk.head != nil) {
		c.stalls.Conn.begin(&c.stalledConn, c.s)
	}
}

func (c *Conn) takeTurns() {
	for c.sendWin > 0 && !c.blocked && len(c.out) < flushSize {
		st := c.small.pop()
		if st == nil {
			break
		}
		c.turn(st)
	}
	for c.sendWin > 0 && !c.blocked {
		st := c.bulk.pop()
		if st == nil {
			return
		}
		c.turn(st)
		if len(c.out) >= flushSize {
			return
		}
	}
}

// turn lets st send 16 KiB. Its writer goes on once all is sent.
func (c *Conn) turn(st *stream) {
	c.emit(st, turnSize)
	switch {
	case len(st.pend) == 0:
		st.sendGate.Wake()
	case st.sendWin > 0:
		c.bulk.push(st)
	default:
		c.stalls.Stream.begin(&st.stalled, c.s)
	}
}

// sendable reports whether schedule could do something.
func (c *Conn) sendable() bool {
	return !c.blocked && (c.heads.head != nil || c.sendWin > 0 && (c.small.head != nil || c.bulk.head != nil))
}

// flush is the Batch: it pushes what the turn has appended, and what waiting streams may send.
func (c *Conn) flush() {
	c.s.Lock()
	if c.flushing {
		c.flushAgain = true
		c.unlock()
		return
	}
	c.flushing = true
	for !c.shut {
		c.flushAgain = false
		c.schedule()
		if len(c.out) == 0 {
			break
		}
		if !c.push() {
			break
		}
		if !c.flushAgain && len(c.out) == 0 && !c.sendable() {
			break
		}
	}
	c.flushing = false
	shut := c.closing && !c.shut
	c.shut = c.shut || shut
	if c.out != nil && (c.shut || len(c.out) == 0 && c.streams.len() == 0) {
		c.letGo(c.out, c.outBuf)
		c.out, c.outBuf = nil, nil
	}
	c.unlock()
	if shut {
		c.t.Close()
	}
}

// push hands the buffer to the Transport, outside the lock, and reports whether that worked.
func (c *Conn) push() bool {
	p, buf := c.out, c.outBuf
	c.out, c.outBuf = nil, nil
	c.pushes++
	c.measureHeads(len(p))
	c.unlock()
	err := c.t.Push(p)
	c.s.Lock()
	queued := c.t.Queued() // under the lock: what is queued now is told of by a drained that comes after
	c.bytesOut += uint64(len(p))
	if c.out == nil {
		c.out, c.outBuf = p[:0], buf
	} else {
		c.letGo(p, buf)
	}
	if err != nil {
		c.fail(err)
		return false
	}
	if queued > maxBacklog {
		c.fail(&ConnError{Code: ErrEnhanceYourCalm, Reason: "too much unread by the peer"})
		return false
	}
	if c.blocked = queued >= maxQueued; c.blocked {
		c.stalls.Line.begin(&c.stalledLine, c.s)
	}
	return true
}

// drained is told by the Transport that its queue was empty. Where it has filled again since, another word will come.
func (c *Conn) drained() {
	c.s.Lock()
	if c.t.Queued() >= maxQueued {
		c.unlock()
		return
	}
	c.blocked = false
	c.stalls.Line.end(&c.stalledLine, c.s)
	c.kick()
	c.unlock()
}
