package local

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/tls/devca"
)

// tlsApp is an app that speaks TLS itself, and echoes.
func tlsApp(t *testing.T) func(net.Conn) {
	t.Helper()
	ca, _, err := devca.OpenFor(t.TempDir(), "example.org")
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := ca.Issue("spiffe://example.org/db", devca.IssueOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return func(c net.Conn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}})
		_, _ = io.Copy(s, s)
		s.Close()
	}
}

// slowly writes in small pieces.
type slowly struct{ net.Conn }

func (s slowly) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := s.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
		if i%50 == 0 {
			time.Sleep(100 * time.Microsecond)
		}
	}
	return len(p), nil
}

func TestTLSPassedThrough(t *testing.T) {
	app := tlsApp(t)
	runtimes(t, app, func(t *testing.T, rt task.Runtime, f *far) {
		_, addr := serve(t, rt, f, Port{})
		for name, asked := range map[string]string{"db": "CONNECT db   local=true", "DB": "CONNECT db   local=true", "web": "CONNECT web:8443   local=true"} {
			raw, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			raw.SetDeadline(time.Now().Add(30 * time.Second))
			conn := net.Conn(raw)
			if name == "DB" {
				raw.(*net.TCPConn).SetNoDelay(true)
				conn = slowly{raw}
			}
			c := tls.Client(conn, &tls.Config{ServerName: name, InsecureSkipVerify: true})
			p := proxytest.NewPeer(t, c)
			p.Send("hello")
			p.Expect("hello")
			if got := f.last.Load(); got != asked {
				t.Errorf("asked for %q, want %q", got, asked)
			}
			c.Close()
		}
	})
}

func TestTLSRefused(t *testing.T) {
	runtimes(t, nil, func(t *testing.T, rt task.Runtime, f *far) {
		_, addr := serve(t, rt, f, Port{})
		err := tls.Client(dial(t, addr), &tls.Config{ServerName: "db", InsecureSkipVerify: true}).Handshake()
		if err == nil || !strings.Contains(err.Error(), "internal error") {
			t.Errorf("the app is away, and its client says %v, want internal error", err)
		}
		for what, x := range map[string]struct{ say, hear string }{
			"no ClientHello":      {"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "\x15\x03\x03\x00\x02\x02\x32"},
			"a huge one":          {"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + strings.Repeat("x", 1<<14-4), "\x15\x03\x03\x00\x02\x02\x32"},
			"one without an end":  {"\x16\x03\x01\x40\x00\x01\x00\x3f\xff" + strings.Repeat("x", 1<<14-5), "\x15\x03\x03\x00\x02\x02\x32"},
			"one without a name":  {string(noName), "\x15\x03\x03\x00\x02\x02\x6d"},
			"one that names none": {string(bytes.ReplaceAll(noName, []byte("\x13\x01"), []byte("\x13\x02"))), "\x15\x03\x03\x00\x02\x02\x6d"},
		} {
			c := dial(t, addr)
			c.Send(x.say)
			got := make([]byte, len(x.hear))
			if n, err := io.ReadFull(c, got); string(got) != x.hear {
				t.Errorf("%s: got %q, %v, want %q", what, got[:n], err, x.hear)
			}
			c.Close()
		}
		if f.streams.Load() != 0 {
			t.Error("a stream was opened")
		}
	})
}

// noName is a ClientHello without extensions.
var noName = append([]byte("\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x03"+strings.Repeat("r", 32)), "\x00\x00\x02\x13\x01\x01\x00"...)
