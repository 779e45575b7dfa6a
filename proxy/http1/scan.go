package http1

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unsafe"
)

// Classes of bytes in class.
const (
	isToken  = 1 << iota // tchar of RFC 9110 section 5.6.2
	isValue              // field-vchar, space and tab of RFC 9110 section 5.5
	isTarget             // may stand in a request-target
	isHost               // may stand in a uri-host that is no IP literal, RFC 3986 section 3.2.2
)

// class is a constant table of the classes of each byte.
var class = makeClass()

func makeClass() (t [256]uint8) {
	for i := range t {
		c := byte(i)
		letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
		if letter || bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0 {
			t[i] |= isToken
		}
		if c == '\t' || c >= ' ' && c != 0x7f {
			t[i] |= isValue
		}
		// No fragment: "#" has no place in any form of request-target (RFC 9112 section 3.2). Bytes above 0x7f are
		// no URI either, but apps that send raw UTF-8 exist, and no reader takes such a byte for a delimiter.
		if c > ' ' && c != 0x7f && c != '#' {
			t[i] |= isTarget
		}
		if letter || bytes.IndexByte([]byte("-._~%!$&'()*+,;="), c) >= 0 {
			t[i] |= isHost
		}
	}
	return t
}

func all(b string, mask uint8) bool {
	for i := 0; i < len(b); i++ {
		if class[b[i]]&mask == 0 {
			return false
		}
	}
	return true
}

func isTokenString(b string) bool { return len(b) > 0 && all(b, isToken) }

// validValue reports whether b has no control byte but tab: eight bytes at a time, and one by one only
// where there may be one.
func validValue(b []byte) bool {
	const ones, tops, dels, space = 0x0101010101010101, 0x8080808080808080, 0x7f7f7f7f7f7f7f7f, 0x2020202020202020
	for len(b) >= 8 {
		x := binary.LittleEndian.Uint64(b)
		y := x ^ dels
		low := (x - space) & ^x & tops // a byte below 0x20
		del := (y - ones) & ^y & tops  // a byte 0x7f
		if low|del != 0 && !allValue(b[:8]) {
			return false
		}
		b = b[8:]
	}
	return allValue(b)
}

// validTarget reports whether all bytes of s may stand in a request-target, in the way of validValue.
func validTarget(s string) bool {
	const ones, tops, dels, visible, hashes = 0x0101010101010101, 0x8080808080808080, 0x7f7f7f7f7f7f7f7f, 0x2121212121212121, 0x2323232323232323
	for len(s) >= 8 {
		x := binary.LittleEndian.Uint64(bytesOf(s))
		y, z := x^dels, x^hashes
		low := (x - visible) & ^x & tops // a byte below 0x21
		del := (y - ones) & ^y & tops    // a byte 0x7f
		hash := (z - ones) & ^z & tops   // a '#'
		if low|del|hash != 0 && !all(s[:8], isTarget) {
			return false
		}
		s = s[8:]
	}
	return all(s, isTarget)
}

func allValue(b []byte) bool {
	for _, c := range b {
		if class[c]&isValue == 0 {
			return false
		}
	}
	return true
}

// str is b as a string that shares its memory; see the package comment on whose it is.
func str(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// bytesOf is the reverse of str. Nobody writes to it.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// trim removes optional whitespace, OWS of RFC 9110 section 5.6.3.
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// foldEqual reports whether s is lower, which is in lower case, whatever the case of s.
func foldEqual(s, lower string) bool {
	if len(s) != len(lower) {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// nextItem takes the first item off a comma-separated list. Empty items come as "".
func nextItem(list string) (item, rest string, more bool) {
	i := 0
	for i < len(list) && list[i] != ',' {
		i++
	}
	item = strings.Trim(list[:i], " \t")
	if i == len(list) {
		return item, "", false
	}
	return item, list[i+1:], true
}

// scanHead looks for the empty line that ends a head. b begins with the head, from is where a line
// begins that was not yet looked at. It returns the length of the head, empty line included, or 0 and where to go on once more of b is there.
//
// RFC 9112 section 2.2: "Although the line terminator for the start-line and fields is the sequence CRLF, a recipient MAY recognize a
// single LF as a line terminator". We do not: two readers of one message would differ.
func scanHead(b []byte, from int) (end, next int, err *badMessage) {
	for {
		i := bytes.IndexByte(b[from:], '\n')
		if i < 0 {
			return 0, from, nil
		}
		if i == 0 || b[from+i-1] != '\r' {
			return 0, from, bad("a line of the head ends in LF without CR")
		}
		if i == 1 {
			return from + 2, 0, nil
		}
		from += i + 1
	}
}

// nextLine cuts the first line off a head that scanHead has accepted; line is without its CRLF.
func nextLine(b []byte) (line, rest []byte) {
	i := bytes.IndexByte(b, '\n')
	return b[:i-1], b[i+1:]
}

func validValueString(s string) bool { return validValue(bytesOf(s)) }
