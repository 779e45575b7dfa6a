package head

import (
	"strconv"
	"strings"
)

// Bit sets of the characters of a token (RFC 9110 section 5.6.2): lo for 0-63, hi for 64-127.
const (
	digitBits = 0x3ff << '0'
	alphaBits = 0x3ffffff
	lowerBits = alphaBits << ('a' - 64)
	upperBits = alphaBits << ('A' - 64)
	tokenLo   = uint64(digitBits | 1<<'!' | 1<<'#' | 1<<'$' | 1<<'%' | 1<<'&' | 1<<'\'' | 1<<'*' | 1<<'+' | 1<<'-' | 1<<'.')
	nameHi    = uint64(lowerBits | 1<<('^'-64) | 1<<('_'-64) | 1<<('`'-64) | 1<<('|'-64) | 1<<('~'-64))
	tokenHi   = nameHi | upperBits
	// uri-host of RFC 3986 section 3.2.2, brackets and port.
	hostLo = uint64(digitBits | 1<<'-' | 1<<'.' | 1<<'%' | 1<<'!' | 1<<'$' | 1<<'&' | 1<<'\'' | 1<<'(' | 1<<')' | 1<<'*' |
		1<<'+' | 1<<',' | 1<<';' | 1<<'=' | 1<<':')
	hostHi = uint64(lowerBits | upperBits | 1<<('_'-64) | 1<<('~'-64) | 1<<('['-64) | 1<<(']'-64))
)

// inSet reports whether s is not empty and all of it is in the set.
func inSet(s string, lo, hi uint64) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c < 64 && lo>>c&1 == 0 || c >= 64 && (c >= 128 || hi>>(c-64)&1 == 0) {
			return false
		}
	}
	return len(s) > 0
}

// ValidToken reports whether s is a token, RFC 9110 section 5.6.2.
func ValidToken(s string) bool { return inSet(s, tokenLo, tokenHi) }

// ValidName reports whether s may be the name of a regular field. RFC 9113 section 8.2.1: "A field name
// MUST NOT contain characters in the ranges 0x00-0x20, 0x41-0x5a, or 0x7f-0xff". Between pillions upper case may be.
func ValidName(s string, upper bool) bool {
	if upper {
		return ValidToken(s)
	}
	return inSet(s, tokenLo, nameHi)
}

// ValidValue: RFC 9113 section 8.2.1: "A field value MUST NOT contain the zero value (ASCII NUL, 0x00), line
// feed (ASCII LF, 0x0a), or carriage return (ASCII CR, 0x0d) at any position" and "MUST NOT start or end with an ASCII
// whitespace character". The other controls are refused with RFC 9110 section 5.5.
func ValidValue(s string) bool {
	if s == "" {
		return true
	}
	if blank(s[0]) || blank(s[len(s)-1]) {
		return false
	}
	for len(s) >= 8 {
		if !plainWord(s[:8]) && !plainBytes(s[:8]) {
			return false
		}
		s = s[8:]
	}
	return plainBytes(s)
}

// plainWord reports whether none of eight bytes is a control character. It is wrong about a byte behind such a one, which makes no difference.
func plainWord(s string) bool {
	const ones, tops, dels, spaces = 0x0101010101010101, 0x8080808080808080, 0x7f7f7f7f7f7f7f7f, 0x2020202020202020
	x := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
	y := x ^ dels
	return ((x-spaces)&^x|(y-ones)&^y)&tops == 0
}

func plainBytes(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// validTarget refuses in a :path what would end a part of an HTTP/1 request line, and a fragment. Bytes above 0x7f are no
// URI, but apps that send raw UTF-8 exist.
func validTarget(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c == 0x7f || c == '#' {
			return false
		}
	}
	return true
}

// ValidAuthority refuses what cannot be in a Host line, and user information: RFC 9113 section 8.3.1: "`:authority` MUST NOT include the
// deprecated userinfo subcomponent".
func ValidAuthority(s string) bool {
	return s == "" || inSet(s, hostLo, hostHi)
}

// ValidPath: RFC 9113 section 8.3.1: "This pseudo-header field MUST NOT be empty for "http" or "https" URIs"; it starts with "/",
// or is "*" for OPTIONS.
func ValidPath(path, method string) bool {
	if path == "*" {
		return method == "OPTIONS"
	}
	return len(path) > 0 && path[0] == '/' && validTarget(path)
}

// ConnectionSpecific: RFC 9113 section 8.2.2: "An endpoint MUST NOT generate an HTTP/2 message containing connection-specific
// header fields", and "any message containing connection-specific header fields MUST be treated as malformed".
func ConnectionSpecific(name string) bool {
	switch len(name) {
	case len("upgrade"):
		return strings.EqualFold(name, "upgrade")
	case len("connection"): // and keep-alive
		return strings.EqualFold(name, "connection") || strings.EqualFold(name, "keep-alive")
	case len("proxy-connection"):
		return strings.EqualFold(name, "proxy-connection")
	case len("transfer-encoding"):
		return strings.EqualFold(name, "transfer-encoding")
	}
	return false
}

// ParseLength reads a Content-Length: digits only.
func ParseLength(s string) (int64, bool) {
	if s == "" || len(s) > 18 {
		return 0, false
	}
	var n int64
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}

// ParseStatus reads a :status, 100 to 599, or 600 to 999, which are sent on as they are.
func ParseStatus(s string) (int, bool) {
	if len(s) != 3 {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 16)
	return int(n), err == nil && n >= 100
}
