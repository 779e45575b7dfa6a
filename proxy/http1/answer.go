package http1

import (
	"errors"
	"io"
	"strconv"

	"github.com/pillion-proxy/pillion/proxy"
)

// answer sends the answer in x.resp and ends the exchange. It reports whether the connection can take another request.
func (x *exchange) answer() bool {
	if x.resp.Stream != nil {
		return x.tunnel()
	}
	if err := x.checkAnswer(); err != nil {
		x.resp.Close()
		x.fill(err)
	}
	x.beginAnswer()
	x.decideLast()
	last := x.last
	readErr, writeErr := x.send()
	if readErr == errUnsayable {
		x.out.free()
		x.resp.Close()
		x.fill(readErr)
		x.last = last
		readErr, writeErr = x.send()
	}
	if readErr != nil && !x.out.sent && x.left() == nil {
		x.out.free()
		x.resp.Close()
		x.fill(asAnswerError(readErr))
		readErr, writeErr = x.send()
	}
	x.out.free()
	if readErr != nil || writeErr != nil {
		return x.abort()
	}
	x.resp.Close()
	x.unwatch()
	return x.settle()
}

// errUnsayable is the answer of another codec with a line that would be another one here.
var errUnsayable error = &proxy.Error{Code: proxy.AppBadAnswer, Detail: "a field of the answer cannot be said in HTTP/1.1"}

// checkAnswer refuses what no answer can be. Fields are looked at when they are written.
func (x *exchange) checkAnswer() error {
	r := &x.resp
	switch {
	case r.Status < 200 || r.Status > 999:
		return &proxy.Error{Code: proxy.AppBadAnswer, Detail: "the status " + strconv.Itoa(r.Status) + " is no final answer"}
	case r.Version >= proxy.HTTP2 && !validValueString(r.Reason):
		return errUnsayable
	case r.Body == nil && r.Length > 0 && !bodiless(x.req.Method, r.Status):
		return &proxy.Error{Code: proxy.Internal, Detail: "an answer with a length and no content"}
	}
	return nil
}

// decideLast says whether the connection ends with this answer, as far as can be known before it is sent.
//
// RFC 9110 section 10.1.1, of a client that waits for 100: "A server that responds with a final status code instead [...] MUST either close the connection or continue
// reading and discarding the rest of the request".
func (x *exchange) decideLast() {
	if c := x.srv.cfg.Closing; c != nil && c() {
		x.last = true
	}
	if x.body == nil {
		return
	}
	x.s.Lock()
	defer x.s.Unlock()
	if x.req.Expect && !x.wentOn && !x.body.started {
		x.last, x.unread = true, true
	}
}

// send writes head and content.
func (x *exchange) send() (readErr, writeErr error) {
	r := &x.resp
	how := none
	if !bodiless(x.req.Method, r.Status) && r.Body != nil {
		switch {
		case r.Length >= 0:
			how = sized
		case x.req.Version == proxy.HTTP10:
			// RFC 9112 section 6.1: "A server MUST NOT send a response containing Transfer-Encoding unless the corresponding request
			// indicates HTTP/1.1 (or later minor revisions)."
			how = toEnd
			x.last = true
		default:
			how = chunked
		}
	}
	b, safe := x.appendHead(x.out.begin(), how)
	x.out.headed(b)
	if !safe {
		return errUnsayable, nil
	}
	x.out.hand = !x.last
	if how == none {
		return nil, x.out.end()
	}
	return x.out.content(r.Body, how, r.Length)
}

