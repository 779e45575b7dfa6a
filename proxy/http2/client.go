package http2

import (
	"errors"
	"slices"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/head"
	"github.com/pillion-proxy/pillion/proxy/task"
)

const (
	expectWait  = time.Second      // how long a body waits for 100 (Continue)
	connectWait = 10 * time.Second // how long extended CONNECT waits for the peer's SETTINGS
	maxInforms  = 32               // 1xx answers that wait for RoundTrip
)

// RoundTrip sends req and fills resp with the head of the answer. It does not wait for a free stream: see the package comment.
// With an *proxy.Error whose Unsent is set, the request may be sent elsewhere.
func (c *Conn) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	if req.Body != nil && !req.IsConnect() && req.Upgrade == "" {
		return c.roundTripBody(req, resp)
	}
	c.s.Lock()
	defer c.unlock()
	st, err := c.open(req)
	if err != nil {
		return err
	}
	return c.await(st, req, resp)
}

// roundTripBody is RoundTrip for a request with a body, which is read without the lock.
func (c *Conn) roundTripBody(req *proxy.Request, resp *proxy.Response) error {
	st, err := c.openLocking(req)
	if err != nil {
		return err
	}
	c.sendRequestBody(st, req)
	c.s.Lock()
	defer c.unlock()
	return c.await(st, req, resp)
}

func (c *Conn) openLocking(req *proxy.Request) (*stream, error) {
	c.s.Lock()
	defer c.unlock()
	return c.open(req)
}

// open opens a stream with req's head. The lock is held.
func (c *Conn) open(req *proxy.Request) (*stream, error) {
	st := c.newStream(0)
	st.deadline = req.Deadline
	if err := c.sendRequest(st, req); err != nil {
		c.release(st)
		return nil, err
	}
	return st, nil
}

// sendRequest waits until the head may be sent, and sends it. The lock is held.
func (c *Conn) sendRequest(st *stream, req *proxy.Request) error {
	if req.Upgrade != "" {
		if err := c.awaitConnect(st); err != nil {
			return err
		}
	}
	for c.full() && c.available() > 0 { // only now, so that streams open in the order of their ids
		if !c.awaitRoom(st, st.deadline) {
			st.dequeue()
			return unsent(errDeadline)
		}
	}
	st.dequeue()
	if c.available() == 0 {
		return proxy.ErrNoStream
	}
	if headSize(req) > int64(c.peerMaxHead) {
		return &proxy.Error{Code: proxy.HeadTooLarge, Detail: "the peer takes smaller heads only", Unsent: true}
	}
	if req.Cancel != nil {
		if _, err := req.Cancel.Watch(st); err != nil {
			return unsent(err)
		}
		st.watched = req.Cancel
	}
	c.start(st, req)
	return nil
}

// start gives st its id and sends the head.
func (c *Conn) start(st *stream, req *proxy.Request) {
	st.id = c.nextID
	c.nextID += 2
	if c.nextID > maxStreamID { // the ids are used up: another connection must follow this one
		c.goingAway, c.changed = true, true
	}
	c.streams.put(st)
	c.alive.asked(c.s.Now())
	st.sendWin = c.peerWindow // as it is now, not when the wait began
	c.startWindow(st)
	st.openedAt = c.pushes
	c.opened++
	st.upgrade = req.Upgrade != ""
	st.asks = st.upgrade || req.IsConnect()
	st.noBody = req.Method == "HEAD"
	var flags uint8
	if req.Body == nil && !st.asks {
		flags = flagEndStream
	}
	c.ready()
	at := c.beginBlock(st.id, flags)
	c.encodeRequest(req)
	c.endBlock(at)
	st.outEnd = flags != 0
}

func unsent(err error) error {
	var e *proxy.Error
	if errors.As(err, &e) {
		return &proxy.Error{Code: e.Code, Detail: e.Detail, Unsent: true, Err: e.Err}
	}
	return &proxy.Error{Code: proxy.ClientGone, Detail: "the client left", Unsent: true, Err: err}
}

// headSize is what RFC 9113 section 6.5.2 counts.
func headSize(req *proxy.Request) int64 {
	n := int64(len(req.Method) + len(req.Scheme) + len(req.Authority) + len(req.Path) + 4*(32+10))
	for i := range req.Fields {
		n += int64(len(req.Fields[i].Name) + len(req.Fields[i].Value) + 32)
	}
	return n
}

