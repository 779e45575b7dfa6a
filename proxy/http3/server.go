package http3

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/head"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/quic-go/quic-go"
)

// accept takes a stream that the client has opened.
func (c *Conn) accept(q *quic.Stream) {
	st := c.newStream(q)
	st.early = c.early()
	c.mu.Lock()
	c.next = st.id + 4
	if st.id >= c.lastAccepted || len(c.streams) >= c.cfg.MaxStreams || c.running >= runningFactor*c.cfg.MaxStreams || c.failed {
		// RFC 9114 section 4.1.1: "When a server rejects a request without performing any application processing, it SHOULD abort its
		// response stream with the error code H3_REQUEST_REJECTED."
		q.CancelRead(quic.StreamErrorCode(ErrRequestRejected))
		q.CancelWrite(quic.StreamErrorCode(ErrRequestRejected))
		q.ReleaseStreamCredit()
		c.chargeReset("streams beyond the limit")
		c.unlock()
		return
	}
	c.streams[st.id] = st
	c.opened++
	c.running++
	c.limits.cheap.give()
	c.mu.Unlock()
	c.s.Go(st.serve)
}

// serve is the task of a server's stream.
func (st *stream) serve() {
	defer st.leave()
	if !st.readRequest() {
		return
	}
	stop := context.AfterFunc(st.q.Context(), st.peerLeft)
	defer stop()
	c := st.c
	if c.cfg.Prepare != nil {
		c.cfg.Prepare(&st.req)
	}
	if err := c.cfg.Handler.RoundTrip(&st.req, &st.resp); err != nil {
		c.answer(&st.req, &st.resp, err)
	}
	if st.resp.Flow != nil && st.flow != nil && c.cfg.Flows != nil {
		st.relayFlow()
		return
	}
	if st.resp.Flow != nil && st.resp.Stream == nil || st.resp.Stream != nil && (c.cfg.Tunnel == nil || !st.tunnel) {
		st.resp.Close()
		c.answer(&st.req, &st.resp, &proxy.Error{Code: proxy.Unsupported, Detail: "no streams here"})
	}
	if st.resp.Stream != nil {
		st.relay()
		return
	}
	if st.respond() {
		stop()
		st.closeWrite()
	}
}

// peerLeft ends a stream of which the client has cancelled the answer, or whose connection is lost.
func (st *stream) peerLeft() {
	err := context.Cause(st.q.Context())
	if err == quic.ErrStreamClosed {
		return // by us
	}
	st.c.failedStream(st, err)
}

// readRequest reads the head, and reports whether there is a request to carry out. If not, the stream is over.
func (st *stream) readRequest() bool {
	c := st.c
	if c.cfg.HeadTimeout > 0 {
		st.q.SetReadDeadline(time.Now().Add(c.cfg.HeadTimeout))
		defer st.q.SetReadDeadline(time.Time{})
	}
	err := st.nextHead()
	if err == io.EOF {
		err = &streamError{ErrRequestIncomplete, "a stream without a request"}
	}
	if err == nil && st.head.TooLarge {
		st.refuseHead()
		return false
	}
	if err == nil {
		if bad := st.head.Request(); bad != "" {
			err = &streamError{ErrMessage, "malformed request: " + bad}
		}
	}
	if err == nil {
		err = st.fillRequest()
	}
	if err != nil {
		var reset *quic.StreamError
		st.c.failedStream(st, err)
		if errors.As(err, &reset) {
			c.mu.Lock()
			c.chargeReset("requests that are cancelled at once")
			c.unlock()
		}
		return false
	}
	return true
}

// refuseHead answers 431 where the head is larger than Config.MaxHead.
func (st *stream) refuseHead() {
	c := st.c
	st.q.CancelRead(quic.StreamErrorCode(ErrExcessiveLoad))
	c.mu.Lock()
	st.inEnd = true
	c.chargeReset("heads that are too large")
	c.unlock()
	st.head.Verbatim = false
	if st.write(c.appendHead(nil, false, func(e *head.Encoder) { e.Inform(431, nil) })) == nil {
		st.closeWrite()
	}
}

// endWait bounds how long a request whose method does not expect content waits for the word that there is none. That word is in the
// same packet as the head, or the next, unless the client means to send content after all.
const endWait = 100 * time.Millisecond

// fillRequest makes st.req of st.head.
func (st *stream) fillRequest() error {
	d := &st.head
	st.req = proxy.Request{
		Method: d.Method, Scheme: d.Scheme, Authority: d.Authority, Path: d.Path, Upgrade: d.Protocol,
		Version: proxy.HTTP3, Fields: d.Fields, Names: d.Names | proxy.NamesKnown,
		Expect: d.Expect, Inform: st.sendInform,
		Shard: st.c.s, Cancel: &st.cancel, Client: st.c.client,
	}
	r := &st.req
	d.Fields = nil
	st.c.mu.Lock()
	st.c.knowFlow(st, r.Upgrade == proxy.ConnectUDP)
	st.c.mu.Unlock()
	if st.early && !r.Fields.Has("early-data") {
		// RFC 8470 section 5.1: "An intermediary that forwards a request prior to the completion of the TLS handshake with its client MUST
		// send it with the Early-Data header field set to "1"".
		r.Fields.Add("Early-Data", "1")
	}
	if d.Method == "CONNECT" {
		st.tunnel = true
		if r.Upgrade != "" {
			r.Method = "GET"
		}
		return nil
	}
	st.inLength = d.Length
	ended := st.in.ended()
	if ended {
		if err := st.finish(); err != nil {
			return err
		}
	} else if d.Length == proxy.Unknown && seldomContent(r.Method) {
		ended = st.probe(time.Now().Add(endWait))
	}
	if ended || d.Length == 0 {
		r.Expect = false
		return nil
	}
	st.expecting = d.Expect
	r.Length = d.Length
	r.Body = &requestBody{st}
	return nil
}

