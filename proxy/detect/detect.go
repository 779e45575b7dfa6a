// Package detect says from the first bytes of either side what a connection speaks, and remembers it per service. It never
// waits: with too few bytes it says so, and the caller, which has dialled the other side already, relays whoever speaks first. What it
// does not do is read connections or parse messages; the codecs do.
//
// Formats: the request line of RFC 9112 section 3, the preface of RFC 9113 section 3.4, the
// greeting of RFC 1928 section 3, the records of RFC 8446 section 5.1.
package detect

import "bytes"

// Verdict is what a connection speaks.
type Verdict uint8

const (
	Unknown     Verdict = iota // not told yet
	HTTP1                      // HTTP/1.0 or HTTP/1.1
	HTTP2                      // HTTP/2 with prior knowledge
	SOCKS5                     //
	TLS                        // a ClientHello or its answer
	Other                      // bytes that this package does not know
	ServerFirst                // the server spoke before its client; never returned by Sniff
)

// String returns the name that logs and configuration use.
func (v Verdict) String() string {
	switch v {
	case HTTP1:
		return "http1"
	case HTTP2:
		return "http2"
	case SOCKS5:
		return "socks5"
	case TLS:
		return "tls"
	case Other:
		return "other"
	case ServerFirst:
		return "server-first"
	}
	return "unknown"
}

const (
	maxMethod = 32      // bytes; a longer first word is no HTTP method
	maxLine   = 8 << 10 // bytes; a longer first line without a version is no HTTP request
)

// preface begins every HTTP/2 connection; the rest of its 24 bytes adds nothing.
const preface = "PRI * HTTP/2.0\r\n"

// Sniff looks at the first bytes of a client. ok is false if more of them are needed to tell; what has come so far
// is then the beginning of at least one protocol that Sniff knows.
func Sniff(b []byte) (v Verdict, ok bool) {
	switch {
	case len(b) == 0:
		return Unknown, false
	case len(b) >= 5 && string(b[:5]) == "GET /", len(b) >= 6 && string(b[:6]) == "POST /": // most are, and sniffRequest says nothing else of them
		return HTTP1, true
	case b[0] == 0x05:
		return sniffSOCKS5(b)
	case b[0] == 0x16:
		return sniffTLS(b, 0x01)
	case b[0] == 'P' && begins(b, preface):
		if len(b) < len(preface) {
			return Unknown, false
		}
		return HTTP2, true
	}
	return sniffRequest(b)
}

// SniffServer looks at the first bytes of a server, in the same way.
func SniffServer(b []byte) (v Verdict, ok bool) {
	const statusLine = "HTTP/1."
	switch {
	case len(b) == 0:
		return Unknown, false
	case b[0] == 0x16:
		return sniffTLS(b, 0x02)
	case b[0] == 0x15: // an alert may come first
		return sniffTLSVersion(b)
	case b[0] == 'H' && begins(b, statusLine):
		if len(b) < len(statusLine) {
			return Unknown, false
		}
		return HTTP1, true
	case b[0] == 0:
		return sniffSettings(b)
	}
	return Other, true
}

// begins reports whether b and s agree as far as both go.
func begins(b []byte, s string) bool {
	n := min(len(b), len(s))
	return string(b[:n]) == s[:n]
}

// sniffSOCKS5 reads version, number of methods, methods: RFC 1928 section 3. Methods are 0 to 9 as assigned, or private from 0x80 on.
func sniffSOCKS5(b []byte) (Verdict, bool) {
	if len(b) < 2 {
		return Unknown, false
	}
	n := int(b[1])
	if n == 0 {
		return Other, true
	}
	methods := b[2:min(len(b), 2+n)]
	for _, m := range methods {
		if m > 9 && m < 0x80 || m == 0xff {
			return Other, true
		}
	}
	if len(methods) == 0 {
		return Unknown, false
	}
	return SOCKS5, true
}

// sniffTLS reads a record header and the type of the handshake message in it: RFC 8446 sections 4 and 5.1.
func sniffTLS(b []byte, message byte) (Verdict, bool) {
	if v, ok := sniffTLSVersion(b); v != TLS {
		return v, ok
	}
	if len(b) < 6 {
		return Unknown, false
	}
	if b[5] != message {
		return Other, true
	}
	return TLS, true
}

