package sni

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// hello is what crypto/tls says first with this configuration.
func hello(t testing.TB, cfg *tls.Config) []byte {
	t.Helper()
	c, s := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		cfg.InsecureSkipVerify = true
		_ = tls.Client(c, cfg).Handshake()
	}()
	defer func() { s.Close(); c.Close(); <-done }()
	s.SetDeadline(time.Now().Add(30 * time.Second))
	head := make([]byte, recordHeader)
	if _, err := io.ReadFull(s, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(s, body); err != nil {
		t.Fatal(err)
	}
	return append(head, body...)
}

// cut spreads the one record of b over records of n bytes.
func cut(b []byte, n int) []byte {
	var out []byte
	for rest := b[recordHeader:]; len(rest) > 0; {
		k := min(n, len(rest))
		out = append(out, b[0], b[1], b[2], byte(k>>8), byte(k))
		out = append(out, rest[:k]...)
		rest = rest[k:]
	}
	return out
}

func TestName(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		b := hello(t, &tls.Config{ServerName: "Billing.Example.com", MinVersion: version, MaxVersion: version, NextProtos: []string{"h2"}})
		for _, records := range [][]byte{b, cut(b, 1), cut(b, 3), cut(b, 100)} {
			whole := append(bytes.Clone(records), "and more"...)
			if name, ok, err := Name(whole); name != "billing.example.com" || !ok || err != nil {
				t.Fatalf("TLS %x: Name = %q, %v, %v, want billing.example.com", version, name, ok, err)
			}
			for i := range len(records) {
				if name, ok, err := Name(records[:i]); name != "" || ok || err != nil {
					t.Fatalf("TLS %x: Name of %d bytes of %d = %q, %v, %v, want more bytes", version, i, len(records), name, ok, err)
				}
			}
		}
	}
}

func TestNoName(t *testing.T) {
	b := hello(t, &tls.Config{})
	if name, ok, err := Name(b); name != "" || !ok || err != ErrNoName {
		t.Errorf("without SNI: %q, %v, %v, want ErrNoName", name, ok, err)
	}
	// RFC 6066 section 3: "Literal IPv4 and IPv6 addresses are not permitted": crypto/tls sends none.
	b = hello(t, &tls.Config{ServerName: "10.0.0.7"})
	if name, ok, err := Name(b); name != "" || !ok || err != ErrNoName {
		t.Errorf("with an address: %q, %v, %v, want ErrNoName", name, ok, err)
	}
}

// TestEncryptedHello: the outer name is the one that counts, for nobody but the server can read the inner one.
func TestEncryptedHello(t *testing.T) {
	b := withExtensions(extension(0xfe0d, []byte("whatever is encrypted")), extension(extServerName, serverName("public.example.com")))
	if name, ok, err := Name(b); name != "public.example.com" || !ok || err != nil {
		t.Errorf("Name = %q, %v, %v, want public.example.com", name, ok, err)
	}
}

func TestBad(t *testing.T) {
	for what, b := range map[string][]byte{
		"another record":         []byte("\x17\x03\x03"),
		"SSL 2":                  []byte("\x80\x2e\x01\x03\x01"),
		"another version":        []byte("\x16\x04"),
		"an empty record":        []byte("\x16\x03\x01\x00\x00"),
		"a huge record":          []byte("\x16\x03\x01\xff\xff"),
		"a ServerHello":          []byte("\x16\x03\x01\x00\x04\x02\x00\x00\x00"),
		"a huge message":         []byte("\x16\x03\x01\x00\x04\x01\xff\x00\x00"),
		"a short hello":          []byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03"),
		"an extension too long":  withExtensions([]byte("\x00\x00\xff\xff")),
		"an extension too short": withExtensions([]byte("\x00")),
		"a list that lies":       withExtensions(extension(extServerName, []byte("\x00\x09\x00\x00\x01a"))),
		"an empty list":          withExtensions(extension(extServerName, []byte("\x00\x00"))),
		"a name with a slash":    withExtensions(extension(extServerName, serverName("a/b"))),
		"a name with a port":     withExtensions(extension(extServerName, serverName("a:80"))),
		"a name that is long":    withExtensions(extension(extServerName, serverName(strings.Repeat("a", 254)))),
	} {
		if name, ok, err := Name(b); !ok || err == nil || errors.Is(err, ErrNoName) {
			t.Errorf("%s: Name = %q, %v, %v, want an error", what, name, ok, err)
		}
	}
}

func extension(kind uint16, data []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, kind)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(data))), data...)
}

func serverName(name string) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(name)+3))
	b = binary.BigEndian.AppendUint16(append(b, nameTypeHost), uint16(len(name)))
	return append(b, name...)
}

// withExtensions is a record with a ClientHello that has these.
func withExtensions(all ...[]byte) []byte {
	ext := bytes.Join(all, nil)
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0, 0, 2, 0x13, 0x01, 1, 0)
	body = append(binary.BigEndian.AppendUint16(body, uint16(len(ext))), ext...)
	msg := append([]byte{helloMessage, 0, byte(len(body) >> 8), byte(len(body))}, body...)
	return append([]byte{recordHandshake, 3, 1, byte(len(msg) >> 8), byte(len(msg))}, msg...)
}

// TestAlert: a client of crypto/tls understands the refusal.
func TestAlert(t *testing.T) {
	c, s := net.Pipe()
	defer c.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 4096)
		_, _ = s.Read(b)
		_, _ = s.Write(AppendAlert(nil, UnrecognizedName))
		s.Close()
	}()
	err := tls.Client(c, &tls.Config{ServerName: "nobody"}).Handshake()
	<-done
	if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("the client says %v, want unrecognized name", err)
	}
}

// FuzzName: no bytes make it panic or return half an answer, and more bytes do not change an answer.
func FuzzName(f *testing.F) {
	b := hello(f, &tls.Config{ServerName: "billing"})
	f.Add(b)
	f.Add(cut(b, 50))
	f.Add(hello(f, &tls.Config{}))
	f.Add(withExtensions(extension(extServerName, serverName("a"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		name, ok, err := Name(b)
		if ok != (name != "" || err != nil) || name != "" && err != nil {
			t.Fatalf("Name(%q) = %q, %v, %v", b, name, ok, err)
		}
		if again, still, _ := Name(append(bytes.Clone(b), 0)); ok && (again != name || !still) {
			t.Fatalf("Name(%q) = %q, and with a byte more %q, %v", b, name, again, still)
		}
	})
}
