package http3

import (
	"slices"

	"github.com/quic-go/quic-go"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/head"
)

// Begin sends req without waiting, if it has no content and asks for no Stream, and returns what carries out the rest of it, to be called once with the
// same req. It may be called on any goroutine, loops included: what a loop begins in one turn is in one packet, or a few. For other requests it returns nil, and RoundTrip is
// for them. Its errors are those of RoundTrip.
func (c *Conn) Begin(req *proxy.Request) (proxy.RoundTripper, error) {
	if req.Body != nil || req.Upgrade != "" || req.IsConnect() {
		return nil, nil
	}
	st, err := c.open(req)
	if err != nil {
		return nil, err
	}
	if err := st.begin(req); err != nil && err != errStopped {
		st.unwatch()
		return nil, err
	}
	return (*begun)(st), nil
}

// begin sends the head and the end, as far as QUIC takes them at once.
func (st *stream) begin(req *proxy.Request) error {
	c := st.c
	h, _ := c.encoders.Get().(*encoder)
	if h == nil {
		h = new(encoder)
	}
	defer c.encoders.Put(h)
	h.begun = h.append(h.begun[:0], c.knows(), func(e *head.Encoder) { e.Request(req) })
	switch err := st.q.TryWriteAll(h.begun); err {
	case nil:
		return st.closeWrite()
	case quic.ErrWouldBlock:
		st.unsent = slices.Clone(h.begun)
		return nil
	default:
		return st.writeFailed(err)
	}
}

// begun is a stream whose request has been sent, or waits for window.
type begun stream

// RoundTrip waits for the answer.
func (b *begun) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	st := (*stream)(b)
	err := st.sendUnsent(req)
	if err == nil || err == errStopped {
		err = st.await(req, resp)
	}
	if err != nil {
		st.unwatch()
	}
	return err
}

// sendUnsent sends what Begin could not.
func (st *stream) sendUnsent(req *proxy.Request) error {
	if st.unsent == nil {
		return nil
	}
	b := st.unsent
	st.unsent = nil
	if err := st.writeBy(req.Deadline, b); err != nil {
		return err
	}
	return st.closeWrite()
}