// awaitConnect waits for the peer's SETTINGS, which say whether it knows extended CONNECT. RFC 8441 section 3.
func (c *Conn) awaitConnect(st *stream) error {
	until := c.s.Now().Add(connectWait)
	if st.deadline != 0 {
		until = min(until, st.deadline)
	}
	for !c.settled && !c.failed {
		c.settleWait = append(c.settleWait, st)
		ok := c.wait(st, &st.recvGate, until)
		if i := slices.Index(c.settleWait, st); i >= 0 {
			c.settleWait = slices.Delete(c.settleWait, i, i+1)
		}
		if !ok {
			return unsent(errDeadline)
		}
	}
	if !c.peerConnect && !c.failed {
		return &proxy.Error{Code: proxy.Unsupported, Detail: "the peer does not know extended CONNECT", Unsent: true}
	}
	return nil
}

// sendRequestBody sends at once what is there, if that is all; else a second task sends it.
func (c *Conn) sendRequestBody(st *stream, req *proxy.Request) {
	st.body, st.bodyLen = req.Body, req.Length
	c.s.Lock()
	st.expects = req.Expect
	inline := !req.Expect && !c.blocked && min(st.sendWin, c.sendWin) >= turnSize
	c.unlock()
	var total int64
	if n := req.Body.Buffered(); inline && n != 0 && n < turnSize && (req.Length == proxy.Unknown || n < 0 || int64(n) <= req.Length) {
		done, err := c.copyPiece(st, req.Body, req.Length, &total, st.deadline)
		if err != nil {
			c.bodyFailed(st, err)
			return
		}
		if done {
			return
		}
		if st.bodyLen != proxy.Unknown {
			st.bodyLen -= total
		}
	}
	c.s.Lock()
	st.pumping = true
	c.s.Go(st.pump)
	c.unlock()
}

// upload is the task that sends a body which was not there at once.
func (st *stream) upload() {
	c := st.c
	defer st.uploaded()
	if st.expects && !st.awaitContinue() {
		return
	}
	if err := c.copyBody(st, st.body, st.bodyLen, 0); err != nil { // await keeps the deadline, which ends with the head of the answer
		c.bodyFailed(st, err)
	}
}

// awaitContinue waits for 100 (Continue), for a second at most (RFC 9110 section 10.1.1), and reports whether the body is
// still wanted.
func (st *stream) awaitContinue() bool {
	c := st.c
	until := c.s.Now().Add(expectWait)
	c.s.Lock()
	defer c.unlock()
	for !st.goAhead && !st.headDone && !st.over {
		if !c.wait(st, &st.sendGate, until) {
			break
		}
	}
	return !st.over
}

func (st *stream) uploaded() {
	c := st.c
	c.s.Lock()
	st.pumping = false
	if st.body != nil && !st.over && !st.outEnd {
		c.end(st, task.ErrClosed, ErrInternal, tell) // a panic
	}
	c.unlock()
}

// bodyFailed resets a stream whose request broke off.
func (c *Conn) bodyFailed(st *stream, err error) {
	var e *proxy.Error
	if !errors.As(err, &e) {
		err = &proxy.Error{Code: proxy.ClientGone, Detail: "the request broke off", Err: err}
	}
	c.s.Lock()
	c.end(st, err, ErrCancel, tell)
	c.unlock()
}

// await waits for the answer's head. The lock is held.
func (c *Conn) await(st *stream, req *proxy.Request, resp *proxy.Response) error {
	for {
		if len(st.informs) > 0 {
			i := st.informs[0]
			st.informs = st.informs[1:]
			c.tellInform(req, i)
			continue
		}
		if st.headDone {
			c.fillResponse(st, resp)
			return nil
		}
		if st.over {
			err := st.writeErr()
			c.release(st)
			return err
		}
		if !c.wait(st, &st.recvGate, st.deadline) {
			c.end(st, errDeadline, ErrCancel, tell)
		}
	}
}

// tellInform calls Inform without the lock.
func (c *Conn) tellInform(req *proxy.Request, i informed) {
	if req.Inform == nil {
		return
	}
	c.unlock()
	defer c.s.Lock()
	req.Inform(i.status, i.fields)
}

func (c *Conn) fillResponse(st *stream, resp *proxy.Response) {
	resp.Status, resp.Reason, resp.Version = st.status, st.reason, proxy.HTTP2
	resp.Fields, st.fields = st.fields, resp.Fields[:0] // the stream keeps the other's memory
	resp.Names, resp.Length, resp.Took, resp.AppTook = st.names, st.inLength, st.took, st.appTook
	resp.OnClose(st)
	switch {
	case st.asks && st.status >= 200 && st.status < 300:
		if st.upgrade {
			resp.Status = 101
		}
		st.noReuse = true
		resp.Length = 0
		resp.Stream = &tunnelStream{st: st, reset: ErrCancel}
	case st.noBody:
	case st.bodyless || st.inLength == 0:
		resp.Length = 0
	default:
		resp.Body = (*responseBody)(st)
	}
}

