package http1

import (
	"bytes"
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
)

// parseRequest reads a whole head, as scanHead found it, into req. The strings of req share b's memory. It sets Method,
// Scheme, Authority, Path, Version, Upgrade, Fields, Length and Expect. m may be nil.
func parseRequest(b []byte, req *proxy.Request, h *head, m *Memory) *badMessage {
	h.reset()
	target, rest, err := parseRequestStart(b, req, m)
	if err != nil {
		return err
	}
	if err := parseFields(rest, &req.Fields, h, m); err != nil {
		return err
	}
	return h.request(req, target)
}

// recallRequest is parseRequest for a head that b begins with and that is in m as a whole: it returns the length of the head, or 0. The
// strings of req are m's then.
func recallRequest(b []byte, most int, req *proxy.Request, h *head, m *Memory) (end int, err *badMessage) {
	if m == nil {
		return 0, nil
	}
	if l := m.heads.begins(b); l != nil && len(l.text) <= most {
		h.takeWhole(l.whole, &req.Fields)
		req.Method, req.Scheme, req.Authority, req.Path, req.Version = l.method, l.whole.scheme, l.whole.authority, l.target, l.version
		req.Length, req.Names = l.length, l.names
		req.Upgrade, req.Expect = "", false
		return len(l.text), nil
	}
	start, end := m.recall(b, most, &req.Fields, h)
	if start == nil {
		return 0, nil
	}
	req.Method, req.Version = start.method, start.version
	if err = h.request(req, start.target); err == nil && req.Upgrade == "" && !req.Expect {
		m.learnWhole(b[:end], line{method: req.Method, target: req.Path, version: req.Version, length: req.Length, names: req.Names}, h, req.Fields, req.Scheme, req.Authority)
	}
	return end, err
}

func parseRequestStart(b []byte, req *proxy.Request, m *Memory) (target string, rest []byte, err *badMessage) {
	if l := m.reading(0).begins(b); l != nil {
		req.Method, req.Version = l.method, l.version
		return l.target, b[len(l.text):], nil
	}
	start, rest := nextLine(b)
	if target, err = parseRequestLine(start, req); err == nil {
		m.learnStart(start, line{method: req.Method, target: target, version: req.Version})
	}
	return target, rest, err
}

// request sets what the fields say about the request as a whole.
func (h *head) request(req *proxy.Request, target string) *badMessage {
	if err := h.requestHost(req.Version); err != nil {
		return err
	}
	if err := h.requestFraming(req); err != nil {
		return err
	}
	if err := h.requestTarget(req, target); err != nil {
		return err
	}
	h.requestOptions(req)
	req.Names = h.names | proxy.NamesKnown
	return nil
}

// parseRequestLine reads "method SP request-target SP HTTP-version", RFC 9112 section 3.
//
// We take no whitespace but the two spaces. Section 3: "Although the request-line grammar rules require that each of the component elements be separated by a single SP octet, recipients MAY
// instead parse on whitespace-delimited word boundaries [...] lenient parsing can result in request smuggling security vulnerabilities".
func parseRequestLine(line []byte, req *proxy.Request) (target string, err *badMessage) {
	i := bytes.IndexByte(line, ' ')
	if i <= 0 || !isTokenString(str(line[:i])) {
		return "", bad("the request line does not begin with a method: " + quoted(str(line)))
	}
	req.Method = str(line[:i])
	line = line[i+1:]
	if i = bytes.LastIndexByte(line, ' '); i < 0 {
		return "", bad("the request line has no version: " + quoted(str(line)))
	}
	version := line[i+1:]
	target = str(line[:i])
	if req.Version, err = parseVersion(version); err != nil {
		return "", err
	}
	if target == "" || !validTarget(target) {
		return "", bad("bad character in the request target: " + quoted(target))
	}
	return target, nil
}

// parseVersion reads "HTTP/1.1". A higher minor version is 1.1 to us, RFC 9110 section 2.5.
func parseVersion(v []byte) (proxy.Version, *badMessage) {
	if len(v) != 8 || string(v[:5]) != "HTTP/" || v[5]-'0' > 9 || v[6] != '.' || v[7]-'0' > 9 {
		return 0, bad("bad HTTP version: " + quoted(str(v)))
	}
	switch {
	case v[5] != '1':
		return 0, &badMessage{505, "HTTP/" + string(v[5:]) + " is not spoken here, HTTP/1.1 is"}
	case v[7] == '0':
		return proxy.HTTP10, nil
	}
	return proxy.HTTP11, nil
}

// requestHost checks Host. RFC 9112 section 3.2: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1
// request message that lacks a Host header field and to any request message that contains more than one Host
// header field line or a Host header field with an invalid field value."
func (h *head) requestHost(v proxy.Version) *badMessage {
	switch {
	case h.hosts > 1:
		return bad("more than one Host")
	case h.hosts == 0 && v != proxy.HTTP10:
		return bad("no Host")
	case h.host != "" && !h.valid && !validAuthority(h.host):
		return bad("bad Host: " + quoted(h.host))
	}
	return nil
}