func sniffTLSVersion(b []byte) (Verdict, bool) {
	switch {
	case len(b) > 1 && b[1] != 0x03, len(b) > 2 && b[2] > 0x04, len(b) > 3 && b[3] > 0x40:
		return Other, true
	case len(b) < 5:
		return Unknown, false
	case b[3] == 0 && b[4] == 0:
		return Other, true
	}
	return TLS, true
}

// sniffSettings reads the header of the SETTINGS frame that an HTTP/2 server sends first: RFC 9113 sections 3.4, 4.1 and 6.5.
func sniffSettings(b []byte) (Verdict, bool) {
	if len(b) < 9 {
		if len(b) > 3 && b[3] != 4 {
			return Other, true
		}
		return Unknown, false
	}
	length := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	if b[3] != 4 || b[4] != 0 || length%6 != 0 || b[5] != 0 || b[6] != 0 || b[7] != 0 || b[8] != 0 {
		return Other, true
	}
	return HTTP2, true
}

// sniffRequest reads a request line. A method, a space and the beginning of a target tell it from every other
// protocol with words at the start of a line, but for those whose words are followed by what may be a target: there the
// end of the line decides, where HTTP has its version.
func sniffRequest(b []byte) (Verdict, bool) {
	b = skipBlank(b)
	i := 0
	for i < len(b) && isTchar(b[i]) {
		i++
	}
	switch {
	case i > maxMethod:
		return Other, true
	case i == len(b):
		return Unknown, false
	case i == 0 || b[i] != ' ':
		return Other, true
	}
	method, rest := b[:i], b[i+1:]
	if len(rest) == 0 {
		return Unknown, false
	}
	if !beginsTarget(method, rest) {
		return Other, true
	}
	if known(method) && (rest[0] == '/' || rest[0] != '*' && len(rest) >= 4 && string(method) != "CONNECT") {
		return HTTP1, true
	}
	return sniffVersion(rest)
}

// skipBlank takes the one empty line off the front that RFC 9112 section 2.2 wants ignored.
func skipBlank(b []byte) []byte {
	if len(b) >= 2 && b[0] == '\r' && b[1] == '\n' {
		return b[2:]
	}
	if len(b) == 1 && b[0] == '\r' {
		return nil
	}
	return b
}

// beginsTarget reports whether a request target may go on from b: "/path", "*", "http://...", and host:port for CONNECT.
func beginsTarget(method, b []byte) bool {
	switch {
	case string(method) == "CONNECT":
		return b[0] > ' ' && b[0] < 0x7f
	case b[0] == '/' || b[0] == '*':
		return true
	}
	const scheme = "http"
	n := min(len(b), len(scheme))
	return bytes.EqualFold(b[:n], []byte(scheme)[:n])
}

// known reports whether method is one of RFC 9110 section 9 or RFC 5789.
func known(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH":
		return true
	}
	return false
}

// BadPreface reports whether b, which is no HTTP, was probably meant to be: one line of three words, such as a request line has, and an empty
// one. Where HTTP/2 is spoken that is an invalid connection preface (RFC 9113 section 3.4).
func BadPreface(b []byte) bool {
	line, rest, found := bytes.Cut(b, []byte("\r\n"))
	return found && string(rest) == "\r\n" && len(bytes.Fields(line)) == 3
}

// sniffVersion looks for the version at the end of a request line that begins with a target.
func sniffVersion(b []byte) (Verdict, bool) {
	line := b
	i := bytes.IndexByte(b, '\n')
	if i >= 0 {
		line = b[:i]
	}
	if j := bytes.IndexByte(line, ' '); j >= 0 {
		if !begins(bytes.TrimSuffix(line[j+1:], []byte("\r")), "HTTP/") {
			return Other, true
		}
		if len(line)-j-1 >= len("HTTP/") {
			return HTTP1, true
		}
	}
	if i >= 0 || len(b) > maxLine {
		return Other, true
	}
	return Unknown, false
}

func isTchar(c byte) bool {
	switch {
	case c >= '0' && c <= '9', c|0x20 >= 'a' && c|0x20 <= 'z':
		return true
	}
	switch c {
	case '!', '#', '$', '%', '&', '\'', '*', '+', '-', '.', '^', '_', '`', '|', '~':
		return true
	}
	return false
}
