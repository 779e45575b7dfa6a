package head

import (
	"strconv"
	"strings"
	"unsafe"

	"github.com/pillion-proxy/pillion/proxy"
)

// Writer compresses one line after the other: pseudo-header fields first, with the name as it is sent. It does not keep the strings.
type Writer interface {
	Field(name, value string)
}

// Encoder writes the heads of messages to W. It is used by one task at a time.
type Encoder struct {
	W Writer
	// Verbatim: both ends are pillions.
	Verbatim bool

	lower  Lowerer
	number []byte // scratch
}

// Request writes the head of req. An Upgrade becomes extended CONNECT (RFC 8441, RFC 9220).
func (e *Encoder) Request(req *proxy.Request) {
	method := req.Method
	if req.Upgrade != "" {
		method = "CONNECT"
	}
	e.W.Field(":method", method)
	if !req.IsConnect() {
		scheme, path := req.Scheme, req.Path
		if scheme != "https" {
			scheme = "http"
		}
		if path == "" {
			path = "/"
		}
		e.W.Field(":scheme", scheme)
		e.W.Field(":path", path)
	}
	if req.Authority != "" {
		e.W.Field(":authority", req.Authority)
	}
	if req.Upgrade != "" {
		e.W.Field(":protocol", req.Upgrade)
	}
	length := int64(-1)
	if req.Upgrade == "" && (req.Length > 0 || req.Length == 0 && WantsLength(req.Method)) {
		length = req.Length
	}
	if req.Expect && !req.Fields.Has("expect") {
		e.W.Field("expect", "100-continue")
	}
	e.fields(req.Fields, length, req)
}

// WantsLength reports whether a request without a body says so. RFC 9110 section 8.6: "a user agent normally sends Content-Length in a POST request even when the value is 0".
func WantsLength(method string) bool { return method == "POST" || method == "PUT" || method == "PATCH" }

// Response writes the final head of resp, with status in place of its own.
func (e *Encoder) Response(req *proxy.Request, resp *proxy.Response, status int) {
	e.status(status)
	if e.Verbatim && resp.Reason != "" && ValidValue(resp.Reason) {
		e.W.Field(":reason", resp.Reason)
	}
	if e.Verbatim && IsDeclined(req, resp, status) {
		e.W.Field(":declined", "1")
	}
	none := status == 204 || resp.Stream != nil || resp.Flow != nil || resp.Length == 0 && resp.Fields.Has("grpc-status")
	length := int64(-1)
	if !none && !(resp.Length == 0 && status == 304) {
		length = resp.Length
	}
	e.fields(resp.Fields, length, nil)
}

// Inform writes the head of a 1xx answer.
func (e *Encoder) Inform(status int, fields proxy.Fields) {
	e.status(status)
	e.fields(fields, -1, nil)
}

// Trailers writes trailer fields.
func (e *Encoder) Trailers(fields proxy.Fields) { e.fields(fields, -1, nil) }

// IsDeclined reports whether an answer that HTTP/2 and HTTP/3 would take for the agreement to a Stream (RFC 8441 section 5, RFC 9113 section
// 8.5) comes without one: in HTTP/1 the app may pass over an Upgrade and answer 200. Only a pillion can be told.
func IsDeclined(req *proxy.Request, resp *proxy.Response, status int) bool {
	return (req.Upgrade != "" || req.IsConnect()) && resp.Stream == nil && resp.Flow == nil && 200 <= status && status < 300
}

// Size is what RFC 9113 section 6.5.2 counts for req's head, or a little more.
func Size(req *proxy.Request) int64 {
	n := int64(len(req.Method) + len(req.Scheme) + len(req.Authority) + len(req.Path) + 4*(overhead+10))
	for i := range req.Fields {
		n += int64(len(req.Fields[i].Name) + len(req.Fields[i].Value) + overhead)
	}
	return n
}

func (e *Encoder) status(n int) {
	if n == 200 {
		e.W.Field(":status", "200")
		return
	}
	e.W.Field(":status", e.text(int64(n)))
}

// text is n as text, valid until the next call.
func (e *Encoder) text(n int64) string {
	e.number = strconv.AppendInt(e.number[:0], n, 10)
	return unsafe.String(unsafe.SliceData(e.number), len(e.number))
}

// fields writes regular fields: as they are to a pillion, in lower case and without Host to others. A length that is not negative is
// said once, in the place and case that it has in fields. req is nil but for requests.
func (e *Encoder) fields(fields proxy.Fields, length int64, req *proxy.Request) {
	for i := range fields {
		f := &fields[i]
		name := f.Name
		if !e.Verbatim {
			name = e.lower.Lower(name)
		}
		switch {
		case IsContentLength(name):
			if length >= 0 {
				e.W.Field(name, e.text(length))
				length = -1
			}
		case !LeftOut(f, req, e.Verbatim):
			e.W.Field(name, f.Value)
		}
	}
	if length >= 0 {
		e.W.Field("content-length", e.text(length))
	}
}

// Lowerer makes names lower-case in memory of its own. Its zero value is ready.
type Lowerer struct{ b []byte }

// Lower returns name in lower case, valid until the next call.
func (l *Lowerer) Lower(name string) string {
	for i := 0; i < len(name); i++ {
		if c := name[i]; 'A' <= c && c <= 'Z' {
			return l.lower(name)
		}
	}
	return name
}

func (l *Lowerer) lower(name string) string {
	l.b = append(l.b[:0], name...)
	for i, c := range l.b {
		if 'A' <= c && c <= 'Z' {
			l.b[i] = c + 'a' - 'A'
		}
	}
	return unsafe.String(unsafe.SliceData(l.b), len(l.b))
}

// IsContentLength reports whether name is Content-Length, which LeftOut leaves to framing.
func IsContentLength(name string) bool {
	return len(name) == len("content-length") && strings.EqualFold(name, "content-length")
}

// LeftOut reports whether f is not written: HTTP/2 and HTTP/3 have no such field, or framing has its own. req is nil but for requests, and verbatim
// says that both ends are pillions. RFC 8441 section 5: those that use "extended CONNECT to
// bootstrap WebSockets do not do the processing of the Sec-WebSocket-Key and Sec-WebSocket-Accept header fields": the ends that speak HTTP/1 make them.
func LeftOut(f *proxy.Field, req *proxy.Request, verbatim bool) bool {
	name := f.Name
	if name == "" || name[0] == ':' || ConnectionSpecific(name) {
		return true
	}
	switch len(name) {
	case len("te"):
		return strings.EqualFold(name, "te") && !strings.EqualFold(f.Value, "trailers")
	case len("host"):
		// It stays for a pillion, unless a layer has changed the authority.
		return req != nil && strings.EqualFold(name, "host") && !(verbatim && strings.EqualFold(f.Value, req.Authority))
	case len("sec-websocket-key"):
		return req != nil && req.Upgrade != "" && !verbatim && strings.EqualFold(name, "sec-websocket-key")
	case len("sec-websocket-accept"):
		return req == nil && !verbatim && strings.EqualFold(name, "sec-websocket-accept")
	case len("expect"):
		return req != nil && !req.Expect && strings.EqualFold(name, "expect") && strings.EqualFold(f.Value, "100-continue")
	}
	return false
}
