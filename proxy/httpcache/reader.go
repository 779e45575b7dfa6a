package httpcache

import (
	"io"
	"sync"
	"sync/atomic"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// waiter lets one task wait for what happens on any shard.
type waiter struct {
	shard task.Shard
	gate  task.Gate
	far   func()
}

func newWaiter(s task.Shard) *waiter {
	w := &waiter{shard: s}
	s.Gate(&w.gate)
	w.far = task.Waker(s, &w.gate)
	return w
}

// wake is called on the shard here, or by nobody's shard with nil.
func (w *waiter) wake(here task.Shard) {
	if here != nil && here == w.shard {
		w.gate.Wake()
		return
	}
	w.far()
}

// reader is the Body of an answer from the cache: a content, or a part of it.
type reader struct {
	c     *content
	given atomic.Int64 // bytes
	left  int64        // bytes still to be given; proxy.Unknown: to the end
	skip  int64        // bytes to pass over first

	// Of a complete content.
	chunk, off int

	// Of a filling one; w is nil for a complete one. Guarded by the content's lock.
	w       *waiter
	waiting bool
	read    int64

	cancel   *proxy.Cancel
	canceled bool // guarded by the content's lock
	closed   bool
	trailers bool // the part goes to the end, so that the trailers belong to it

	pool *sync.Pool
}

// open prepares r to read n bytes of c from the offset first on; n may be proxy.Unknown. It returns false if c cannot be read any more.
func (r *reader) open(c *content, first, n int64, req *proxy.Request) bool {
	r.c, r.left, r.chunk, r.off, r.closed = c, n, 0, 0, false
	r.given.Store(0)
	if c.complete.Load() {
		r.seek(first)
		return true
	}
	r.skip, r.read = first, 0
	r.w = newWaiter(req.Shard)
	if !c.join(r) {
		return false
	}
	r.cancel = req.Cancel
	if r.cancel != nil {
		if _, err := r.cancel.Watch(r); err != nil {
			r.canceled = true
		}
	}
	return true
}

// seek goes to an offset of a complete content.
func (r *reader) seek(first int64) {
	for r.chunk < len(r.c.chunks) && first >= int64(len(r.c.chunks[r.chunk])) {
		first -= int64(len(r.c.chunks[r.chunk]))
		r.chunk++
	}
	r.off = int(first)
}

// Canceled implements proxy.Canceled: the client has left.
func (r *reader) Canceled(error) {
	r.c.mu.Lock()
	r.canceled = true
	r.c.mu.Unlock()
	r.w.wake(nil)
}

// Read implements proxy.Body.
func (r *reader) Read(p []byte) (int, error) {
	switch {
	case r.left == 0:
		return 0, io.EOF
	case r.closed:
		return 0, errClosed
	case r.left > 0 && int64(len(p)) > r.left:
		p = p[:r.left]
	}
	if r.w != nil {
		return r.follow(p)
	}
	n := 0
	for n < len(p) && r.chunk < len(r.c.chunks) {
		chunk := r.c.chunks[r.chunk]
		m := copy(p[n:], chunk[r.off:])
		n += m
		if r.off += m; r.off == len(chunk) {
			r.chunk, r.off = r.chunk+1, 0
		}
	}
	r.gave(n)
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (r *reader) gave(n int) {
	if r.left > 0 {
		r.left -= int64(n)
	}
	r.given.Add(int64(n))
}

// follow reads from a content that is being written.
func (r *reader) follow(p []byte) (int, error) {
	for {
		chunk, wait, err := r.c.next(r)
		switch {
		case err != nil:
			return 0, err
		case wait:
			if r.gone() {
				return 0, errGone
			}
			r.w.gate.Wait(0)
		case r.skip > 0:
			n := min(r.skip, int64(len(chunk)))
			r.skip -= n
			r.c.advanced(r, int(n))
		default:
			n := copy(p, chunk)
			r.c.advanced(r, n)
			r.gave(n)
			return n, nil
		}
	}
}

func (r *reader) gone() bool {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	return r.canceled
}

// Buffered implements proxy.Body.
func (r *reader) Buffered() int {
	if r.left == 0 {
		return -1
	}
	if r.w != nil {
		return r.ahead()
	}
	n := 0
	for i := r.chunk; i < len(r.c.chunks); i++ {
		n += len(r.c.chunks[i])
	}
	n -= r.off
	if r.left > 0 {
		n = int(min(int64(n), r.left))
	}
	if n == 0 {
		return -1
	}
	return n
}

// ahead is Buffered of a content that is being written.
func (r *reader) ahead() int {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	n := r.c.n - r.read - r.skip
	if n <= 0 {
		if r.c.done && r.c.err == nil && r.skip == 0 {
			return -1
		}
		return 0
	}
	if r.left > 0 {
		n = min(n, r.left)
	}
	return int(n)
}

// Count implements proxy.Counter: what has been read.
func (r *reader) Count() int64 { return r.given.Load() }

// Trailers implements proxy.Body.
func (r *reader) Trailers() proxy.Fields {
	if !r.trailers {
		return nil
	}
	if r.w == nil {
		return r.c.trailers
	}
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	return r.c.trailers
}

// Truncated implements proxy.Truncater.
func (r *reader) Truncated() error {
	if r.w == nil {
		return nil
	}
	return r.c.broke()
}

// Close implements proxy.Body.
func (r *reader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	if r.w != nil {
		if r.cancel != nil {
			r.cancel.Unwatch(r)
		}
		r.c.leave(r)
	}
	return nil
}

// CloseResponse implements proxy.ResponseCloser. A reader of a complete content is used again; of the others another shard may still know.
func (r *reader) CloseResponse(*proxy.Response) {
	_ = r.Close()
	if r.w == nil && r.pool != nil {
		r.c, r.cancel = nil, nil
		r.pool.Put(r)
	}
}

var (
	errClosed error = &proxy.Error{Code: proxy.Internal, Detail: "the answer is read after its end"}
	errGone   error = &proxy.Error{Code: proxy.ClientGone, Detail: "the client left before its answer was complete"}
)
