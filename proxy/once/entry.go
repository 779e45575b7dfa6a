package once

import (
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// entry is one id: a request that runs or has run, and as much of its answer as there is.
type entry struct {
	// Static after construction.
	id     string
	caller *caller
	at     task.Instant

	// Guarded by Memory.mu.
	done bool // nothing is added any more
	lost bool // the answer is not remembered
	size int

	mu       sync.Mutex // never held over a wait or a call
	err      error      // instead of an answer
	headed   bool
	resp     proxy.Response // the head: what of it can be copied
	hasBody  bool
	data     []byte
	base     int   // bytes of the content that came before data, and are gone
	ended    error // why there is no more content: io.EOF in the end
	trailers proxy.Fields
	passing  bool // only what somebody still has to read is kept
	readers  []*reader
	writer   *reader // the flight, while it waits for readers
}

// reader is one attempt that wants the answer. It is also its Body.
type reader struct {
	e    *entry
	s    task.Shard
	gate task.Gate
	wake func() // on s

	cancel *proxy.Cancel

	before proxy.Canceled // guarded by the shard's lock

	// Guarded by entry.mu.
	waits bool
	at    int
}

// fail is the end of a request without an answer.
func (e *entry) fail(err error) {
	e.mu.Lock()
	e.err = err
	e.tellLocked()
	e.mu.Unlock()
}

// broke is the end of a request about which nothing more will be heard.
func (e *entry) broke(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.headed {
		e.err = err
	} else if e.ended == nil {
		e.ended = err
	}
	e.tellLocked()
}

// head notes the head of the answer, and returns its size.
func (e *entry) head(resp *proxy.Response) (size int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.headed, e.hasBody = true, resp.Body != nil
	e.resp = proxy.Response{Status: resp.Status, Reason: strings.Clone(resp.Reason), Version: resp.Version, Fields: cloned(resp.Fields),
		Length: resp.Length, Code: resp.Code, Unsent: resp.Unsent}
	for i := range e.resp.Fields {
		size += len(e.resp.Fields[i].Name) + len(e.resp.Fields[i].Value)
	}
	e.tellLocked()
	return size
}

// take adds to the content. What is not kept waits until it has been read, and take reports whether somebody still reads.
func (e *entry) take(p []byte, s task.Shard, passing bool) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !passing {
		e.data = append(e.data, p...)
		e.tellLocked()
		return true
	}
	e.passing = true
	w := &reader{e: e, s: s}
	s.Gate(&w.gate)
	w.wake = w.gate.Wake
	for {
		least := e.base + len(e.data)
		for _, r := range e.readers {
			least = min(least, r.at)
		}
		if len(e.readers) == 0 {
			e.data = nil
			return false
		}
		if least == e.base+len(e.data) {
			break
		}
		e.writer, w.waits = w, true
		e.mu.Unlock()
		w.gate.Wait(0)
		e.mu.Lock()
		e.writer = nil
	}
	e.base += len(e.data)
	e.data = append(e.data[:0], p...)
	e.tellLocked()
	return true
}

// end is the end of the content.
func (e *entry) end(err error, trailers proxy.Fields) {
	e.mu.Lock()
	e.ended, e.trailers = err, trailers
	e.tellLocked()
	e.mu.Unlock()
}

// tellLocked wakes who waits for more.
func (e *entry) tellLocked() {
	for _, r := range e.readers {
		r.tellLocked()
	}
}

func (r *reader) tellLocked() {
	if r.waits {
		r.waits = false
		r.s.Post(r.wake)
	}
}

// join makes an attempt one that waits for the answer.
func (e *entry) join(req *proxy.Request) *reader {
	r := &reader{e: e, s: req.Shard, cancel: req.Cancel}
	r.s.Gate(&r.gate)
	r.wake = r.gate.Wake
	e.mu.Lock()
	e.readers = append(e.readers, r)
	e.mu.Unlock()
	return r
}

