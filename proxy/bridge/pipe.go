package bridge

import (
	"io"
	"sync"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// maxPipe is the number of bytes that a pipe holds before its writer waits.
const maxPipe = 128 << 10

// maxChunks bounds the chunks of a pipe, which may be small: then, too, its writer waits.
const maxChunks = 64

// chunk is what a pipe holds its bytes in. It belongs to the side that has it in hand.
type chunk struct {
	b    [task.BufferSize]byte
	r, w int
}

var _ proxy.Body = (*pipe)(nil)

// pipe carries bytes from a task of one shard to a task of another. As a Body it is used by the reading side.
type pipe struct {
	// Static after construction.
	chunks *sync.Pool // of *chunk

	mu       sync.Mutex // never held over a wait or a call
	queue    []*chunk   // oldest first
	size     int        // bytes in queue
	end      error      // io.EOF or why it broke; nil while it is open
	trailers proxy.Fields
	gone     error // why the reader has left
	left     bool  // it left before the end
	taken    bool  // the reader has asked for something
	demand   func()
	reader   side
	writer   side
}

// side is one end of a pipe or a queue. Its shard is that of the task that waits there. Guarded by the mutex of what it is an end of, save gate.
type side struct {
	shard   task.Shard
	gate    task.Gate // used by tasks of shard
	wake    func()    // nil until the side has waited
	waiting bool
}

// prepare is called by a task of s.shard that is about to wait, with the mutex held.
func (s *side) prepare() {
	if s.wake == nil {
		s.shard.Gate(&s.gate)
		s.wake = task.Waker(s.shard, &s.gate)
	}
	s.waiting = true
}

// rouse returns what wakes a waiting side, to be called without the mutex; nil if nobody waits.
func (s *side) rouse() func() {
	if !s.waiting {
		return nil
	}
	s.waiting = false
	return s.wake
}

func call(f func()) {
	if f != nil {
		f()
	}
}

// tell calls wake, which wakes the other side, if there is one, in a task or callback of s.shard.
func (s *side) tell(wake func()) {
	if wake != nil {
		wake()
		task.HandOver(s.shard)
	}
}

func newPipe(chunks *sync.Pool, from, to task.Shard) *pipe {
	return &pipe{chunks: chunks, reader: side{shard: to}, writer: side{shard: from}}
}

// Read waits for at least one byte, the end, or the error that broke the pipe.
func (p *pipe) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	p.mu.Lock()
	p.await()
	n := 0
	for n < len(b) && len(p.queue) > 0 {
		c := p.queue[0]
		m := copy(b[n:], c.b[c.r:c.w])
		c.r += m
		n += m
		if c.r == c.w {
			p.drop()
		}
	}
	p.size -= n
	err := p.end
	if p.gone != nil {
		err = p.gone
	}
	var wake func()
	if p.size <= maxPipe/2 && len(p.queue) <= maxChunks/2 {
		wake = p.writer.rouse()
	}
	p.mu.Unlock()
	p.reader.tell(wake)
	if n > 0 {
		return n, nil
	}
	return 0, err
}

// drop gives the oldest chunk back. mu is held.
func (p *pipe) drop() {
	c := p.queue[0]
	p.queue[0] = nil
	p.queue = p.queue[1:]
	c.r, c.w = 0, 0
	p.chunks.Put(c)
}

// await waits until there is something to be read. mu is held, but not while it waits.
func (p *pipe) await() {
	p.taken = true
	for len(p.queue) == 0 && p.end == nil && p.gone == nil {
		p.reader.prepare()
		demand := p.demand
		p.demand = nil
		p.mu.Unlock()
		call(demand)
		p.reader.gate.Wait(0)
		p.mu.Lock()
	}
	p.reader.waiting = false
}

// WaitReadable waits until Read would not wait.
func (p *pipe) WaitReadable() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.await()
	switch {
	case p.gone != nil:
		return p.gone
	case len(p.queue) > 0 || p.end == io.EOF:
		return nil
	}
	return p.end
}

// Buffered is what Read would return without waiting, -1 at the end.
func (p *pipe) Buffered() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 && p.end == io.EOF && p.gone == nil {
		return -1
	}
	return p.size
}

// Trailers are there after io.EOF.
func (p *pipe) Trailers() proxy.Fields {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trailers
}

// Truncated is why the writer ended early, nil if it did not, or the reader left before.
func (p *pipe) Truncated() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.end == io.EOF || p.left {
		return nil
	}
	return p.end
}

// Close abandons what is unread: the writer finds nobody.
func (p *pipe) Close() error {
	p.leave(task.ErrClosed)
	return nil
}

