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

const (
	expectWait  = time.Second      // how long a body waits for 100 (Continue)
	connectWait = 10 * time.Second // how long extended CONNECT waits for the peer's SETTINGS
)

// RoundTrip sends req and fills resp with the head of the answer. It does not wait for a free stream: see the package comment.
// With an *proxy.Error whose Unsent is set, the request may be sent elsewhere.
func (c *Conn) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	st, err := c.open(req)
	if err != nil {
		return err
	}
	if err := st.sendRequest(req); err != nil {
		st.unwatch()
		return err
	}
	if err := st.await(req, resp); err != nil {
		st.unwatch()
		return err
	}
	return nil
}

// open opens a stream for req.
func (c *Conn) open(req *proxy.Request) (*stream, error) {
	if req.Upgrade != "" {
		if err := c.awaitConnect(req); err != nil {
			return nil, err
		}
	}
	if req.Cancel != nil && req.Cancel.Err() != nil {
		return nil, unsent(req.Cancel.Err())
	}
	c.mu.Lock()
	if c.available() > 0 && head.Size(req) > int64(c.peerMaxHead) {
		c.mu.Unlock()
		return nil, &proxy.Error{Code: proxy.HeadTooLarge, Detail: "the peer takes smaller heads only", Unsent: true}
	}
	st := c.openStream()
	if st != nil {
		c.knowFlow(st, req.Upgrade == proxy.ConnectUDP)
	}
	err := c.noStream()
	c.unlock()
	if st == nil {
		return nil, err
	}
	st.upgrade = req.Upgrade != ""
	st.asks = st.upgrade || req.IsConnect()
	st.noBody = req.Method == "HEAD"
	if req.Cancel != nil {
		if _, err := req.Cancel.Watch(st); err != nil {
			c.endWith(st, unsent(err), ErrRequestCancelled)
			return nil, unsent(err)
		}
		st.watched = req.Cancel
	}
	return st, nil
}

// openStream opens a stream, or returns nil. mu is held.
func (c *Conn) openStream() *stream {
	if c.available() == 0 {
		return nil
	}
	q := c.spare
	c.spare = nil
	if q == nil {
		var err error
		if q, err = c.q.OpenStream(); err != nil {
			var limit *quic.StreamLimitReachedError
			if errors.As(err, &limit) {
				c.full = true
				c.helpers.Add(1)
				task.Start(c.s, c.awaitCredit) // Begin is called by others than c.s
			} else {
				c.over(err) // as Serve will say too: nobody may come for another stream in between
			}
			return nil
		}
	} else {
		c.full = false
	}
	st := c.newStream(q)
	c.streams[st.id] = st
	c.opened++
	c.limits.cheap.give()
	return st
}

// awaitCredit is the task that waits until the peer takes one more stream, and keeps that.
func (c *Conn) awaitCredit() {
	defer c.helpers.Done()
	q, err := c.q.OpenStreamSync(context.Background())
	if err != nil {
		return // the connection is over
	}
	c.mu.Lock()
	c.spare, c.changed = q, true
	c.unlock()
}

func unsent(err error) error {
	var e *proxy.Error
	if errors.As(err, &e) {
		return &proxy.Error{Code: e.Code, Detail: e.Detail, Unsent: true, Err: e.Err}
	}
	return &proxy.Error{Code: proxy.ClientGone, Detail: "the client left", Unsent: true, Err: err}
}

