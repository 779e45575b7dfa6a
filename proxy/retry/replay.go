package retry

import (
	"errors"
	"io"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// replay reads a request's body once and keeps it, so that it can be sent again. Each attempt reads a bodyView of its own; that of
// an attempt that failed may still be read for a while by who sends it.
type replay struct {
	// Static after construction.
	s     task.Shard
	src   proxy.Body
	limit int
	shard *shardState

	inner proxy.ResponseCloser // of the answer

	// Guarded by the shard's lock.
	first   []byte         // the first bytes
	chunks  []*task.Buffer // those after them
	kept    int            // bytes of both
	total   int            // bytes that were read from src
	ended   error          // what src said last; nil while it goes on
	settled bool           // nothing is kept from now on
	freed   bool           // and what was kept is gone
	reading bool           // somebody is in a method of src
	gate    task.Gate      // for the present view, while an earlier one is in src
	now     *bodyView
}

// firstSize is how many bytes are kept beside the replay itself; beyond come pooled buffers.
const firstSize = 2 << 10

var (
	errOld  = errors.New("the body belongs to another attempt now")
	errGone = errors.New("the body was sent before and is not kept")
)

// newReplay wraps req.Body; the caller puts it back.
func newReplay(req *proxy.Request, shard *shardState, limit int) *replay {
	if req.Length > int64(limit) {
		limit = 0
	}
	r := &replay{s: req.Shard, src: req.Body, limit: limit, shard: shard}
	r.s.Gate(&r.gate)
	return r
}

// view returns the body for the next attempt; the one before ends.
func (r *replay) view() *bodyView {
	r.s.Lock()
	defer r.s.Unlock()
	v := &bodyView{r: r}
	r.now = v
	return v
}

// whole reports whether another attempt can have the body from its beginning.
func (r *replay) whole() bool {
	r.s.Lock()
	defer r.s.Unlock()
	return r.kept == r.total && (r.ended == nil || r.ended == io.EOF)
}

// settle ends the keeping: there is the answer that is passed on, or the error. A nil r does nothing.
func (r *replay) settle(resp *proxy.Response, err error) {
	if r == nil {
		return
	}
	r.s.Lock()
	r.settled = true
	if err == nil && r.now.at < r.kept { // still being sent
		r.s.Unlock()
		r.inner = resp.Closer()
		resp.OnClose(r)
		return
	}
	r.freeLocked()
	r.s.Unlock()
}

// CloseResponse implements proxy.ResponseCloser.
func (r *replay) CloseResponse(resp *proxy.Response) {
	if r.inner != nil {
		r.inner.CloseResponse(resp)
	}
	r.s.Lock()
	r.freeLocked()
	r.s.Unlock()
}

func (r *replay) freeLocked() {
	r.freed = true
	for _, b := range r.chunks {
		r.s.Free(b)
	}
	r.shard.held -= r.kept
	r.first, r.chunks, r.kept = nil, nil, 0
}

// keepLocked adds p to what is kept, if it is still whole and there is room.
func (r *replay) keepLocked(p []byte) {
	if r.settled || r.kept != r.total || r.kept+len(p) > r.limit || r.shard.held+len(p) > maxHeld {
		return
	}
	r.kept += len(p)
	r.shard.held += len(p)
	if r.first == nil {
		r.first = make([]byte, 0, min(firstSize, max(len(p), 256)))
	}
	if room := firstSize - len(r.first); room > 0 {
		n := min(room, len(p))
		r.first = append(r.first, p[:n]...)
		p = p[n:]
	}
	for len(p) > 0 {
		var b *task.Buffer
		if i := len(r.chunks) - 1; i >= 0 && r.chunks[i].W < len(r.chunks[i].B) {
			b = r.chunks[i]
		} else {
			b = r.s.Buffer()
			b.R, b.W = 0, 0
			r.chunks = append(r.chunks, b)
		}
		n := copy(b.B[b.W:], p)
		b.W += n
		p = p[n:]
	}
}

// copyLocked copies what is kept from at on.
func (r *replay) copyLocked(p []byte, at int) (n int) {
	if at < len(r.first) {
		n = copy(p, r.first[at:])
	}
	at += n - len(r.first)
	for _, b := range r.chunks {
		if n == len(p) {
			break
		}
		if at < b.W {
			m := copy(p[n:], b.B[at:b.W])
			n, at = n+m, at+m
		}
		at -= b.W
	}
	return n
}

// bodyView is the body as one attempt reads it.
type bodyView struct {
	r  *replay
	at int // guarded by the shard's lock
}

// stateLocked says what a read meets: kept bytes, an end, or neither.
func (v *bodyView) stateLocked() (kept int, end error) {
	r := v.r
	switch {
	case r.now != v:
		return 0, errOld
	case v.at < r.kept:
		return r.kept - v.at, nil
	case v.at < r.total:
		return 0, errGone
	}
	return 0, r.ended
}

// enter waits until v may use src, or until there is no need to: then it returns false.
func (v *bodyView) enter() bool {
	r := v.r
	r.s.Lock()
	for {
		if kept, end := v.stateLocked(); kept > 0 || end != nil {
			r.s.Unlock()
			return false
		}
		if !r.reading {
			r.reading = true
			r.s.Unlock()
			return true
		}
		r.s.Unlock()
		r.gate.Wait(0)
		r.s.Lock()
	}
}

// Read implements proxy.Body.
func (v *bodyView) Read(p []byte) (int, error) {
	r := v.r
	if !v.enter() {
		r.s.Lock()
		defer r.s.Unlock()
		kept, end := v.stateLocked()
		if kept > 0 {
			n := r.copyLocked(p, v.at)
			v.at += n
			return n, nil
		}
		return 0, end
	}
	n, err := r.src.Read(p)
	r.s.Lock()
	defer r.s.Unlock()
	r.reading = false
	r.keepLocked(p[:n])
	r.total += n
	if err != nil {
		r.ended = err
	}
	if r.now != v {
		r.gate.Wake()
		return 0, errOld
	}
	v.at += n
	return n, err
}

// Buffered implements proxy.Body.
func (v *bodyView) Buffered() int {
	r := v.r
	r.s.Lock()
	kept, end := v.stateLocked()
	busy := r.reading
	r.s.Unlock()
	switch {
	case kept > 0:
		return kept
	case end == io.EOF:
		return -1
	case end != nil || busy:
		return 0
	}
	return r.src.Buffered()
}

// WaitReadable implements proxy.Waiter.
func (v *bodyView) WaitReadable() error {
	w, ok := v.r.src.(proxy.Waiter)
	if !ok || !v.enter() {
		return nil
	}
	err := w.WaitReadable()
	r := v.r
	r.s.Lock()
	defer r.s.Unlock()
	r.reading = false
	if r.now != v {
		r.gate.Wake()
	}
	return err
}

// Trailers implements proxy.Body.
func (v *bodyView) Trailers() proxy.Fields { return v.r.src.Trailers() }

// Close implements proxy.Body. The body is closed by who made the request.
func (v *bodyView) Close() error { return nil }
