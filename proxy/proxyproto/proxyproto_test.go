package proxyproto

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"strings"
	"testing"
)

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

const v2 = "\r\n\r\n\x00\r\nQUIT\n"

var headers = []struct {
	bytes string
	want  Header
}{
	{"PROXY TCP4 10.0.0.7 10.0.0.8 41234 25\r\n", Header{Src: ap("10.0.0.7:41234"), Dst: ap("10.0.0.8:25")}},
	{"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", Header{Src: ap("0.0.0.0:0"), Dst: ap("0.0.0.0:0")}},
	{"PROXY TCP6 2001:db8::7 ::1 41234 25\r\n", Header{Src: ap("[2001:db8::7]:41234"), Dst: ap("[::1]:25")}},
	{"PROXY TCP6 :: :: 0 0\r\n", Header{Src: ap("[::]:0"), Dst: ap("[::]:0")}},
	{"PROXY TCP6 ::ffff:10.0.0.7 ::ffff:10.0.0.8 1 2\r\n", Header{Src: ap("10.0.0.7:1"), Dst: ap("10.0.0.8:2")}},
	{"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe 65535 65535\r\n",
		Header{Src: ap("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"), Dst: ap("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:65535")}},
	{"PROXY UNKNOWN\r\n", Header{}},
	{"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", Header{}},
	{v2 + "\x21\x11\x00\x0c\x0a\x00\x00\x07\x0a\x00\x00\x08\xa1\x12\x00\x19", Header{Src: ap("10.0.0.7:41234"), Dst: ap("10.0.0.8:25")}},
	{v2 + "\x21\x12\x00\x0c\x0a\x00\x00\x07\x0a\x00\x00\x08\xa1\x12\x00\x19", Header{Src: ap("10.0.0.7:41234"), Dst: ap("10.0.0.8:25"), Datagram: true}},
	{v2 + "\x21\x21\x00\x24\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x07" + strings.Repeat("\x00", 15) + "\x01\xa1\x12\x00\x19", Header{Src: ap("[2001:db8::7]:41234"), Dst: ap("[::1]:25")}},
	{v2 + "\x21\x11\x00\x12\x0a\x00\x00\x07\x0a\x00\x00\x08\xa1\x12\x00\x19\xd0\x00\x03abc", Header{Src: ap("10.0.0.7:41234"), Dst: ap("10.0.0.8:25"), Identity: "abc"}},
	{v2 + "\x20\x00\x00\x00", Header{}},
	{v2 + "\x20\x11\x00\x0c\x0a\x00\x00\x07\x0a\x00\x00\x08\xa1\x12\x00\x19", Header{}},
	{v2 + "\x20\x99\x00\x02xx", Header{}},
	{v2 + "\x21\x00\x00\x00", Header{}},
	{v2 + "\x21\x31\x00\xd8" + strings.Repeat("/", 216), Header{}},
}

func TestParse(t *testing.T) {
	for _, c := range headers {
		b := []byte(c.bytes)
		if h, err := Parse(b); h != c.want || err != nil {
			t.Errorf("Parse(%q) = %+v, %v, want %+v", c.bytes, h, err, c.want)
		}
		if _, err := Parse(append(b, 'x')); err == nil {
			t.Errorf("Parse(%q) with a byte behind it succeeds", c.bytes)
		}
		for i := range len(b) {
			if n, err := Need(b[:i]); n <= 0 || i+n > len(b) || err != nil {
				t.Errorf("Need(%q) = %d, %v, want at least 1 and no more than %d", b[:i], n, err, len(b)-i)
			}
			if h, err := Parse(b[:i]); err == nil {
				t.Errorf("Parse(%q) = %+v, want an error", b[:i], h)
			}
		}
	}
}

// TestReads: reading what Need says takes few reads and nothing of what follows.
func TestReads(t *testing.T) {
	for _, c := range headers {
		stream := c.bytes + "SSH-2.0"
		var b []byte
		for reads := 1; ; reads++ {
			n, err := Need(b)
			if err != nil || reads > 45 {
				t.Fatalf("%q: Need(%q) = %d, %v after %d reads", c.bytes, b, n, err, reads)
			}
			if n == 0 {
				break
			}
			b = append(b, stream[len(b):len(b)+n]...)
		}
		if string(b) != c.bytes {
			t.Errorf("read %q, want %q", b, c.bytes)
		}
	}
}