// seldomContent reports the methods for which RFC 9110 section 9.3 says that content has no defined meaning.
func seldomContent(method string) bool {
	switch method {
	case "GET", "HEAD", "DELETE", "OPTIONS", "TRACE":
		return true
	}
	return false
}

// leave ends what serve has left open, after a panic too.
func (st *stream) leave() {
	st.resp.Close()
	c := st.c
	c.mu.Lock()
	st.left = true
	over, whole := st.over, st.outEnd
	c.mu.Unlock()
	switch {
	case over:
	case !whole:
		c.endWith(st, task.ErrClosed, ErrInternal)
	default:
		st.stopReading()
	}
	st.q.ReleaseStreamCredit()
	c.mu.Lock()
	c.running--
	c.mu.Unlock()
}

// stopReading ends the client's half after a complete answer. RFC 9114 section 4.1: "When the server does not need to receive the remainder of
// the request, it MAY abort reading the request stream, send a complete response, and cleanly close the sending part of the
// stream. The error code H3_NO_ERROR SHOULD be used".
func (st *stream) stopReading() {
	if st.reading.TryLock() {
		ended := st.in.left == 0 && st.probe(past())
		st.reading.Unlock()
		if ended {
			return
		}
	}
	st.c.gotEnd(st) // first: whoever still reads must not find a stream to reset, whose answer may be on its way
	st.q.CancelRead(quic.StreamErrorCode(ErrNo))
}

// answer fills resp for an exchange that failed.
func (c *Conn) answer(req *proxy.Request, resp *proxy.Response, err error) {
	if c.cfg.Answer != nil {
		c.cfg.Answer(req, resp, err)
		return
	}
	resp.Status = proxy.Internal.Status()
	var e *proxy.Error
	if errors.As(err, &e) {
		resp.Status = e.Code.Status()
	}
}

// respond sends head and content of st.resp, and reports whether only the end of our half is still to be said.
func (st *stream) respond() bool {
	c, resp := st.c, &st.resp
	// RFC 9110 section 6.4.1: these have no content, whatever Handler says.
	none := st.req.Method == "HEAD" || resp.Status == 204 || resp.Status == 304
	buf := c.s.Buffer()
	b := st.appendResponse(buf.B[:0])
	if resp.Body == nil || none {
		err := st.write(b)
		c.s.Free(buf)
		return err == nil
	}
	o := content{st: st, buf: buf, b: b, body: resp.Body, length: resp.Length}
	if err := o.copy(); err != nil {
		c.endWith(st, err, ErrInternal)
		return false
	}
	return true
}

// relay answers that the Stream is there, and hands both ends over.
func (st *stream) relay() {
	c := st.c
	if st.write(st.appendResponse(nil)) != nil {
		return
	}
	t := &tunnelStream{st: st, reset: ErrConnect}
	c.cfg.Tunnel(c.s, t, st.resp.Stream)
	t.Close()
}

// appendResponse appends the final head.
func (st *stream) appendResponse(b []byte) []byte {
	resp := &st.resp
	st.writing.Lock()
	st.headSent = true
	st.writing.Unlock()
	status := resp.Status
	if st.tunnel && (resp.Stream != nil || resp.Flow != nil) && status == 101 {
		status = 200
	}
	if status < 200 || status > 999 {
		status = proxy.Internal.Status()
	}
	knows := st.c.knows()
	if !knows && head.IsDeclined(&st.req, resp, status) {
		status = proxy.Unsupported.Status() // only a pillion can be told that 200 is no agreement
	}
	return st.c.appendHead(b, knows, func(e *head.Encoder) { e.Response(&st.req, resp, status) })
}

// sendInform is Request.Inform: it passes a 1xx answer on.
func (st *stream) sendInform(status int, fields proxy.Fields) {
	st.writing.Lock()
	defer st.writing.Unlock()
	if st.headSent || status < 100 || status > 199 || status == 101 {
		return
	}
	if status == 100 {
		st.expecting = false
	}
	st.write(st.c.appendHead(nil, st.c.knows(), func(e *head.Encoder) { e.Inform(status, fields) }))
}

// owesContinue reports whether the client waits for the word to send its content.
func (st *stream) owesContinue() bool {
	if !st.c.server {
		return false
	}
	st.writing.Lock()
	defer st.writing.Unlock()
	return st.expecting && !st.headSent
}

// sayContinue sends the 100 that the client waits for, once its content is wanted.
func (st *stream) sayContinue() { st.sendInform(100, nil) }

// requestBody is a request's content.
type requestBody struct{ st *stream }

// Read waits for content.
func (b *requestBody) Read(p []byte) (int, error) { return b.st.read(p) }

// WaitReadable waits until Read would not wait.
func (b *requestBody) WaitReadable() error { return b.st.waitReadable() }

// Buffered is what has arrived, as far as is known, -1 at the end.
func (b *requestBody) Buffered() int { return b.st.buffered() }

// Trailers are there after io.EOF.
func (b *requestBody) Trailers() proxy.Fields { return b.st.trailers }

// Close tells the client that the rest is not wanted.
func (b *requestBody) Close() error {
	st := b.st
	st.c.mu.Lock()
	ended := st.inEnd || st.over
	st.unwanted = true
	st.c.mu.Unlock()
	if !ended {
		st.q.CancelRead(quic.StreamErrorCode(ErrNo))
	}
	return nil
}
