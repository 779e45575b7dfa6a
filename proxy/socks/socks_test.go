package socks

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
)

var requests = []struct {
	bytes string
	cmd   Command
	addr  string // "": an error
	rest  string // what follows the message
}{
	{"\x05\x01\x00\x01\x0a\x00\x00\x07\x1f\x90", Connect, "10.0.0.7:8080", ""},
	{"\x05\x01\x00\x01\x0a\x00\x00\x07\x1f\x90GET", Connect, "10.0.0.7:8080", "GET"},
	{"\x05\x01\x00\x03\x07billing\x00\x50", Connect, "billing:80", ""},
	{"\x05\x01\x00\x03\x0fbilling.example\x00\x50x", Connect, "billing.example:80", "x"},
	{"\x05\x01\x00\x03\x09127.0.0.1\x00\x50", Connect, "127.0.0.1:80", ""},
	{"\x05\x01\x00\x03\x03::1\x00\x50", Connect, "[::1]:80", ""},
	{"\x05\x03\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x35", Associate, "[2001:db8::1]:53", ""},
	{"\x05\x01\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x07\x00\x50", Connect, "10.0.0.7:80", ""},
	{"\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00", Bind, "0.0.0.0:0", ""},
	{"\x05\x01\x00\x03\x00\x00\x50", 0, "", ""},
	{"\x05\x01\x00\x03\x05a:b@c\x00\x50", 0, "", ""},
	{"\x05\x01\x00\x03\x06a\r\nb c\x00\x50", 0, "", ""},
	{"\x05\x01\x00\x02\x00\x00\x50\x00", 0, "", ""},
	{"\x04\x01\x00\x01\x00\x00\x50\x00", 0, "", ""},
}

func TestRequest(t *testing.T) {
	for _, c := range requests {
		b := []byte(c.bytes)
		r, n, err := ParseRequest(b)
		if c.addr == "" {
			if err == nil {
				t.Errorf("ParseRequest(%q) = %v, %d, want an error", c.bytes, r, n)
			}
			continue
		}
		if err != nil || r.Command != c.cmd || r.Addr.String() != c.addr || string(b[n:]) != c.rest {
			t.Errorf("ParseRequest(%q) = %v %v, %d, %v, want %v %s and %q behind it", c.bytes, r.Command, r.Addr, n, err, c.cmd, c.addr, c.rest)
		}
		for i := range n {
			if _, n, err := ParseRequest(b[:i]); n != 0 || err != nil {
				t.Errorf("ParseRequest(%q) = %d, %v, want 0, nil: it is incomplete", b[:i], n, err)
			}
		}
	}
}

func TestRequest4(t *testing.T) {
	for _, c := range []struct{ bytes, addr, rest string }{
		{"\x04\x01\x1f\x90\x0a\x00\x00\x07\x00", "10.0.0.7:8080", ""},
		{"\x04\x01\x1f\x90\x0a\x00\x00\x07me\x00SSH", "10.0.0.7:8080", "SSH"},
		{"\x04\x01\x00\x50\x00\x00\x00\x01me\x00billing\x00rest", "billing:80", "rest"},
		{"\x04\x01\x00\x50\x00\x00\x00\x00\x00", "0.0.0.0:80", ""},
	} {
		b := []byte(c.bytes)
		r, n, err := ParseRequest4(b)
		if err != nil || r.Command != Connect || r.Addr.String() != c.addr || string(b[n:]) != c.rest {
			t.Errorf("ParseRequest4(%q) = %v, %d, %v, want %s and %q behind it", c.bytes, r, n, err, c.addr, c.rest)
		}
		for i := range n {
			if _, n, err := ParseRequest4(b[:i]); n != 0 || err != nil {
				t.Errorf("ParseRequest4(%q) = %d, %v, want 0, nil: it is incomplete", b[:i], n, err)
			}
		}
	}
	long := append([]byte("\x04\x01\x1f\x90\x0a\x00\x00\x07"), bytes.Repeat([]byte("u"), 2000)...)
	if _, n, err := ParseRequest4(long); err == nil {
		t.Errorf("a user of 2000 bytes = %d, nil, want an error", n)
	}
	if _, n, err := ParseRequest4([]byte("\x04\x01\x00\x50\x00\x00\x00\x01\x00a/b\x00")); n == 0 || !errors.Is(err, ErrAddress) {
		t.Errorf("the name a/b = %d, %v, want its length and ErrAddress", n, err)
	}
}

func TestGreeting(t *testing.T) {
	for _, c := range []struct {
		bytes string
		want  Method
		n     int
	}{
		{"\x05\x01\x00", NoAuth, 3},
		{"\x05\x02\x02\x00", NoAuth, 4},
		{"\x05\x02\x01\x02more", UserPassword, 4},
		{"\x05\x01\x01", NoneAccepted, 3},
		{"\x05\x00", NoneAccepted, 2},
		{"\x05\x02\x00", 0, 0},
		{"\x05", 0, 0},
		{"", 0, 0},
	} {
		if m, n, err := ParseGreeting([]byte(c.bytes)); m != c.want || n != c.n || err != nil {
			t.Errorf("ParseGreeting(%q) = %v, %d, %v, want %v, %d, nil", c.bytes, m, n, err, c.want, c.n)
		}
	}
	if _, _, err := ParseGreeting([]byte("\x04")); err == nil {
		t.Error("a greeting of version 4 is taken")
	}
}