// requestFraming sets req.Length by RFC 9112 section 6.3.
func (h *head) requestFraming(req *proxy.Request) *badMessage {
	if err := h.framingError(req.Version); err != nil {
		return err
	}
	if h.lengths > 1 {
		return bad("more than one Content-Length")
	}
	req.Length = h.length
	if h.chunked {
		req.Length = proxy.Unknown
	}
	return nil
}

// requestTarget sets Scheme, Authority and Path from one of the four forms of RFC 9112 section 3.2.
func (h *head) requestTarget(req *proxy.Request, target string) *badMessage {
	if req.Method == "CONNECT" {
		return connectTarget(req, target)
	}
	req.Scheme, req.Authority, req.Path = "http", h.host, target
	switch {
	case target[0] == '/':
		return nil
	case target == "*":
		if req.Method != "OPTIONS" {
			return bad("request target * with a method other than OPTIONS")
		}
		return nil
	}
	return absoluteTarget(req, target)
}

// connectTarget reads the authority-form, which is host and port: RFC 9110 section 9.3.6: "There is no default
// port; a client MUST send the port number". A CONNECT has no content.
func connectTarget(req *proxy.Request, target string) *badMessage {
	if !validAuthority(target) || !hasPort(target) {
		return bad("the target of CONNECT is not host:port: " + quoted(target))
	}
	if req.Length != 0 {
		return bad("CONNECT with content")
	}
	req.Scheme, req.Authority, req.Path = "", target, ""
	return nil
}

// absoluteTarget reads "http://host/path". RFC 9112 section 3.2.2: "When an origin server [or a proxy] receives a request with an
// absolute-form of request-target, [it] MUST ignore the received Host header field (if any) and instead use the host
// information of the request-target", and a proxy "MUST generate a new Host field value based on the received
// request-target rather than forward the received Host field value".
func absoluteTarget(req *proxy.Request, target string) *badMessage {
	scheme, rest, ok := strings.Cut(target, "://")
	switch {
	case ok && foldEqual(scheme, "http"):
		req.Scheme = "http"
	case ok && foldEqual(scheme, "https"):
		req.Scheme = "https"
	default:
		return bad("the request target is no path and no http URL: " + quoted(target))
	}
	i := strings.IndexAny(rest, "/?")
	if i < 0 {
		i = len(rest)
	}
	req.Authority, req.Path = rest[:i], rest[i:]
	if req.Authority == "" || !validAuthority(req.Authority) {
		return bad("bad host in the request target: " + quoted(target))
	}
	switch {
	case req.Path == "" && req.Method == "OPTIONS":
		req.Path = "*" // RFC 9112 section 3.2.4
	case req.Path == "":
		req.Path = "/"
	case req.Path[0] == '?':
		req.Path = "/" + req.Path
	}
	if i := req.Fields.Index("Host"); i >= 0 {
		req.Fields[i].Value = req.Authority
	}
	return nil
}

// requestOptions sets Upgrade and Expect.
//
// RFC 9110 section 7.8: "A server that receives an Upgrade header field in an HTTP/1.0 request MUST ignore that Upgrade field." And
// "A server MAY ignore a received Upgrade header field": we do when there is content, which would have to come before the new protocol.
// Section 10.1.1: "A server that receives a 100-continue expectation in an HTTP/1.0 request MUST ignore that expectation."
func (h *head) requestOptions(req *proxy.Request) {
	req.Upgrade, req.Expect = "", false
	if req.Version == proxy.HTTP10 {
		if h.expect {
			req.Fields.Del("Expect")
		}
		return
	}
	if h.upgrading && req.Length == 0 && req.Method != "CONNECT" {
		req.Upgrade = h.upgrade
	}
	req.Expect = h.expect && req.Length != 0
}

// keepAlive reports whether the sender of this head keeps its connection, RFC 9112 section 9.3.
func (h *head) persistent(v proxy.Version) bool {
	return !h.close && (v != proxy.HTTP10 || h.keepAlive)
}

// validAuthority reports whether a is uri-host [ ":" port ] of RFC 3986 section 3.2, without userinfo.
func validAuthority(a string) bool {
	host, port := a, ""
	if strings.HasPrefix(a, "[") {
		i := strings.IndexByte(a, ']')
		if i < 0 || !validLiteral(a[1:i]) {
			return false
		}
		host, port = "x", a[i+1:]
	} else if i := strings.IndexByte(a, ':'); i >= 0 {
		host, port = a[:i], a[i:]
	}
	if host == "" || !all(host, isHost) {
		return false
	}
	if port == "" {
		return true
	}
	if port[0] != ':' || len(port) > 6 {
		return false
	}
	for i := 1; i < len(port); i++ {
		if port[i]-'0' > 9 {
			return false
		}
	}
	return true
}

// validLiteral reports whether b could stand between brackets: an IPv6 address, perhaps with a zone, or IPvFuture.
func validLiteral(b string) bool {
	for i := 0; i < len(b); i++ {
		if class[b[i]]&isHost == 0 && b[i] != ':' {
			return false
		}
	}
	return b != ""
}

// hasPort reports whether the valid authority a ends in a port.
func hasPort(a string) bool {
	i := strings.LastIndexByte(a, ':')
	return i > strings.IndexByte(a, ']') && i < len(a)-1
}
