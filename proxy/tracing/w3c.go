package tracing

import (
	"encoding/binary"
	"strings"
	"unsafe"

	"github.com/pillion-proxy/pillion/proxy"
)

// The fields of W3C Trace Context.
const (
	traceparent = "traceparent"
	tracestate  = "tracestate"
)

const (
	traceIDAt = len("00-")
	spanIDAt  = traceIDAt + 32 + 1
	flagsAt   = spanIDAt + 16 + 1
	// parentLen is the length of a traceparent of version 00.
	parentLen = flagsAt + 2

	flagSampled = 1
	flagRandom  = 2
)

// parseParent reads the value of a traceparent, section 3.2. A version that is not known is read as 00 as far as that goes, section 3.2.4.
func parseParent(s string, t *proxy.Trace) bool {
	if len(s) < parentLen || s[2] != '-' || s[spanIDAt-1] != '-' || s[flagsAt-1] != '-' {
		return false
	}
	version, ok := unhex(s[0], s[1])
	if !ok || version == 0xff || version == 0 && len(s) != parentLen || len(s) > parentLen && s[parentLen] != '-' {
		return false
	}
	flags, ok := unhex(s[flagsAt], s[flagsAt+1])
	if !ok || !unhexAll(t.ID[:], s[traceIDAt:]) || !unhexAll(t.Parent[:], s[spanIDAt:]) {
		return false
	}
	if t.ID == (proxy.TraceID{}) || t.Parent == (proxy.SpanID{}) {
		return false
	}
	t.Sampled, t.Random = flags&flagSampled != 0, flags&flagRandom != 0
	return true
}

// putParent writes a traceparent of version 00 whose parent is span, and returns it.
func putParent(to *[64]byte, t *proxy.Trace, span proxy.SpanID) string {
	copy(to[:], "00-")
	for i := 0; i < len(t.ID); i += 4 {
		binary.BigEndian.PutUint64(to[traceIDAt+2*i:], hex(binary.BigEndian.Uint32(t.ID[i:])))
	}
	to[spanIDAt-1] = '-'
	putSpan(to, span)
	flags := byte('0')
	if t.Sampled {
		flags += flagSampled
	}
	if t.Random {
		flags += flagRandom
	}
	to[flagsAt-1], to[flagsAt], to[flagsAt+1] = '-', '0', flags
	return unsafe.String(&to[0], parentLen)
}

// putSpan writes the parent of a traceparent.
func putSpan(to *[64]byte, span proxy.SpanID) {
	binary.BigEndian.PutUint64(to[spanIDAt:], hex(binary.BigEndian.Uint32(span[:4])))
	binary.BigEndian.PutUint64(to[spanIDAt+8:], hex(binary.BigEndian.Uint32(span[4:])))
}

func appendHex(b, id []byte) []byte {
	for ; len(id) >= 4; id = id[4:] {
		b = binary.BigEndian.AppendUint64(b, hex(binary.BigEndian.Uint32(id)))
	}
	return b
}

// In a word of eight bytes, each of them.
const (
	ones    = 0x0101010101010101
	nibbles = 0x0f * ones
)

// hex is the eight digits of x, the first in the highest byte.
func hex(x uint32) uint64 {
	v := uint64(x)
	v = (v | v<<16) & 0x0000ffff0000ffff
	v = (v | v<<8) & 0x00ff00ff00ff00ff
	v = (v | v<<4) & nibbles
	letters := (v + 6*ones) >> 4 & ones // 1 where the digit is a letter
	return v + '0'*ones + letters*('a'-'0'-10)
}

// unhex reads two lower-case digits: section 3.2.2 allows no others.
func unhex(a, b byte) (byte, bool) {
	x, y := nibble(a), nibble(b)
	return x<<4 | y, x|y < 16
}

// unhexAll fills id, of a multiple of four bytes, from the beginning of s.
func unhexAll(id []byte, s string) bool {
	for i := 0; i < len(id); i += 4 {
		x, ok := unhexWord(s[2*i : 2*i+8])
		if !ok {
			return false
		}
		binary.BigEndian.PutUint32(id[i:], x)
	}
	return true
}

// unhexWord reads eight digits. What they mean is found out as if they were right; whether they are, by writing that again.
func unhexWord(s string) (uint32, bool) {
	v := uint64(s[0])<<56 | uint64(s[1])<<48 | uint64(s[2])<<40 | uint64(s[3])<<32 | uint64(s[4])<<24 | uint64(s[5])<<16 | uint64(s[6])<<8 | uint64(s[7])
	n := v&nibbles + (v>>6&ones)*9
	n &= nibbles
	n = (n | n>>4) & 0x00ff00ff00ff00ff
	n = (n | n>>8) & 0x0000ffff0000ffff
	x := uint32(n | n>>16)
	return x, hex(x) == v
}

// nibble is the value of a digit, or 255.
func nibble(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

// readW3C fills t from the request's fields, and reports whether they name a trace.
func readW3C(fields proxy.Fields, t *proxy.Trace) bool {
	i := fields.Index(traceparent)
	if i < 0 || fields[i+1:].Has(traceparent) || !parseParent(fields[i].Value, t) && !parseParent(strings.Trim(fields[i].Value, " \t"), t) {
		*t = proxy.Trace{}
		return false
	}
	return true
}

// validState reports whether the lines of tracestate hold to section 3.3.1: at most 32 members, none twice. One that does not is dropped whole,
// since nobody can tell which part of it is right.
func validState(fields proxy.Fields) bool {
	const most = 32
	var keys [most]string
	n := 0
	for i := range fields {
		if !named(&fields[i], tracestate) {
			continue
		}
		rest, more := fields[i].Value, true
		for more {
			var member string
			member, rest, more = strings.Cut(rest, ",")
			if member = strings.Trim(member, " \t"); member == "" {
				continue // section 3.3.1.1: "Empty list members are allowed"
			}
			key, value, ok := strings.Cut(member, "=")
			if !ok || n == most || !validKey(key) || !validStateValue(value) {
				return false
			}
			for _, k := range keys[:n] {
				if k == key {
					return false
				}
			}
			keys[n] = key
			n++
		}
	}
	return true
}

// validKey: section 3.3.1.3.1, of level 2: 1 to 256 of lcalpha, digits, "_-*/@", beginning with a letter or a digit.
func validKey(k string) bool {
	if k == "" || len(k) > 256 || strings.IndexByte("_-*/@", k[0]) >= 0 {
		return false
	}
	for i := 0; i < len(k); i++ {
		c := k[i]
		if ('a' > c || c > 'z') && ('0' > c || c > '9') && strings.IndexByte("_-*/@", c) < 0 {
			return false
		}
	}
	return true
}

// validStateValue: section 3.3.1.3.2: up to 256 printable ASCII characters but comma and equals sign, the last no space.
func validStateValue(v string) bool {
	if v == "" || len(v) > 256 || v[len(v)-1] == ' ' {
		return false
	}
	for i := 0; i < len(v); i++ {
		if c := v[i]; c < ' ' || c > '~' || c == ',' || c == '=' {
			return false
		}
	}
	return true
}

func named(f *proxy.Field, name string) bool { return proxy.SameName(f.Name, name) }
