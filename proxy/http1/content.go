package http1

import (
	"errors"
	"io"

	"github.com/pillion-proxy/pillion/proxy"
)

// content is the Body of a request on a server's connection. It reads from the connection of its exchange until the exchange abandons it.
type content struct {
	x *exchange

	// Guarded by the shard's lock.
	closed  bool // the exchange is over
	reading bool // a task is in Read or WaitReadable
	started bool // some of it has arrived
	read    int64

	// Owned by the task in Read.
	dec decoder
}

// openBody makes the Body of the request that was parsed. If the content has wholly arrived it is x's own; else another
// task may be reading it when the answer is complete, so it is a new one that nobody uses again.
func (x *exchange) openBody() {
	if x.req.Length == 0 {
		return
	}
	b := &x.inline
	x.inlined = true
	b.x, b.closed, b.reading, b.read = x, false, false, 0
	how := sized
	if x.req.Length == proxy.Unknown {
		how = chunked
	}
	b.dec.start(how, x.req.Length)
	if !b.dec.whole(&x.in) {
		b = &content{x: x}
		b.dec.start(how, x.req.Length)
	}
	b.started = x.in.buffered() > 0
	x.body = b
	x.req.Body = b
}

// enter begins a use by a reader.
func (b *content) enter() error {
	b.x.s.Lock()
	defer b.x.s.Unlock()
	if b.closed {
		return errClosedBody
	}
	b.reading = true
	return nil
}

// exit ends it. An exchange that has abandoned the content waits for that.
func (b *content) exit(n int) (abandoned bool) {
	b.x.s.Lock()
	defer b.x.s.Unlock()
	b.reading = false
	b.read += int64(n)
	b.started = b.started || n > 0
	if b.closed {
		b.x.gate.Wake()
	}
	return b.closed
}

// Read reads content; see proxy.Body.
func (b *content) Read(p []byte) (int, error) {
	if err := b.enter(); err != nil {
		return 0, err
	}
	if b.dec.waits(&b.x.in) {
		b.x.sendContinue()
	}
	was := b.dec.state
	n, err := b.dec.read(&b.x.in, p)
	if was != done && b.dec.state == done {
		b.x.watch() // the watch of before has seen no more than that content came
	}
	if b.exit(n) {
		return 0, errClosedBody
	}
	if err != nil && err != io.EOF {
		err = asContentError(err)
	}
	return n, err
}

// asContentError names a failure of a request's content.
func asContentError(err error) error {
	var b *badMessage
	if errors.As(err, &b) {
		return &proxy.Error{Code: proxy.BadRequest, Detail: "the content of the request: " + b.reason}
	}
	return &proxy.Error{Code: proxy.ClientGone, Detail: "the content of the request was cut short", Err: err}
}

// WaitReadable waits until Read would not, without a buffer; see proxy.Waiter.
func (b *content) WaitReadable() error {
	if err := b.enter(); err != nil {
		return err
	}
	err := error(nil)
	if b.dec.waits(&b.x.in) {
		b.x.sendContinue()
		err = b.x.in.waitReadable()
	}
	if b.exit(0) {
		return errClosedBody
	}
	return err
}

// Buffered is what Read returns without waiting; see proxy.Body.
func (b *content) Buffered() int {
	if b.enter() != nil {
		return -1
	}
	defer b.exit(0)
	return b.dec.buffered(&b.x.in)
}

// Trailers are those of the request, after io.EOF.
func (b *content) Trailers() proxy.Fields {
	if b.enter() != nil {
		return nil
	}
	defer b.exit(0)
	return b.dec.trailers
}

// Count is how much has been read; see proxy.Counter.
func (b *content) Count() int64 {
	b.x.s.Lock()
	defer b.x.s.Unlock()
	return b.read
}

// Close makes further reads fail. What is unread is dealt with at the end of the exchange.
func (b *content) Close() error {
	b.x.s.Lock()
	defer b.x.s.Unlock()
	b.closed = true
	return nil
}

// closeBody abandons the request's content. It reports whether a task is still reading it.
func (x *exchange) closeBody() (reading bool) {
	b := x.body
	if b == nil {
		return false
	}
	x.s.Lock()
	defer x.s.Unlock()
	b.closed = true
	return b.reading
}

// sendContinue lets a client send the content that it holds back.
//
// RFC 9110 section 10.1.1: "A server that responds with a 100 (Continue) response MUST send a final status code after".
// A content that has begun to arrive needs none.
func (x *exchange) sendContinue() {
	if !x.req.Expect || !x.beginPush(continued) {
		return
	}
	x.c.Push(continueLine)
	x.endPush()
}

// continueLine is constant.
var continueLine = []byte("HTTP/1.1 100 Continue\r\n\r\n")

// inform passes a 1xx answer on. RFC 9110 section 15.2: "A proxy MUST forward 1xx responses unless the proxy itself requested the
// generation of the 1xx response", and "a server MUST NOT send a 1xx response to an HTTP/1.0 client".
func (x *exchange) inform(status int, fields proxy.Fields) {
	if x.req.Version == proxy.HTTP10 || status < 100 || status > 199 || status == 101 {
		return
	}
	if !safeFields(fields) {
		return
	}
	to := unanswered
	if status == 100 {
		to = continued
	}
	if x.c.Queued() > maxPushed || !x.beginPush(to) {
		return
	}
	b := x.s.Buffer()
	line := appendStatus(b.B[:0], status, "", fields, -1)
	line = append(line, "\r\n"...)
	x.c.Push(line)
	x.s.Free(b)
	x.endPush()
}

// beginPush reports whether a 1xx may still be sent, and once only if it is 100.
func (x *exchange) beginPush(to answerState) bool {
	x.s.Lock()
	defer x.s.Unlock()
	if x.state == answered || x.pushing || to == continued && x.state == continued {
		return false
	}
	x.state = max(x.state, to)
	x.pushing = true
	return true
}

func (x *exchange) endPush() {
	x.s.Lock()
	defer x.s.Unlock()
	x.pushing = false
}

// beginAnswer lets no 1xx be sent from now on.
func (x *exchange) beginAnswer() {
	x.s.Lock()
	x.wentOn = x.state == continued
	x.state = answered
	for x.pushing {
		x.s.Unlock()
		x.s.Yield()
		x.s.Lock()
	}
	x.s.Unlock()
}