// gotResponse handles a head from the server. The lock is held.
func (c *Conn) gotResponse(st *stream, b block) error {
	c.limits.reward()
	c.alive.askedAt = 0
	d := &c.head
	if d.TooLarge {
		c.end(st, &proxy.Error{Code: proxy.AppBadAnswer, Detail: "the head of the answer is too large"}, ErrCancel, tell)
		return nil
	}
	status, bad := d.Response()
	if bad == "" && status < 200 && b.endStream {
		bad = "1xx that ends the stream"
	}
	if bad != "" {
		return c.provoked(st, ErrProtocol, "malformed answer: "+bad)
	}
	if status < 200 {
		return c.gotInform(st, status)
	}
	st.headDone, st.status, st.reason = true, status, d.Reason
	st.names, st.took, st.appTook = d.Names|proxy.NamesKnown, d.Took, d.AppTook
	st.fields, d.Fields = d.Fields, st.fields[:0]
	st.noBody = st.noBody || status == 204 || status == 304
	st.asks = st.asks && d.Have&head.Declined == 0
	st.bodyless = b.endStream
	st.inLength = d.Length
	switch {
	case st.asks && status < 300:
		// RFC 9110 section 9.3.6: "A client MUST ignore any Content-Length or Transfer-Encoding header fields received in a
		// successful response to CONNECT."
		st.inLength, st.tunnel = proxy.Unknown, true
	case status == 204:
		st.inLength = 0
	}
	st.recvGate.Wake()
	st.sendGate.Wake()
	if b.endStream {
		return c.gotEnd(st)
	}
	return nil
}

func (c *Conn) gotInform(st *stream, status int) error {
	if status == 100 {
		st.goAhead = true
		st.sendGate.Wake()
	}
	if len(st.informs) >= maxInforms {
		return c.provoked(st, ErrEnhanceYourCalm, "too many 1xx answers")
	}
	st.informs = append(st.informs, informed{status, slices.Clone(c.head.Fields)})
	st.recvGate.Wake()
	return c.charge("1xx answers")
}

// Canceled ends the Exchange of which st is the bottom: its client has left.
func (st *stream) Canceled(err error) {
	c := st.c
	c.s.Lock()
	defer c.unlock()
	if st.watched == nil || st.watched.Err() == nil {
		return // late: st serves another Exchange now
	}
	var e *proxy.Error
	if !errors.As(err, &e) {
		err = &proxy.Error{Code: proxy.ClientGone, Detail: "the client left", Err: err}
	}
	c.end(st, err, ErrCancel, tell)
}

// CloseResponse is the end of a client's stream.
func (st *stream) CloseResponse(*proxy.Response) {
	c := st.c
	c.s.Lock()
	c.end(st, task.ErrClosed, ErrCancel, tell)
	c.release(st)
	c.unlock()
}

// release gives a client's stream back. The lock is held.
func (c *Conn) release(st *stream) {
	if st.watched != nil {
		st.watched.Unwatch(st)
		st.watched = nil
	}
	c.dropUnread(st)
	c.recycle(st)
}

// responseBody is the stream as the content of an answer. It is not used after Response.Close.
type responseBody stream

// Read waits for content. The request's Deadline was for the head.
func (b *responseBody) Read(p []byte) (int, error) {
	st := (*stream)(b)
	return st.c.read(st, p, 0, st.gen)
}

// WaitReadable waits until Read would not wait.
func (b *responseBody) WaitReadable() error {
	st := (*stream)(b)
	return st.c.waitReadable(st, 0, st.gen)
}

// Buffered is what has arrived, -1 at the end.
func (b *responseBody) Buffered() int {
	b.c.s.Lock()
	n := (*stream)(b).available()
	b.c.s.Unlock()
	return n
}

// Trailers are there after io.EOF.
func (b *responseBody) Trailers() proxy.Fields { return b.trailers }

// Truncated is why the stream ended early, nil if it did not or we ended it.
func (b *responseBody) Truncated() error {
	b.c.s.Lock()
	defer b.c.s.Unlock()
	if !b.over || b.inEnd || b.err == task.ErrClosed {
		return nil
	}
	return b.err
}

// Close resets the stream if the answer is not complete.
func (b *responseBody) Close() error {
	st, c := (*stream)(b), b.c
	c.s.Lock()
	if !st.inEnd {
		c.end(st, task.ErrClosed, ErrCancel, tell)
	}
	c.dropChunks(st)
	c.topUp()
	c.unlock()
	return nil
}