// awaitConnect waits for the peer's SETTINGS, which say whether it knows extended CONNECT: RFC 9220 section 3.
func (c *Conn) awaitConnect(req *proxy.Request) error {
	until := time.Now().Add(connectWait)
	if at := c.wall(req.Deadline); !at.IsZero() && at.Before(until) {
		until = at
	}
	if !c.awaitSettings(until) {
		return unsent(errDeadline)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.peerConnect && !c.failed {
		return &proxy.Error{Code: proxy.Unsupported, Detail: "the peer does not know extended CONNECT", Unsent: true}
	}
	return nil
}

// sendRequest sends the head, and what there is of the content if that is all; else a second task sends it.
func (st *stream) sendRequest(req *proxy.Request) error {
	c := st.c
	buf := c.s.Buffer()
	b := c.appendHead(buf.B[:0], c.knows(), func(e *head.Encoder) { e.Request(req) })
	if req.Body == nil || st.asks {
		err := st.writeBy(req.Deadline, b)
		c.s.Free(buf)
		if err == nil && !st.asks {
			err = st.closeWrite()
		}
		if err == errStopped {
			err = nil
		}
		return err
	}
	o := content{st: st, buf: buf, b: b, body: req.Body, length: req.Length}
	if req.Expect {
		st.goAhead = make(chan struct{})
		if err := st.writeBy(req.Deadline, o.b); err != nil && err != errStopped {
			o.free()
			return err
		}
		o.b = o.b[:0]
	}
	c.s.Go(o.upload)
	return nil
}

// writeBy is write with the deadline of an exchange: the peer may give no window, or the path may be gone.
func (st *stream) writeBy(deadline task.Instant, p []byte) error {
	if deadline != 0 {
		st.q.SetWriteDeadline(st.c.wall(deadline))
		defer st.q.SetWriteDeadline(time.Time{})
	}
	return st.write(p)
}

// upload is the task that sends a request's content.
func (o *content) upload() {
	st := o.st
	whole := false
	defer func() {
		if !whole {
			o.free()
			st.c.endWith(st, task.ErrClosed, ErrRequestCancelled) // a panic
		}
	}()
	if st.goAhead == nil || st.awaitContinue() {
		if err := o.copy(); err != nil && err != errStopped {
			st.bodyFailed(err)
		}
	}
	o.free()
	whole = true
}

// awaitContinue waits for 100 (Continue), for a second at most (RFC 9110 section 10.1.1), and reports whether the body is
// still wanted.
func (st *stream) awaitContinue() bool {
	t := time.NewTimer(expectWait)
	defer t.Stop()
	select {
	case <-st.goAhead:
	case <-t.C:
	}
	return st.ended() == nil
}

// bodyFailed resets a stream whose request broke off.
func (st *stream) bodyFailed(err error) {
	var e *proxy.Error
	if !errors.As(err, &e) {
		err = &proxy.Error{Code: proxy.ClientGone, Detail: "the request broke off", Err: err}
	}
	st.c.endWith(st, err, ErrRequestCancelled)
}

// await waits for the answer's head.
func (st *stream) await(req *proxy.Request, resp *proxy.Response) error {
	st.reading.Lock()
	defer st.reading.Unlock()
	if req.Deadline != 0 {
		st.q.SetReadDeadline(st.c.wall(req.Deadline))
		defer st.q.SetReadDeadline(time.Time{})
	}
	for informs := 0; ; informs++ {
		status, err := st.readHead(informs)
		if err != nil {
			return st.c.failedStream(st, err)
		}
		if status >= 200 {
			return st.fillResponse(status, resp)
		}
		if req.Inform != nil {
			req.Inform(status, st.head.Fields)
			st.head.Fields = nil // they may be kept for a moment
		}
	}
}

// readHead reads one head and returns its status.
func (st *stream) readHead(informs int) (int, error) {
	err := st.nextHead()
	if err == io.EOF {
		err = &streamError{ErrMessage, "the stream ended without an answer"}
	}
	if err != nil {
		return 0, err
	}
	if st.head.TooLarge {
		return 0, &proxy.Error{Code: proxy.AppBadAnswer, Detail: "the head of the answer is too large"}
	}
	status, bad := st.head.Response()
	if bad != "" {
		return 0, &streamError{ErrMessage, "malformed answer: " + bad}
	}
	if status >= 200 {
		return status, nil
	}
	if informs >= maxInforms {
		return 0, &streamError{ErrExcessiveLoad, "too many 1xx answers"}
	}
	if status == 100 {
		st.c.mu.Lock()
		st.release()
		st.c.mu.Unlock()
	}
	return status, st.c.charge("1xx answers")
}

func (st *stream) fillResponse(status int, resp *proxy.Response) error {
	d, c := &st.head, st.c
	st.noBody = st.noBody || status == 204 || status == 304
	agreed := st.asks && d.Have&head.Declined == 0 && status < 300
	st.inLength = d.Length
	if status == 204 {
		st.inLength = 0
	}
	c.mu.Lock()
	st.release()
	c.mu.Unlock()
	resp.Status, resp.Reason, resp.Version = status, d.Reason, proxy.HTTP3
	resp.Fields, d.Fields = d.Fields, nil
	resp.OnClose(st)
	if agreed {
		// RFC 9110 section 9.3.6: "A client MUST ignore any Content-Length or Transfer-Encoding header fields received in a
		// successful response to CONNECT."
		st.inLength, st.tunnel = proxy.Unknown, true
		if st.upgrade {
			resp.Status = 101
		}
		resp.Length = 0
		if st.flow != nil {
			st.flow.start(nil)
			resp.Flow = st.flow
		} else {
			resp.Stream = &tunnelStream{st: st, reset: ErrRequestCancelled}
		}
		return nil
	}
	if st.asks {
		st.closeWrite()
	}
	resp.Length = st.inLength
	ended := st.in.ended() || st.inLength == proxy.Unknown && !st.noBody && st.probe(past())
	if ended && !st.isEnded() {
		if err := st.finish(); err != nil {
			return c.failedStream(st, err)
		}
	}
	switch {
	case st.noBody:
	case ended, st.inLength == 0:
		resp.Length = 0
	default:
		resp.Body = (*responseBody)(st)
	}
	return nil
}

// Canceled ends the Exchange of which st is the bottom: its client has left.
func (st *stream) Canceled(err error) {
	var e *proxy.Error
	if !errors.As(err, &e) {
		err = &proxy.Error{Code: proxy.ClientGone, Detail: "the client left", Err: err}
	}
	st.c.endWith(st, err, ErrRequestCancelled)
}

// unwatch takes st off the request's Cancel.
func (st *stream) unwatch() {
	if st.watched != nil {
		st.watched.Unwatch(st)
		st.watched = nil
	}
}

// CloseResponse is the end of a client's stream.
func (st *stream) CloseResponse(*proxy.Response) {
	st.unwatch()
	if !st.isEnded() && st.reading.TryLock() {
		if st.in.left == 0 {
			st.probe(past()) // the end may be there, unread
		}
		st.reading.Unlock()
	}
	st.c.endWith(st, task.ErrClosed, ErrRequestCancelled)
}

// responseBody is the stream as the content of an answer. It is not used after Response.Close.
type responseBody stream

// Read waits for content. The request's Deadline was for the head.
func (b *responseBody) Read(p []byte) (int, error) { return (*stream)(b).read(p) }

// WaitReadable waits until Read would not wait.
func (b *responseBody) WaitReadable() error { return (*stream)(b).waitReadable() }

// Buffered is what has arrived, as far as is known, -1 at the end.
func (b *responseBody) Buffered() int { return (*stream)(b).buffered() }

// Trailers are there after io.EOF.
func (b *responseBody) Trailers() proxy.Fields { return b.trailers }

// Close resets the stream if the answer is not complete.
func (b *responseBody) Close() error {
	st := (*stream)(b)
	if !st.isEnded() {
		st.c.endWith(st, task.ErrClosed, ErrRequestCancelled)
	}
	return nil
}
