package http1

import (
	"strconv"

	"github.com/pillion-proxy/pillion/proxy"
)

// appendRequest appends the head of req. Fields keep their order and case; Host stands where Fields have it, with the value of
// Authority, else first (RFC 9110 section 7.2: "a user agent SHOULD generate Host as the first header field"). key is added for a WebSocket
// whose client has none. It reports whether all of it can be said in HTTP/1.1: a request of another codec is looked at here, see safeField. Fields that are in m
// were looked at before; m may be nil.
func appendRequest(b []byte, req *proxy.Request, key string, m *Memory) (_ []byte, safe bool) {
	trusted := req.Version < proxy.HTTP2
	if !trusted && !safeTarget(req) {
		return b, false
	}
	b = append(b, req.Method...)
	b = append(b, ' ')
	if req.Method == "CONNECT" {
		b = append(b, req.Authority...)
	} else {
		b = append(b, req.Path...)
	}
	b = append(b, " HTTP/1.1\r\n"...)
	if req.Lacks(proxy.NameHost) || !req.Fields.Has("Host") {
		b = appendField(b, "Host", req.Authority)
	}
	w := fieldWriter{m: m, trusted: trusted, authority: req.Authority, length: requestLength(req)}
	b, safe = w.append(b, req.Fields)
	if !safe {
		return b, false
	}
	switch {
	case req.Upgrade != "":
		b = append(b, "Connection: Upgrade\r\nUpgrade: "...)
		b = append(b, req.Upgrade...)
		b = append(b, "\r\n"...)
		if key != "" {
			b = appendField(b, wsKey, key)
		}
	case w.te:
		// RFC 9110 section 10.1.4: "A sender of TE MUST also send a "TE" connection option within the Connection
		// header field".
		b = append(b, "Connection: TE\r\n"...)
	}
	if hasContent(req) && req.Length == proxy.Unknown {
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	b = appendLength(b, "Content-Length", &w.length)
	return append(b, "\r\n"...), true
}

// sizeOf is no less than what appendRequest appends, unless key is long, in bytes.
func sizeOf(req *proxy.Request) int {
	n := len(req.Method) + len(req.Path) + 2*len(req.Authority) + len(req.Upgrade) + 256
	for i := range req.Fields {
		n += len(req.Fields[i].Name) + len(req.Fields[i].Value) + len(": \r\n")
	}
	return n
}

// requestLength is the Content-Length of req, or -1 for none. Without content there is one if the sender had one, or
// if the method is one that expects content.
func requestLength(req *proxy.Request) int64 {
	switch {
	case hasContent(req):
		return req.Length
	case req.Method == "CONNECT":
		return -1
	case expectsContent(req.Method) || !req.Lacks(proxy.NameLength) && req.Fields.Has("Content-Length"):
		return 0
	}
	return -1
}

// hasContent reports whether content follows the head of req. A request for a Stream has none.
func hasContent(req *proxy.Request) bool {
	return req.Body != nil && req.Length != 0 && req.Upgrade == "" && req.Method != "CONNECT"
}

// expectsContent reports whether a request with this method says so when it has no content. RFC 9110 section 8.6: "a
// user agent SHOULD send Content-Length in a request when the method defines a meaning for enclosed content and it is not sending Transfer-Encoding."
func expectsContent(method string) bool {
	return method == "POST" || method == "PUT" || method == "PATCH"
}

// ours reports whether a field is written by the codec and never taken from Fields, whoever may have put it there.
func ours(name string) bool {
	switch len(name) {
	case 7:
		return foldEqual(name, "upgrade")
	case 10:
		return foldEqual(name, "connection")
	case 14:
		return foldEqual(name, "content-length")
	case 17:
		return foldEqual(name, "transfer-encoding")
	}
	return false
}

func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

// appendLength appends a Content-Length unless n is negative, and makes n negative: it is said once.
func appendLength(b []byte, name string, n *int64) []byte {
	if *n < 0 {
		return b
	}
	b = append(b, name...)
	b = append(b, ": "...)
	b = strconv.AppendInt(b, *n, 10)
	*n = -1
	return append(b, "\r\n"...)
}

func isLength(name string) bool { return len(name) == 14 && foldEqual(name, "content-length") }

// appendStatus appends a status line and fields, among them a Content-Length unless length is negative: where fields have one, else last.
// The version is always our own, RFC 9110 section 6.2.
func appendStatus(b []byte, status int, reason string, fields proxy.Fields, length int64) []byte {
	b, _ = appendChecked(appendStatusLine(b, status, reason), fields, length, true, nil)
	return b
}

func appendStatusLine(b []byte, status int, reason string) []byte {
	if status == 200 && (reason == "" || reason == "OK") {
		b = append(b, "HTTP/1.1 200 OK\r\n"...)
	} else {
		if reason == "" {
			reason = customary(status)
		}
		b = append(b, "HTTP/1.1 "...)
		b = strconv.AppendInt(b, int64(status), 10)
		b = append(b, ' ')
		b = append(b, reason...)
		b = append(b, "\r\n"...)
	}
	return b
}

// appendChecked appends the fields of an answer, and reports whether they can be said in HTTP/1.1, as appendRequest does.
func appendChecked(b []byte, fields proxy.Fields, length int64, trusted bool, m *Memory) (_ []byte, safe bool) {
	w := fieldWriter{m: m, trusted: trusted, length: length}
	if b, safe = w.append(b, fields); !safe {
		return b, false
	}
	return appendLength(b, "Content-Length", &w.length), true
}

// traceparent has a value of its own in each request, which nothing can remember.
const traceparent = "traceparent"

// fieldWriter writes the fields of one head.
type fieldWriter struct {
	m         *Memory // may be nil
	trusted   bool    // fields need no look
	authority string  // what Host says; "": what the field says
	length    int64   // what Content-Length says, until it was said; negative: nothing
	te        bool    // there is a TE
}

// append appends fields, and reports whether they can be said. Nearly all of them are in memory: the rest is in one.
func (w *fieldWriter) append(b []byte, fields proxy.Fields) (_ []byte, safe bool) {
	for i := range fields {
		f := &fields[i]
		p := w.m.writing(i)
		l := p.field(f)
		if l == nil || l.kind != inert {
			if b, safe = w.one(b, p, l, f); !safe {
				return b, false
			}
			continue
		}
		b = append(b, l.text...)
	}
	return b, true
}

// one appends f, of which l, if not nil, is what is remembered at p.
func (w *fieldWriter) one(b []byte, p *place, l *line, f *proxy.Field) (_ []byte, safe bool) {
	if f.Name == traceparent {
		return appendField(b, f.Name, f.Value), w.trusted || validValueString(f.Value)
	}
	switch {
	case l == nil:
	case l.kind == hostLine && (w.authority == "" || w.authority == l.value):
		return append(b, l.text...), true
	case l.kind == lengthLine && w.length == l.length:
		w.length = -1
		return append(b, l.text...), true
	}
	switch {
	case !w.trusted && !safeField(f):
		return b, false
	case isLength(f.Name):
		b = appendLength(b, f.Name, &w.length)
	case ours(f.Name):
	case len(f.Name) == 4 && w.authority != "" && foldEqual(f.Name, "host"):
		b = appendField(b, f.Name, w.authority)
	default:
		w.te = w.te || len(f.Name) == 2 && foldEqual(f.Name, "te")
		b = appendField(b, f.Name, f.Value)
	}
	w.m.learnWritten(p, f)
	return b, true
}

// appendTrailers appends what ends a chunked content.
func appendTrailers(b []byte, trailers proxy.Fields) []byte {
	b = append(b, "0\r\n"...)
	for i := range trailers {
		b = appendField(b, trailers[i].Name, trailers[i].Value)
	}
	return append(b, "\r\n"...)
}

const (
	chunkHead = 6         // bytes reserved before the data of a chunk: four hexadecimal digits and CRLF
	chunkTail = 2         // CRLF
	maxChunk  = 1<<16 - 1 // bytes of data in a chunk that we make
	hexDigits = "0123456789abcdef"
)

// closeChunk makes a chunk of the n bytes, at least one and at most maxChunk, that stand in b from at+chunkHead on. It returns where the chunk ends.
func closeChunk(b []byte, at, n int) int {
	digits := 1
	for n>>(4*digits) != 0 {
		digits++
	}
	data := at + digits + 2
	if digits < 4 {
		copy(b[data:], b[at+chunkHead:at+chunkHead+n])
	}
	for i := range digits {
		b[at+i] = hexDigits[n>>(4*(digits-1-i))&15]
	}
	b[data-2], b[data-1] = '\r', '\n'
	b[data+n], b[data+n+1] = '\r', '\n'
	return data + n + 2
}

// safeTarget, safeField and safeFields look at what another codec has read: HTTP/2 frames its fields by length, and a line end in one would begin
// a new line here (RFC 9113 section 10.3).
func safeTarget(req *proxy.Request) bool {
	target := req.Path
	if req.Method == "CONNECT" {
		target = req.Authority
	}
	return isTokenString(req.Method) && target != "" && validTarget(target) && validTarget(req.Authority) &&
		(req.Upgrade == "" || validProtocol(req.Upgrade) && !hidesRequests(req.Upgrade))
}

func safeField(f *proxy.Field) bool { return isTokenString(f.Name) && validValueString(f.Value) }

func safeFields(fs proxy.Fields) bool {
	for i := range fs {
		if !safeField(&fs[i]) {
			return false
		}
	}
	return true
}

// customary is the reason phrase of RFC 9110 section 15, or "".
func customary(status int) string {
	if i := status - 100; i >= 0 && i < len(reasons) {
		return reasons[i]
	}
	return ""
}

// reasons is a constant table, by status-100.
var reasons = [...]string{
	0: "Continue", 1: "Switching Protocols", 2: "Processing", 3: "Early Hints",
	100: "OK", 101: "Created", 102: "Accepted", 103: "Non-Authoritative Information", 104: "No Content",
	105: "Reset Content", 106: "Partial Content", 107: "Multi-Status", 108: "Already Reported", 126: "IM Used",
	200: "Multiple Choices", 201: "Moved Permanently", 202: "Found", 203: "See Other", 204: "Not Modified",
	205: "Use Proxy", 207: "Temporary Redirect", 208: "Permanent Redirect",
	300: "Bad Request", 301: "Unauthorized", 302: "Payment Required", 303: "Forbidden", 304: "Not Found",
	305: "Method Not Allowed", 306: "Not Acceptable", 307: "Proxy Authentication Required", 308: "Request Timeout",
	309: "Conflict", 310: "Gone", 311: "Length Required", 312: "Precondition Failed", 313: "Content Too Large",
	314: "URI Too Long", 315: "Unsupported Media Type", 316: "Range Not Satisfiable", 317: "Expectation Failed",
	318: "I'm a teapot", 321: "Misdirected Request", 322: "Unprocessable Content", 323: "Locked",
	324: "Failed Dependency", 325: "Too Early", 326: "Upgrade Required", 328: "Precondition Required",
	329: "Too Many Requests", 331: "Request Header Fields Too Large", 351: "Unavailable For Legal Reasons",
	399: "Client Closed Request",
	400: "Internal Server Error", 401: "Not Implemented", 402: "Bad Gateway", 403: "Service Unavailable",
	404: "Gateway Timeout", 405: "HTTP Version Not Supported", 406: "Variant Also Negotiates",
	407: "Insufficient Storage", 408: "Loop Detected", 411: "Network Authentication Required",
}
