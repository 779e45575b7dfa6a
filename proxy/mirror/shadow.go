package mirror

import (
	"errors"
	"io"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
)

// shadow is one copy.
type shadow struct {
	layer   *layer
	req     proxy.Request
	timeout time.Duration
	cancel  proxy.Cancel
	content []byte
	inner   proxy.ResponseCloser // of the answer to the request itself
	settled bool                 // it was sent, or will not be. Guarded by the shard's lock
}

// send starts the task of the copy, once.
func (c *shadow) send() {
	if c.settle() {
		c.req.Shard.Go(c.run)
	}
}

// drop gives the copy up.
func (c *shadow) drop(count interface{ Add(uint64) uint64 }) {
	if c.settle() {
		count.Add(1)
		c.content = nil
		c.leave()
	}
}

// settle is true once.
func (c *shadow) settle() bool {
	s := c.req.Shard
	s.Lock()
	defer s.Unlock()
	first := !c.settled
	c.settled = true
	return first
}

// CloseResponse is the end of the request itself: content that has not come by now never will.
func (c *shadow) CloseResponse(resp *proxy.Response) {
	if c.inner != nil {
		c.inner.CloseResponse(resp)
	}
	c.drop(&c.layer.state.cut)
}

func (c *shadow) leave() { c.layer.pending[c.req.Shard.Index()].Add(-1) }

// errLate is why a copy was given up.
var errLate = errors.New("the copy takes too long")

// run carries out the copy, as a task.
func (c *shadow) run() {
	defer c.leave()
	c.layer.state.sent.Add(1)
	s := c.req.Shard
	c.req.Cancel, c.req.Deadline = &c.cancel, s.Now().Add(c.timeout)
	if c.req.Length = int64(len(c.content)); c.req.Length > 0 {
		c.req.Body = &proxy.Content{Left: c.content}
	}
	timer := s.After(c.timeout, func() { c.cancel.Cancel(errLate) })
	defer timer.Stop()
	var resp proxy.Response
	if err := c.layer.copies.RoundTrip(&c.req, &resp); err != nil {
		c.layer.state.failed.Add(1)
		return
	}
	defer resp.Close()
	if resp.Status >= 500 || !drain(resp.Body) {
		c.layer.state.failed.Add(1)
		return
	}
	c.layer.state.answered.Add(1)
}

// maxDrained bounds what is read of an answer, so that its connection can be used again; what is longer is broken off.
const maxDrained = 1 << 20 // bytes

// drain reads an answer, and reports whether it came as it should.
func drain(body proxy.Body) bool {
	if body == nil {
		return true
	}
	p := make([]byte, 4096)
	for n := 0; n < maxDrained; {
		m, err := body.Read(p)
		if err != nil {
			return err == io.EOF
		}
		n += m
	}
	return true
}

// listen returns a Body that is body, and whose content, of length bytes or proxy.Unknown, the copy gets, up to most.
func (c *shadow) listen(body proxy.Body, length int64, most int) proxy.Body {
	t := &tee{Body: body, c: c, most: most, length: length}
	if w, ok := body.(proxy.Waiter); ok {
		return &waitingTee{t, w}
	}
	return t
}

// tee is the content of the request, on its way to where it belongs.
type tee struct {
	proxy.Body
	c      *shadow
	most   int
	length int64 // of the whole content, or proxy.Unknown
}

// waitingTee is a tee of a Body that is a Waiter.
type waitingTee struct {
	*tee
	proxy.Waiter
}

// Read reads on, and keeps what it read for the copy.
func (t *tee) Read(p []byte) (int, error) {
	n, err := t.Body.Read(p)
	t.heard(p[:n])
	switch {
	case err == io.EOF:
		t.c.send()
	case err != nil:
		t.c.drop(&t.c.layer.state.cut)
	}
	return n, err
}

func (t *tee) heard(p []byte) {
	if len(p) == 0 || t.c.given() {
		return
	}
	if len(t.c.content)+len(p) > t.most {
		t.c.drop(&t.c.layer.state.large)
		return
	}
	t.c.content = append(t.c.content, p...)
	if int64(len(t.c.content)) == t.length { // whoever reads may know that this is all
		t.c.send()
	}
}

// given reports whether nothing more is wanted.
func (c *shadow) given() bool {
	c.req.Shard.Lock()
	defer c.req.Shard.Unlock()
	return c.settled
}

// Buffered tells readers who never ask for the end that it is there.
func (t *tee) Buffered() int {
	n := t.Body.Buffered()
	if n < 0 {
		t.c.send()
	}
	return n
}

// Close abandons what is unread: then there is no copy.
func (t *tee) Close() error {
	t.c.drop(&t.c.layer.state.cut)
	return t.Body.Close()
}