// appendHead appends the head of the answer. It reports whether that can be said in HTTP/1.1.
func (x *exchange) appendHead(b []byte, how framing) (_ []byte, safe bool) {
	r := &x.resp
	b = appendStatusLine(b, r.Status, r.Reason)
	if b, safe = appendChecked(b, r.Fields, x.answerLength(how), r.Version < proxy.HTTP2, x.memory); !safe {
		return b, false
	}
	if how == chunked {
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	switch {
	case x.last:
		b = append(b, "Connection: close\r\n"...)
	case x.req.Version == proxy.HTTP10:
		b = append(b, "Connection: keep-alive\r\n"...)
	}
	return append(b, "\r\n"...), true
}

// answerLength is the Content-Length of the answer, or -1 for none.
func (x *exchange) answerLength(how framing) int64 {
	r := &x.resp
	switch {
	case how == sized:
		return r.Length
	case how != none, r.Status == 204: // RFC 9110 section 8.6: "A server MUST NOT send a Content-Length header field in any response with a status code of 1xx or 204"
		return -1
	case x.req.Method == "HEAD":
		return r.Length
	case r.Status == 304:
		if r.Length == 0 {
			return -1 // more likely nobody said it
		}
		return r.Length
	}
	return 0
}

// abort ends an exchange whose answer cannot be completed, so that nobody takes it for complete.
func (x *exchange) abort() bool {
	x.out.free()
	x.c.Reset()
	x.cancel.Cancel(errGone)
	x.resp.Close()
	x.unwatch()
	x.awaitReader()
	return false
}

// settle ends an exchange whose answer was sent, and deals with what is unread of the request.
func (x *exchange) settle() bool {
	if x.body != nil {
		if x.closeBody() {
			x.c.CloseWrite()
			x.awaitReader()
			x.linger()
			return false
		}
		if x.body.dec.state != done && (x.last || !x.drain()) {
			x.unread = true
		}
	}
	switch {
	case x.unread || x.last && x.in.buffered() > 0:
		x.linger()
		return false
	case x.last:
		x.c.Close()
		return false
	}
	return true
}

// drain reads the rest of an unwanted content if it is short and quick to come.
func (x *exchange) drain() bool {
	d := &x.body.dec
	if d.how == sized && d.left > maxDrain {
		return false
	}
	x.c.SetDeadline(x.s.Now().Add(drainTime))
	defer x.c.SetDeadline(0)
	b := x.s.Buffer()
	defer x.s.Free(b)
	for n := 0; n <= maxDrain; {
		m, err := d.read(&x.in, b.B)
		n += m
		if err != nil {
			return err == io.EOF
		}
	}
	return false
}

// linger closes the connection so that the client sees the answer. RFC 9112 section 9.6: "If a server performs an immediate close of a TCP connection, there is a significant risk that the client
// will not be able to read the last HTTP response. [...] servers typically close a connection in stages. First, the
// server performs a half-close by closing only the write side of the read/write connection. The server then
// continues to read from the connection until it receives a corresponding close by the client".
func (x *exchange) linger() {
	x.in.drop()
	x.c.CloseWrite()
	x.c.SetDeadline(x.s.Now().Add(x.srv.cfg.Linger))
	for n := 0; n < maxDrain; {
		if x.in.fill() != nil {
			break
		}
		n += x.in.buffered()
		x.in.drop()
	}
	x.c.SetDeadline(0)
	x.c.Close()
}

// awaitReader waits for the task that still reads the abandoned content: first for what the client does, then by closing.
func (x *exchange) awaitReader() {
	until := x.s.Now().Add(x.srv.cfg.Linger)
	for x.closeBody() {
		if !x.gate.Wait(until) {
			x.c.Close()
			until = 0
		}
	}
}

// asAnswerError names a failure of the answer's content.
func asAnswerError(err error) error {
	var named *proxy.Error
	if errors.As(err, &named) {
		return err
	}
	return &proxy.Error{Code: proxy.PeerReset, Detail: "the answer broke off before any of it could be passed on", Err: err}
}

// plainAnswer is what a Server without Answer says.
func plainAnswer(r *proxy.Response, err error) {
	r.Status, r.Code = 500, string(proxy.Internal)
	var named *proxy.Error
	if errors.As(err, &named) {
		r.Status, r.Code = named.Code.Status(), string(named.Code)
	}
	text := err.Error() + "\n"
	r.Version = proxy.HTTP11
	r.Fields.Add("Content-Type", "text/plain; charset=utf-8")
	r.Length = int64(len(text))
	r.Body = &proxy.Content{Left: []byte(text)}
}
