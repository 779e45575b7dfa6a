package http1

import (
	"github.com/pillion-proxy/pillion/proxy"
)

// stream is what becomes of a connection after 101, or after 2xx to CONNECT. It first gives the bytes that came behind the head.
type stream struct {
	in *source
}

func (t *stream) Read(p []byte) (int, error)  { return t.in.read(p) }
func (t *stream) Write(p []byte) (int, error) { return t.in.c.Write(p) }
func (t *stream) WaitReadable() error         { return t.in.waitReadable() }
func (t *stream) CloseWrite() error           { return t.in.c.CloseWrite() }
func (t *stream) Close() error                { return t.in.c.Close() }
func (t *stream) Reset() error                { return t.in.c.Reset() }

// tunnel tells the client that it has its Stream, and relays until both directions have ended.
func (x *exchange) tunnel() bool {
	if x.srv.cfg.Tunnel == nil || x.req.Upgrade == "" && x.req.Method != "CONNECT" {
		x.resp.Close()
		x.fill(&proxy.Error{Code: proxy.Internal, Detail: "a Stream in answer to a request for none"})
		return x.answer()
	}
	x.beginAnswer()
	x.unwatch()
	completeAgreement(&x.req, &x.resp)
	x.out.headed(x.appendAgreement(x.out.begin()))
	err := x.out.flush()
	x.out.free()
	if err != nil {
		return x.abort()
	}
	x.srv.cfg.Tunnel(x.s, &stream{in: &x.in}, x.resp.Stream)
	x.resp.Close()
	x.c.Close()
	return false
}

// appendAgreement appends the head of a 101, or of the 2xx to CONNECT. RFC 9110 section 9.3.6: "A server MUST NOT send any
// Transfer-Encoding or Content-Length header fields in a 2xx (Successful) response to CONNECT."
func (x *exchange) appendAgreement(b []byte) []byte {
	r := &x.resp
	if x.req.Upgrade == "" {
		if r.Status < 200 || r.Status > 299 {
			r.Status, r.Reason = 200, ""
		}
		b = appendStatus(b, r.Status, r.Reason, r.Fields, -1)
		return append(b, "\r\n"...)
	}
	if r.Status != 101 {
		r.Status, r.Reason = 101, ""
	}
	b = appendStatus(b, r.Status, r.Reason, r.Fields, -1)
	b = append(b, "Connection: Upgrade\r\nUpgrade: "...)
	b = append(b, x.req.Upgrade...)
	return append(b, "\r\n\r\n"...)
}
