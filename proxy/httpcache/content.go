package httpcache

import (
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

const (
	firstChunk = 4 << 10  // of a content whose length is not known
	maxChunk   = 64 << 10 // bytes
)

// content is the bytes of an answer: one task writes them, while readers on any shard follow, and once it is complete it never changes.
//
// States: filling, and then complete or broken. A filling content that has become too large to be kept is windowed: what all its readers have had is
// let go, and the writer waits for the slowest of them.
type content struct {
	complete atomic.Bool // set last: then all but readers is immutable, and needs no lock

	mu       sync.Mutex // never held over a wait
	chunks   [][]byte
	dropped  int // chunks that were let go in front of chunks[0]
	n        int64
	done     bool
	err      error // why it broke
	trailers proxy.Fields
	readers  []*reader
	windowed bool
	writer   *waiter // waits for readers, or for nothing
	left     func()  // called when the last reader of a filling content has left, without the lock
}

// newContent has room for a content of this length, which may be proxy.Unknown.
func newContent(length int64) *content {
	c := &content{}
	if length > 0 {
		c.chunks = append(c.chunks, make([]byte, 0, min(length, maxChunk)))
	}
	return c
}

// room returns where the writer may put further bytes. Only the writer calls it; left is how many it still expects, or proxy.Unknown.
func (c *content) room(left int64) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.chunks); n > 0 {
		if last := c.chunks[n-1]; len(last) < cap(last) {
			return last[len(last):cap(last)]
		}
	}
	size := int64(firstChunk)
	switch {
	case left > 0:
		size = min(left, maxChunk)
	case c.n > firstChunk:
		size = min(c.n, maxChunk)
	}
	chunk := make([]byte, 0, size)
	c.chunks = append(c.chunks, chunk)
	return chunk[:size]
}

// wrote says that the first n bytes of room are there.
func (c *content) wrote(n int, here task.Shard) {
	c.mu.Lock()
	last := len(c.chunks) - 1
	c.chunks[last] = c.chunks[last][:len(c.chunks[last])+n]
	c.n += int64(n)
	c.wakeLocked(here)
	c.mu.Unlock()
}

// append copies p, for a writer that has the bytes already.
func (c *content) append(p []byte, left int64, here task.Shard) {
	for len(p) > 0 {
		n := copy(c.room(left), p)
		c.wrote(n, here)
		p = p[n:]
		if left > 0 {
			left -= int64(n)
		}
	}
}

// finish ends the writing: with nil the content is complete, else it is broken, and so is what its readers pass on.
func (c *content) finish(trailers proxy.Fields, err error, here task.Shard) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return
	}
	c.done, c.err, c.trailers = true, err, trailers
	if err == nil && !c.windowed {
		c.trimLocked()
		c.complete.Store(true)
	}
	c.wakeLocked(here)
	c.left = nil
}

// whole is what c will be with the next n bytes of room, and with nothing after them. It shares c's bytes.
func (c *content) whole(n int, trailers proxy.Fields) *content {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := &content{chunks: slices.Clone(c.chunks), n: c.n + int64(n), done: true, trailers: trailers}
	if n > 0 {
		last := len(w.chunks) - 1
		w.chunks[last] = w.chunks[last][:len(w.chunks[last])+n]
	}
	w.trimLocked()
	w.complete.Store(true)
	return w
}

// become makes c the same as w, which it is the beginning of.
func (c *content) become(w *content, here task.Shard) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return
	}
	c.chunks, c.n, c.trailers, c.done, c.left = w.chunks, w.n, w.trailers, true, nil
	c.complete.Store(true)
	c.wakeLocked(here)
}

// trimLocked gives back the room of the last chunk that nothing came to fill.
func (c *content) trimLocked() {
	n := len(c.chunks)
	if n == 0 {
		return
	}
	last := c.chunks[n-1]
	switch {
	case len(last) == 0:
		c.chunks = c.chunks[:n-1]
	case cap(last)-len(last) > len(last)/8:
		c.chunks[n-1] = append(make([]byte, 0, len(last)), last...)
	}
}

// wakeLocked wakes the readers that wait. here is the shard on which it is called.
func (c *content) wakeLocked(here task.Shard) {
	for _, r := range c.readers {
		if r.waiting {
			r.waiting = false
			r.w.wake(here)
		}
	}
}

// held is what the content takes up, in bytes: the room, not what is in it.
func (c *content) held() int64 {
	n := int64(0)
	for _, chunk := range c.chunks {
		n += int64(cap(chunk)) + 24
	}
	return n
}

// window makes c let go what all have read.
func (c *content) window() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.windowed = true
	c.dropLocked()
}

// dropLocked lets the chunks go that no reader will read.
func (c *content) dropLocked() {
	least := c.dropped + len(c.chunks)
	for _, r := range c.readers {
		least = min(least, r.chunk)
	}
	if n := least - c.dropped; n > 0 {
		clear(c.chunks[:n])
		c.chunks = c.chunks[n:]
		c.dropped = least
	}
}

// lagging reports whether the slowest reader is more than most bytes behind. If so, w is woken when one has read on.
func (c *content) lagging(most int64, w *waiter) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	behind := int64(0)
	for _, r := range c.readers {
		behind = max(behind, c.n-r.read)
	}
	c.writer = nil
	if behind > most {
		c.writer = w
		return true
	}
	return false
}

// readerCount is how many read.
func (c *content) readerCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.readers)
}

// next returns the bytes that a reader of a filling content has before it, and registers it to be woken if there are none. It is called without the lock.
func (c *content) next(r *reader) (p []byte, wait bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at := r.chunk - c.dropped; at < len(c.chunks); at++ {
		if chunk := c.chunks[at]; r.off < len(chunk) {
			return chunk[r.off:], false, nil
		} else if len(chunk) < cap(chunk) && !c.done {
			break // more will come into this one
		}
		if at+1 == len(c.chunks) && !c.done {
			break
		}
		r.chunk, r.off = r.chunk+1, 0
	}
	if c.done {
		if c.err != nil {
			return nil, false, c.err
		}
		return nil, false, io.EOF
	}
	r.waiting = true
	return nil, true, nil
}

// advanced is called by a reader of a filling content that has read on.
func (c *content) advanced(r *reader, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.read += int64(n)
	r.off += n
	if c.windowed {
		c.dropLocked()
	}
	if c.writer != nil {
		c.writer.wake(r.w.shard)
		c.writer = nil
	}
}

// broke returns why c will never be whole.
func (c *content) broke() error {
	if c.complete.Load() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// join adds a reader, from the beginning. It returns false if that is not there any more.
func (c *content) join(r *reader) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dropped > 0 || c.done && c.err != nil {
		return false
	}
	c.readers = append(c.readers, r)
	return true
}

// leave removes a reader.
func (c *content) leave(r *reader) {
	c.mu.Lock()
	for i := range c.readers {
		if c.readers[i] == r {
			last := len(c.readers) - 1
			c.readers[i], c.readers[last] = c.readers[last], nil
			c.readers = c.readers[:last]
			break
		}
	}
	if c.windowed {
		c.dropLocked()
	}
	if c.writer != nil {
		c.writer.wake(r.w.shard)
		c.writer = nil
	}
	var left func()
	if len(c.readers) == 0 && !c.done {
		left = c.left
	}
	c.mu.Unlock()
	if left != nil {
		left()
	}
}
