package http1

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// loopback is a Server whose handler is one ClientConn, over connections that never wait: the cost of
// the codec, both roles, and nothing else.
type loopback struct {
	s      *fakeShard
	srv    *Server
	client *fakeConn
	app    *fakeConn
	cc     *ClientConn
	got    []byte // what the client received
	writes int    // in how many writes
	failed error
}

func newLoopback(answer string) *loopback {
	l := &loopback{s: new(fakeShard)}
	reply := []byte(answer)
	l.app = &fakeConn{wrote: func(c *fakeConn, p []byte) { c.in = reply }}
	l.client = &fakeConn{wrote: func(c *fakeConn, p []byte) {
		l.got = append(l.got, p...)
		l.writes++
	}}
	l.cc = NewClientConn(l.s, l.app, ClientConfig{Memory: NewMemory(l.s)})
	l.srv, l.failed = NewServer(ServerConfig{Handler: l})
	return l
}

func (l *loopback) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	err := l.cc.RoundTrip(req, resp)
	if err != nil {
		l.failed = err
	}
	return err
}

// exchange has the server serve request, which has arrived whole.
func (l *loopback) exchange(request string) {
	b := l.s.Buffer()
	b.W = copy(b.B, request)
	l.got, l.writes = l.got[:0], 0
	l.srv.Serve(l.s, l.client, b)
}

var exchanges = []struct{ name, request, answer string }{
	{"get", typical, crlf("HTTP/1.1 200 OK\nContent-Type: application/json\nDate: Tue, 15 Nov 1994 08:12:31 GMT\nContent-Length: 1024\n\n") + strings.Repeat("x", 1024)},
	{"get chunked", typical, crlf("HTTP/1.1 200 OK\nContent-Type: application/json\nTransfer-Encoding: chunked\n\n400\n") + strings.Repeat("x", 1024) + crlf("\n0\n\n")},
	{"post", crlf("POST / HTTP/1.1\nHost: a\nContent-Type: text/plain\nContent-Length: 100\n\n") + strings.Repeat("y", 100), crlf("HTTP/1.1 204 No Content\n\n")},
}

// A whole exchange, server and client, allocates nothing in the steady state, holds no buffer afterwards, and is one write each way.
func TestExchangeAllocatesNothing(t *testing.T) {
	for _, c := range exchanges {
		l := newLoopback(c.answer)
		sent := 0
		answer := l.app.wrote
		l.app.wrote = func(f *fakeConn, p []byte) {
			sent++
			answer(f, p)
		}
		n := testing.AllocsPerRun(200, func() { l.exchange(c.request) })
		if l.failed != nil || !bytes.HasPrefix(l.got, []byte("HTTP/1.1 20")) || sent != 201 || l.writes != 1 {
			t.Errorf("%s: %v, answer %.60q in %d writes, %d requests in 201 exchanges", c.name, l.failed, l.got, l.writes, sent)
		}
		if n != 0 {
			t.Errorf("%s: %v allocations, want 0", c.name, n)
		}
		if l.s.out != 0 {
			t.Errorf("%s: %d buffers are held", c.name, l.s.out)
		}
	}
}

func BenchmarkExchange(b *testing.B) {
	for _, c := range exchanges {
		b.Run(c.name, func(b *testing.B) {
			l := newLoopback(c.answer)
			b.ReportAllocs()
			b.SetBytes(int64(len(c.request) + len(c.answer)))
			for b.Loop() {
				l.exchange(c.request)
			}
			if l.failed != nil {
				b.Fatal(l.failed)
			}
		})
	}
}

// BenchmarkBaseline is the same without a proxy: the bytes of request and answer are copied as the connections copy them.
func BenchmarkBaseline(b *testing.B) {
	c := exchanges[0]
	buf := make([]byte, task.BufferSize)
	b.ReportAllocs()
	b.SetBytes(int64(len(c.request) + len(c.answer)))
	for b.Loop() {
		copy(buf, c.request)
		copy(buf, c.answer)
	}
}

// BenchmarkContent is bulk through the decoder and the writer: content of 1 MiB in chunks of 16 KiB.
func BenchmarkContent(b *testing.B) {
	for _, how := range []string{"sized", "chunked"} {
		b.Run(how, func(b *testing.B) {
			const size = 1 << 20
			answer := crlf("HTTP/1.1 200 OK\nContent-Length: 1048576\n\n") + strings.Repeat("x", size)
			if how == "chunked" {
				answer = crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n") + strings.Repeat("4000\r\n"+strings.Repeat("x", 16<<10)+"\r\n", size>>14) + crlf("0\n\n")
			}
			l := newLoopback(answer)
			l.client.wrote = nil
			b.ReportAllocs()
			b.SetBytes(size)
			for b.Loop() {
				l.exchange(typical)
			}
			if l.failed != nil && l.failed != io.EOF {
				b.Fatal(l.failed)
			}
		})
	}
}
