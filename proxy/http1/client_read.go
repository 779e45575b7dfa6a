package http1

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

func resetConn(c task.Conn) error { return c.Reset() }
func closeConn(c task.Conn) error { return c.Close() }

// readAnswer waits for the final head. sendErr is what became of sending the request: an app may have answered and
// closed without reading all of it (RFC 9112 section 9.5), so that a failure counts only if there is no answer. ready is what became of
// waiting for a first byte.
func (cc *ClientConn) readAnswer(req *proxy.Request, resp *proxy.Response, sendErr, ready error) error {
	err := ready
	if err == nil {
		err = cc.in.fillNow()
	}
	for {
		if err == nil {
			err = cc.readHead(req, resp)
		}
		if err != nil {
			if sendErr != nil && !cc.arrived {
				return sendErr
			}
			return err
		}
		if resp.Status >= 200 || resp.Status == 101 {
			break
		}
		if resp.Status == 100 && req.Expect {
			cc.decideLeave(granted)
		}
		if req.Inform != nil {
			req.Inform(resp.Status, resp.Fields)
		}
	}
	cc.c.SetDeadline(0) // it was for the head
	if req.Expect {
		cc.decideLeave(denied) // the content is kept back if the final answer comes before its leave
	}
	return cc.openAnswer(req, resp)
}

// readHead reads one head, final or not.
func (cc *ClientConn) readHead(req *proxy.Request, resp *proxy.Response) error {
	if end, bad := recallResponse(cc.in.unread(), cc.cfg.MaxHead, req, resp, &cc.parsed, cc.cfg.Memory); end > 0 {
		cc.arrived = true
		cc.in.use(end)
		cc.in.release()
		return asError(bad)
	}
	err := cc.awaitVersion()
	var head []byte
	if err == nil {
		head, err = cc.in.readHead(cc.cfg.MaxHead, false, nil)
	}
	cc.arrived = cc.arrived || cc.in.buffered() > 0
	if err != nil {
		return err
	}
	if cap(cc.head) < len(head) {
		cc.head = make([]byte, 0, max(len(head), firstHead))
	}
	cc.head = append(cc.head[:0], head...)
	cc.in.use(len(head))
	cc.in.release()
	return asError(parseResponse(cc.head, req, resp, &cc.parsed, cc.cfg.Memory))
}

// asError is nil if b is.
func asError(b *badMessage) error {
	if b == nil {
		return nil
	}
	return b
}

// awaitVersion waits for the beginning of an answer, and refuses at once what cannot become one: an app that speaks something else may wait for us.
func (cc *ClientConn) awaitVersion() error {
	const version = "HTTP/"
	for {
		b := cc.in.unread()
		n := min(len(b), len(version))
		switch {
		case n == len(version) && string(b[:n]) == version:
			return nil
		case beginsSettings(b):
			if len(b) >= frameHead {
				return ErrHTTP2
			}
		case string(b[:n]) != version[:n]:
			line, _, _ := bytes.Cut(b, []byte("\r\n"))
			return bad("bad status line: " + quoted(str(line)))
		}
		if err := cc.in.fill(); err != nil {
			return err
		}
	}
}

const frameHead = 9 // bytes, RFC 9113 section 4.1

// beginsSettings reports whether b is, as far as it goes, the head of the frame that an HTTP/2 server sends first. RFC 9113 section 3.4: "The server
// connection preface consists of a potentially empty SETTINGS frame [...] that MUST be the first frame the server sends".
func beginsSettings(b []byte) bool {
	if len(b) == 0 || b[0] != 0 {
		return false
	}
	for i := 3; i < min(len(b), frameHead); i++ {
		if b[i] != "\x04\x00\x00\x00\x00\x00"[i-3] { // the type, no flags, stream 0
			return false
		}
	}
	return true
}

// openAnswer sets what follows the final head: nothing, a Body or a Stream. RFC 9112 section 6.3 has the order of the cases.
func (cc *ClientConn) openAnswer(req *proxy.Request, resp *proxy.Response) error {
	if tunnels(req, resp.Status) {
		return cc.openStream(req, resp)
	}
	cc.keep = cc.parsed.persistent(resp.Version)
	how := toEnd
	switch {
	case bodiless(req.Method, resp.Status):
		how = none
		if resp.Status == 204 {
			resp.Length = 0
		}
	case cc.parsed.chunked:
		how = chunked
	case resp.Length >= 0:
		how = sized
	default:
		cc.keep = false
	}
	cc.dec.start(how, resp.Length)
	cc.dec.settle(&cc.in)
	if cc.dec.state != done || how == chunked {
		resp.Body = &cc.answer
	}
	return nil
}

// openStream makes the connection a Stream.
func (cc *ClientConn) openStream(req *proxy.Request, resp *proxy.Response) error {
	if resp.Status == 101 {
		// RFC 9110 section 15.2.2: "The server MUST generate an Upgrade header field in the response that indicates which protocol(s) will be in effect after this response."
		switch got := cc.parsed.upgrade; {
		case req.Upgrade == "":
			return bad("101 (Switching Protocols) in answer to a request without Upgrade")
		case got != "" && !strings.EqualFold(got, req.Upgrade):
			return bad("101 (Switching Protocols) to " + quoted(got) + ", which was not asked for")
		}
		if cc.key != "" {
			if err := takeAgreement(cc.key, resp); err != nil {
				return err
			}
		}
	}
	cc.c.SetDeadline(0)
	resp.Length = 0
	cc.stream.in = &cc.in
	resp.Stream = &cc.stream
	return nil
}

// answerBody is the Body of the answer.
type answerBody struct{ cc *ClientConn }

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.cc.dec.read(&b.cc.in, p)
	if err != nil && err != io.EOF {
		err = b.cc.explainCut(err)
	}
	return n, err
}

func (b *answerBody) Buffered() int          { return b.cc.dec.buffered(&b.cc.in) }
func (b *answerBody) Trailers() proxy.Fields { return b.cc.dec.trailers }

// Truncated is why reading ended early, nil if it did not or we ended it.
func (b *answerBody) Truncated() error {
	err := b.cc.dec.err
	if err == nil || b.cc.dec.state == done || errors.Is(err, task.ErrClosed) {
		return nil
	}
	return b.cc.explainCut(err)
}

// Close abandons what is unread; the connection is dealt with when the Response is closed.
func (b *answerBody) Close() error { return nil }

func (b *answerBody) WaitReadable() error {
	if !b.cc.dec.waits(&b.cc.in) {
		return nil
	}
	return b.cc.in.waitReadable()
}

// explainCut names a failure of the answer's content.
func (cc *ClientConn) explainCut(err error) error {
	named := cc.explain(err)
	if named.Code == proxy.AppClosed && errors.Is(err, errTruncated) {
		named.Detail = "the app closed the connection before its answer was complete"
	}
	return named
}

// clientStream is the Stream of an answer.
type clientStream struct {
	stream
	cc *ClientConn
}

// Close closes the connection, in order.
func (t *clientStream) Close() error {
	t.cc.shut(closeConn)
	return nil
}

// Reset resets the connection.
func (t *clientStream) Reset() error {
	t.cc.shut(resetConn)
	return nil
}