// read is join for an attempt that is not the first.
func (e *entry) read(req *proxy.Request, resp *proxy.Response) error {
	return e.join(req).await(req, resp)
}

// await waits for the head of the answer.
func (r *reader) await(req *proxy.Request, resp *proxy.Response) error {
	before, gone := req.Cancel.Watch(r)
	if gone != nil {
		r.leave()
		return clientGone(gone)
	}
	r.s.Lock()
	r.before = before
	r.s.Unlock()
	e := r.e
	e.mu.Lock()
	for !e.headed && e.err == nil {
		if err := req.Cancel.Err(); err != nil {
			e.mu.Unlock()
			r.release()
			return clientGone(err)
		}
		r.waits = true
		e.mu.Unlock()
		inTime := r.gate.Wait(req.Deadline)
		e.mu.Lock()
		if !inTime && !e.headed && e.err == nil {
			e.mu.Unlock()
			r.release()
			return &proxy.Error{Code: proxy.Timeout, Detail: "the app did not answer in time", Err: task.ErrDeadline}
		}
	}
	if err := e.err; err != nil {
		e.mu.Unlock()
		r.release()
		return err
	}
	fields := append(resp.Fields, e.resp.Fields...)
	*resp = e.resp
	resp.Fields = fields
	if e.hasBody {
		resp.Body = r
	}
	e.mu.Unlock()
	resp.OnClose(r)
	return nil
}

func clientGone(err error) error {
	return &proxy.Error{Code: proxy.ClientGone, Detail: "the client left; its request goes on", Err: err}
}

// Canceled implements proxy.Canceled: the client of this attempt has left. The request goes on.
func (r *reader) Canceled(err error) {
	r.gate.Wake()
	r.s.Lock()
	before := r.before
	r.s.Unlock()
	if before != nil {
		before.Canceled(err)
	}
}

// release ends what await began.
func (r *reader) release() {
	r.s.Lock()
	before := r.before
	r.s.Unlock()
	if before != nil {
		_, _ = r.cancel.Watch(before)
	} else {
		r.cancel.Unwatch(r)
	}
	r.leave()
}

// leave takes r off the entry.
func (r *reader) leave() {
	e := r.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if i := slices.Index(e.readers, r); i >= 0 {
		e.readers = slices.Delete(e.readers, i, i+1)
	}
	if e.passing && len(e.readers) == 0 {
		e.data = nil
	}
	e.readLocked()
}

// readLocked tells the flight that somebody has read, or left.
func (e *entry) readLocked() {
	if e.writer != nil {
		e.writer.tellLocked()
	}
}

// CloseResponse implements proxy.ResponseCloser.
func (r *reader) CloseResponse(*proxy.Response) { r.release() }

// Read implements proxy.Body.
func (r *reader) Read(p []byte) (int, error) {
	e := r.e
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		if at := r.at - e.base; at >= 0 && at < len(e.data) {
			n := copy(p, e.data[at:])
			r.at += n
			e.readLocked()
			return n, nil
		} else if at < 0 {
			return 0, errLarge // it came later than the first, and its beginning is gone
		}
		if e.ended != nil {
			return 0, e.ended
		}
		if err := r.cancel.Err(); err != nil {
			return 0, err
		}
		r.waits = true
		e.mu.Unlock()
		r.gate.Wait(0)
		e.mu.Lock()
	}
}

// Buffered implements proxy.Body.
func (r *reader) Buffered() int {
	e := r.e
	e.mu.Lock()
	defer e.mu.Unlock()
	n := e.base + len(e.data) - r.at
	if n == 0 && e.ended == io.EOF {
		return -1
	}
	return max(0, n)
}

// Trailers implements proxy.Body.
func (r *reader) Trailers() proxy.Fields {
	r.e.mu.Lock()
	defer r.e.mu.Unlock()
	return r.e.trailers
}

// Close implements proxy.Body.
func (r *reader) Close() error { return nil }