func TestBad(t *testing.T) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\n", "proxy TCP4 1.1.1.1 1.1.1.1 1 1\r\n", "\x16\x03\x01", "\r\n\r\nGET /",
		"PROXY TCP4 10.0.0.7 10.0.0.8 41234 25\n",
		"PROXY  TCP4 10.0.0.7 10.0.0.8 41234 25\r\n",
		"PROXY TCP4 10.0.0.7 10.0.0.8 41234 25 \r\n",
		"PROXY TCP4 10.0.0.7 10.0.0.8 041234 25\r\n",
		"PROXY TCP4 10.0.0.7 10.0.0.8 +1 25\r\n",
		"PROXY TCP4 10.0.0.7 10.0.0.8 65536 25\r\n",
		"PROXY TCP4 10.0.0.7 10.0.0.8 -1 25\r\n",
		"PROXY TCP4 10.0.0.07 10.0.0.8 1 25\r\n",
		"PROXY TCP4 2001:db8::7 ::1 41234 25\r\n",
		"PROXY TCP6 10.0.0.7 10.0.0.8 41234 25\r\n",
		"PROXY TCP6 fe80::1%eth0 ::1 41234 25\r\n",
		"PROXY UDP4 10.0.0.7 10.0.0.8 41234 25\r\n",
		"PROXY TCP4 10.0.0.7 41234 25         \r\n",
		"PROXY UNKNOWN " + strings.Repeat("x", 100) + "\r\n",
		v2 + "\x11\x11\x00\x0c\x0a\x00\x00\x07\x0a\x00\x00\x08\xa1\x12\x00\x19",             // version 1
		v2 + "\x22\x11\x00\x0c\x0a\x00\x00\x07\x0a\x00\x00\x08\xa1\x12\x00\x19",             // command 2
		v2 + "\x21\x13\x00\x0c\x0a\x00\x00\x07\x0a\x00\x00\x08\xa1\x12\x00\x19",             // protocol 3
		v2 + "\x21\x11\x00\x0b\x0a\x00\x00\x07\x0a\x00\x00\x08\xa1\x12\x00",                 // too short
		v2 + "\x21\x11\x00\x0e\x0a\x00\x00\x07\x0a\x00\x00\x08\xa1\x12\x00\x19\xd0\x00",     // half a TLV
		v2 + "\x21\x11\x00\x0f\x0a\x00\x00\x07\x0a\x00\x00\x08\xa1\x12\x00\x19\xd0\x00\x01", // a TLV without its value
		v2 + "\x21\x11\x00\x13\x0a\x00\x00\x07\x0a\x00\x00\x08\xa1\x12\x00\x19\x03\x00\x04abcd",
		v2 + "\x21\x11\xff\xff",
	} {
		if h, err := Parse([]byte(s)); err == nil {
			t.Errorf("Parse(%q) = %+v, want an error", s, h)
		}
	}
}

func TestChecksum(t *testing.T) {
	b := []byte(v2 + "\x21\x11\x00\x13\x0a\x00\x00\x07\x0a\x00\x00\x08\xa1\x12\x00\x19\x03\x00\x04\x00\x00\x00\x00")
	binary.BigEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	if h, err := Parse(b); err != nil || h.Src != ap("10.0.0.7:41234") {
		t.Errorf("got %+v, %v, want the addresses", h, err)
	}
	b[16] ^= 1
	if h, err := Parse(b); err == nil {
		t.Errorf("a changed header is %+v, want an error", h)
	}
}

func TestAppend(t *testing.T) {
	id := "spiffe://example.org/web"
	for _, c := range []struct {
		v    Version
		in   Header
		want Header
	}{
		{V1, Header{Src: ap("10.0.0.7:1"), Dst: ap("10.0.0.8:2"), Identity: id}, Header{Src: ap("10.0.0.7:1"), Dst: ap("10.0.0.8:2")}},
		{V2, Header{Src: ap("10.0.0.7:1"), Dst: ap("10.0.0.8:2"), Identity: id}, Header{Src: ap("10.0.0.7:1"), Dst: ap("10.0.0.8:2"), Identity: id}},
		{V2, Header{Src: ap("10.0.0.7:1"), Dst: ap("10.0.0.8:2"), Datagram: true}, Header{Src: ap("10.0.0.7:1"), Dst: ap("10.0.0.8:2"), Datagram: true}},
		{V1, Header{Src: ap("10.0.0.7:1"), Dst: ap("10.0.0.8:2"), Datagram: true}, Header{}},
		{V2, Header{Src: ap("[2001:db8::7]:1"), Dst: ap("[::1]:2"), Identity: id}, Header{Src: ap("[2001:db8::7]:1"), Dst: ap("[::1]:2"), Identity: id}},
		{V2, Header{Src: ap("[2001:db8::7]:1"), Dst: ap("10.0.0.8:2")}, Header{Src: ap("[2001:db8::7]:1"), Dst: ap("10.0.0.8:2")}},
		{V1, Header{Src: ap("10.0.0.7:1"), Dst: ap("[::1]:2")}, Header{Src: ap("10.0.0.7:1"), Dst: ap("[::1]:2")}},
		{V1, Header{Src: ap("[fe80::1%eth0]:1"), Dst: ap("[::1]:2")}, Header{Src: ap("[fe80::1]:1"), Dst: ap("[::1]:2")}},
		{V2, Header{Src: ap("10.0.0.7:1")}, Header{Src: ap("10.0.0.7:1"), Dst: ap("0.0.0.0:0")}},
		{V2, Header{Src: ap("[::1]:1")}, Header{Src: ap("[::1]:1"), Dst: ap("[::]:0")}},
		{V1, Header{}, Header{}},
		{V2, Header{Identity: id}, Header{}},
	} {
		b := Append([]byte("before"), c.v, c.in)
		got, err := Parse(b[len("before"):])
		if err != nil || got != c.want {
			t.Errorf("version %d of %+v is %q: %+v, %v, want %+v", c.v, c.in, b, got, err, c.want)
		}
	}
	if b := Append(nil, None, Header{Src: ap("10.0.0.7:1")}); len(b) > 0 {
		t.Errorf("no version is %q", b)
	}
}

// FuzzParse: what is read, written and read again is the same; Need never runs past a header.
func FuzzParse(f *testing.F) {
	for _, c := range headers {
		f.Add([]byte(c.bytes))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := Parse(b)
		if err != nil {
			return
		}
		for i := range len(b) {
			if n, err := Need(b[:i]); n <= 0 || i+n > len(b) || err != nil {
				t.Fatalf("Need(%q) = %d, %v, and %q is a header", b[:i], n, err, b)
			}
		}
		if len(h.Identity) > maxHeader2/2 {
			return
		}
		again, err := Parse(Append(nil, V2, h))
		if err != nil || again != h {
			t.Fatalf("%q is %+v, and written again %+v, %v", bytes.Clone(b), h, again, err)
		}
	})
}