func TestPassword(t *testing.T) {
	const whole = "\x01\x02me\x03pwd"
	for i := range len(whole) {
		if n, err := ParsePassword([]byte(whole[:i])); n != 0 || err != nil {
			t.Errorf("ParsePassword(%q) = %d, %v, want 0, nil", whole[:i], n, err)
		}
	}
	for _, rest := range []string{"", "\x05\x01"} {
		if n, err := ParsePassword([]byte(whole + rest)); n != len(whole) || err != nil {
			t.Errorf("ParsePassword(%q) = %d, %v, want %d, nil", whole+rest, n, err, len(whole))
		}
	}
	if n, err := ParsePassword([]byte("\x01\x00\x00")); n != 3 || err != nil {
		t.Errorf("an empty name and password = %d, %v, want 3, nil", n, err)
	}
	if _, err := ParsePassword([]byte("\x05")); err == nil {
		t.Error("version 5 of RFC 1929 is taken")
	}
}

func TestAppend(t *testing.T) {
	for _, c := range []struct {
		got  []byte
		want string
	}{
		{AppendMethod(nil, UserPassword), "\x05\x02"},
		{AppendPasswordOK(nil), "\x01\x00"},
		{AppendReply(nil, Refused, netip.AddrPort{}), "\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00"},
		{AppendReply(nil, Succeeded, netip.MustParseAddrPort("127.0.0.1:53")), "\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x35"},
		{AppendReply(nil, Succeeded, netip.MustParseAddrPort("[::1]:53")), "\x05\x00\x00\x04" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\x00\x35"},
		{AppendReply4(nil, Succeeded), "\x00\x5a\x00\x00\x00\x00\x00\x00"},
		{AppendReply4(nil, Refused), "\x00\x5b\x00\x00\x00\x00\x00\x00"},
		{AppendHeader(nil, Addr{IP: netip.MustParseAddr("10.0.0.7"), Port: 53}), "\x00\x00\x00\x01\x0a\x00\x00\x07\x00\x35"},
		{AppendHeader(nil, Addr{Name: "db", Port: 53}), "\x00\x00\x00\x03\x02db\x00\x35"},
	} {
		if string(c.got) != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestDatagram(t *testing.T) {
	to, payload, err := ParseDatagram([]byte("\x00\x00\x00\x03\x02db\x00\x35query"))
	if err != nil || to.String() != "db:53" || string(payload) != "query" {
		t.Errorf("got %v, %q, %v, want db:53, query", to, payload, err)
	}
	for _, bad := range []string{
		"", "\x00\x00\x00", "\x00\x00\x00\x03\x02d", "\x01\x00\x00\x01\x7f\x00\x00\x01\x00\x35x",
		"\x00\x00\x01\x01\x7f\x00\x00\x01\x00\x35x", "\x00\x00\x00\x09\x7f\x00\x00\x01\x00\x35x",
	} {
		if to, _, err := ParseDatagram([]byte(bad)); err == nil {
			t.Errorf("ParseDatagram(%q) = %v, want an error", bad, to)
		}
	}
}

// FuzzParse: no parser panics, takes more than there is, or changes its mind once more bytes have come.
func FuzzParse(f *testing.F) {
	for _, c := range requests {
		f.Add([]byte(c.bytes))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, parse := range map[string]func([]byte) (int, error){
			"greeting": func(b []byte) (int, error) { _, n, err := ParseGreeting(b); return n, err },
			"password": ParsePassword,
			"request":  func(b []byte) (int, error) { _, n, err := ParseRequest(b); return n, err },
			"request4": func(b []byte) (int, error) { _, n, err := ParseRequest4(b); return n, err },
		} {
			n, err := parse(b)
			if n < 0 || n > len(b) {
				t.Fatalf("%s of %q takes %d bytes", name, b, n)
			}
			if n == 0 && err == nil {
				continue
			}
			if m, again := parse(append(bytes.Clone(b), "more"...)); m != n || (again == nil) != (err == nil) {
				t.Fatalf("%s of %q = %d, %v, and with more behind it %d, %v", name, b, n, err, m, again)
			}
		}
		if to, payload, err := ParseDatagram(b); err == nil {
			again, p, err := ParseDatagram(append(AppendHeader(nil, to), payload...))
			if err != nil || again != to || !bytes.Equal(p, payload) {
				t.Fatalf("ParseDatagram(%q) = %v, %q, and then %v, %q, %v", b, to, payload, again, p, err)
			}
		}
	})
}