// leave is the reader's end, for the reason err. Idempotent. What is buffered is dropped.
func (p *pipe) leave(err error) {
	p.mu.Lock()
	if p.gone == nil {
		p.gone, p.left = err, p.end == nil
	}
	for len(p.queue) > 0 {
		p.drop()
	}
	p.size, p.demand = 0, nil
	w, r := p.writer.rouse(), p.reader.rouse()
	p.mu.Unlock()
	call(w)
	call(r)
}

// finish is the writer's end: io.EOF, or why it broke, which also drops what is buffered. Only the first call counts.
func (p *pipe) finish(err error, trailers proxy.Fields) {
	p.mu.Lock()
	if p.end == nil {
		p.end, p.trailers = err, trailers
	}
	if err != io.EOF {
		p.end = err
		for len(p.queue) > 0 {
			p.drop()
		}
		p.size = 0
	}
	w, r := p.writer.rouse(), p.reader.rouse()
	p.mu.Unlock()
	call(w)
	call(r)
}

// room waits until the pipe takes more. Its error says why it never will.
func (p *pipe) room() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.size >= maxPipe || len(p.queue) >= maxChunks {
		if err := p.closedLocked(); err != nil {
			return err
		}
		p.writer.prepare()
		p.mu.Unlock()
		p.writer.gate.Wait(0)
		p.mu.Lock()
	}
	p.writer.waiting = false
	return p.closedLocked()
}

// closedLocked says why nothing can be written, or nil.
func (p *pipe) closedLocked() error {
	switch {
	case p.gone != nil:
		return p.gone
	case p.end == io.EOF:
		return io.ErrClosedPipe
	}
	return p.end
}

// push hands c over to the reader. The caller has seen room.
func (p *pipe) push(c *chunk) error {
	p.mu.Lock()
	err := p.closedLocked()
	if err != nil || c.w == 0 {
		p.mu.Unlock()
		c.r, c.w = 0, 0
		p.chunks.Put(c)
		return err
	}
	p.size += c.w
	if last := len(p.queue) - 1; last >= 0 && c.w <= len(c.b)-p.queue[last].w { // many small pieces share a chunk
		t := p.queue[last]
		t.w += copy(t.b[t.w:], c.b[:c.w])
		c.w = 0
		p.chunks.Put(c)
	} else {
		p.queue = append(p.queue, c)
	}
	r := p.reader.rouse()
	p.mu.Unlock()
	p.writer.tell(r)
	return nil
}

// Write waits until all of b is in the pipe.
func (p *pipe) Write(b []byte) (int, error) {
	n := 0
	for {
		if err := p.room(); err != nil {
			return n, err
		}
		if n == len(b) {
			return n, nil
		}
		c := p.chunk()
		c.w = copy(c.b[:], b[n:])
		m := c.w
		if err := p.push(c); err != nil {
			return n, err
		}
		if n += m; n == len(b) {
			return n, nil
		}
	}
}

// offer writes head and body without waiting, or nothing.
func (p *pipe) offer(head, body []byte) (bool, error) {
	p.mu.Lock()
	err := p.closedLocked()
	room := p.size+len(head)+len(body) <= maxPipe && len(p.queue) < maxChunks
	p.mu.Unlock()
	if err != nil || !room {
		return false, err
	}
	for _, b := range [][]byte{head, body} { // nobody else writes, so the room stays
		for len(b) > 0 {
			c := p.chunk()
			c.w = copy(c.b[:], b)
			b = b[c.w:]
			if err := p.push(c); err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

func (p *pipe) chunk() *chunk {
	c, _ := p.chunks.Get().(*chunk)
	if c == nil {
		c = new(chunk)
	}
	return c
}

// source is a Body or a Stream as what a pipe is filled from.
type source interface{ Read(p []byte) (int, error) }

// step moves one piece of src to the pipe. It holds no chunk while src has nothing, where src is a proxy.Waiter.
func (p *pipe) step(src source) error {
	if err := p.room(); err != nil {
		return err
	}
	if w, ok := src.(proxy.Waiter); ok {
		if err := w.WaitReadable(); err != nil {
			return err
		}
	}
	c := p.chunk()
	whole := false
	defer func() {
		if !whole { // a panic: the task is being unwound
			p.chunks.Put(c)
		}
	}()
	n, err := src.Read(c.b[:])
	c.w = n
	whole = true
	if perr := p.push(c); perr != nil {
		return perr
	}
	return err
}

// fill moves all of src to the pipe, and returns io.EOF, or what stopped it.
func (p *pipe) fill(src source) error {
	for {
		if err := p.step(src); err != nil {
			return err
		}
	}
}
