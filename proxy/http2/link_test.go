package http2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/relay"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// link is a client Conn and a server Conn over loopback, on one shard, both served by tasks.
type link struct {
	t              testing.TB
	s              task.Shard
	client, server *Conn
	ended          chan error // Serve's results
}

func newLink(t testing.TB, s task.Shard, server, client Config) *link {
	t.Helper()
	a, b := proxytest.NetPair(t, "tcp", "127.0.0.1:0")
	b.SetDeadline(time.Time{})
	l := &link{t: t, s: s, ended: make(chan error, 2)}
	proxytest.Call(t, s, func() {
		ca, err := s.Adopt(a)
		if err != nil {
			t.Error(err)
		}
		cb, err := s.Adopt(b)
		if err != nil {
			t.Error(err)
		}
		l.server = NewServer(s, ca, server)
		l.client = NewClient(s, cb, client)
		s.Go(func() { l.ended <- l.server.Serve(nil) })
		s.Go(func() { l.ended <- l.client.Serve(nil) })
	})
	return l
}

// close ends both and waits.
func (l *link) close() {
	l.t.Helper()
	proxytest.Call(l.t, l.s, l.client.Close)
	proxytest.Call(l.t, l.s, l.server.Close)
	for range 2 {
		select {
		case <-l.ended:
		case <-time.After(30 * time.Second):
			l.t.Fatal("Serve does not return")
		}
	}
}

// do runs f in a task.
func (l *link) do(f func()) { l.t.Helper(); proxytest.Do(l.t, l.s, f) }

// stats of both ends.
func (l *link) stats() (client, server Stats) {
	l.t.Helper()
	proxytest.Call(l.t, l.s, func() { client, server = l.client.Stats(), l.server.Stats() })
	return client, server
}

type handler = proxy.RoundTripperFunc

// content is a Body made of parts, each returned by one Read after an optional wait.
type content struct {
	parts    [][]byte
	wait     func(i int)
	i        int
	err      error // after the last part, io.EOF if nil
	trailers proxy.Fields
	closed   bool
}

func (b *content) Read(p []byte) (int, error) {
	if b.i == len(b.parts) {
		if b.err != nil {
			return 0, b.err
		}
		return 0, io.EOF
	}
	if b.wait != nil {
		b.wait(b.i)
		b.wait = nil
	}
	n := copy(p, b.parts[b.i])
	if b.parts[b.i] = b.parts[b.i][n:]; len(b.parts[b.i]) == 0 {
		b.i++
	}
	return n, nil
}

func (b *content) Buffered() int {
	if b.wait != nil {
		return 0
	}
	n := 0
	for _, p := range b.parts[b.i:] {
		n += len(p)
	}
	if n == 0 && b.err == nil {
		return -1
	}
	return n
}
func (b *content) Trailers() proxy.Fields { return b.trailers }
func (b *content) Close() error           { b.closed = true; return nil }

func text(s string) *content { return &content{parts: [][]byte{[]byte(s)}} }

// readAll reads a body to its end.
func readAll(b proxy.Body) (string, error) {
	if b == nil {
		return "", nil
	}
	var out bytes.Buffer
	p := make([]byte, 4096)
	for {
		n, err := b.Read(p)
		out.Write(p[:n])
		if err == io.EOF {
			return out.String(), nil
		}
		if err != nil {
			return out.String(), err
		}
	}
}

func get(path string) *proxy.Request {
	return &proxy.Request{Method: "GET", Scheme: "http", Authority: "orders", Path: path, Cancel: new(proxy.Cancel)}
}

func post(path string, body proxy.Body, length int64) *proxy.Request {
	r := get(path)
	r.Method, r.Body, r.Length = "POST", body, length
	return r
}

// echo answers with what it got: the fields, the content, the trailers.
func echo(req *proxy.Request, resp *proxy.Response) error {
	body, err := readAll(req.Body)
	if err != nil {
		return err
	}
	resp.Status = 200
	resp.Fields.Add("x-method", req.Method)
	resp.Fields.Add("x-path", req.Path)
	resp.Fields.Add("x-authority", req.Authority)
	for _, f := range req.Fields {
		resp.Fields.Add("x-got-"+f.Name, f.Value)
	}
	b := text(body)
	if req.Body != nil {
		b.trailers = append(b.trailers, req.Body.Trailers()...)
	}
	resp.Length = proxy.Unknown
	resp.Body = b
	return nil
}

func TestExchange(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		l := newLink(t, rt.Shards()[0], Config{Handler: handler(echo)}, Config{})
		defer l.close()
		l.do(func() {
			for i := range 5 {
				b := text(fmt.Sprintf("hello %d", i))
				b.trailers = proxy.Fields{{Name: "x-sum", Value: "7"}}
				req := post("/a?b", b, proxy.Unknown)
				req.Fields = proxy.Fields{{Name: "Accept", Value: "*/*"}, {Name: "Host", Value: "orders"}, {Name: "Cookie", Value: "a=1"}}
				var resp proxy.Response
				if err := l.client.RoundTrip(req, &resp); err != nil {
					t.Error(err)
					return
				}
				got, err := readAll(resp.Body)
				if want := fmt.Sprintf("hello %d", i); got != want || err != nil || resp.Status != 200 {
					t.Errorf("got %d %q, %v, want %q", resp.Status, got, err, want)
				}
				for _, want := range [][2]string{{"x-method", "POST"}, {"x-path", "/a?b"}, {"x-authority", "orders"},
					{"x-got-accept", "*/*"}, {"x-got-cookie", "a=1"}} {
					if got := resp.Fields.Get(want[0]); got != want[1] {
						t.Errorf("field %s = %q, want %q", want[0], got, want[1])
					}
				}
				if resp.Fields.Has("x-got-host") {
					t.Error("Host was sent beside :authority")
				}
				if got := resp.Body.Trailers().Get("x-sum"); got != "7" {
					t.Errorf("trailer = %q, want 7", got)
				}
				resp.Close()
			}
		})
	})
}

func TestLargeBodies(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		l := newLink(t, rt.Shards()[0], Config{Handler: handler(echo)}, Config{})
		defer l.close()
		const size = 5 << 20
		data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
		l.do(func() {
			var resp proxy.Response
			b := &content{parts: [][]byte{data[:100], data[100:]}, wait: func(int) { l.s.Sleep(5 * time.Millisecond) }}
			if err := l.client.RoundTrip(post("/", b, size), &resp); err != nil {
				t.Error(err)
				return
			}
			got, err := readAll(resp.Body)
			if err != nil || got != string(data) {
				t.Errorf("got %d bytes, %v, want %d", len(got), err, size)
			}
			resp.Close()
		})
	})
}

func TestManyStreams(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		h := handler(func(req *proxy.Request, resp *proxy.Response) error {
			req.Shard.Sleep(5 * time.Millisecond)
			return echo(req, resp)
		})
		l := newLink(t, s, Config{Handler: h, MaxStreams: 1000}, Config{})
		defer l.close()
		l.do(func() {
			var resp proxy.Response
			if err := l.client.RoundTrip(get("/first"), &resp); err != nil {
				t.Error(err)
			}
			resp.Close()
		})
		var good, refused atomic.Int32
		done := make(chan struct{}, 1200)
		proxytest.Call(t, s, func() {
			for i := range 1200 {
				s.Go(func() {
					defer func() { done <- struct{}{} }()
					var resp proxy.Response
					want := fmt.Sprint("stream ", i)
					err := l.client.RoundTrip(post("/", text(want), proxy.Unknown), &resp)
					var e *proxy.Error
					if errors.As(err, &e) && e.Code == proxy.Refused && e.Unsent {
						refused.Add(1)
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					if got, err := readAll(resp.Body); got != want || err != nil {
						t.Errorf("got %q, %v, want %q", got, err, want)
					}
					resp.Close()
					good.Add(1)
				})
			}
		})
		for range 1200 {
			<-done
		}
		if good.Load() < 1000 || good.Load()+refused.Load() != 1200 {
			t.Errorf("%d good, %d refused, want at least 1000 of 1200 good", good.Load(), refused.Load())
		}
		c, sv := l.stats()
		if c.Streams != 0 || sv.Streams != 0 {
			t.Errorf("%d and %d streams are left", c.Streams, sv.Streams)
		}
	})
}

// tunnelConfig makes a server whose CONNECT ends at the far end of a pair.
func tunnelConfig(upstream func(req *proxy.Request) proxy.Stream) Config {
	return Config{
		Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			resp.Status = 200
			if req.Upgrade != "" {
				resp.Status = 101
			}
			resp.Stream = upstream(req)
			return nil
		}),
		Tunnel: func(s task.Shard, client, upstream proxy.Stream) {
			relay.Copy(s, client, upstream)
		},
	}
}

func adopt(t testing.TB, s task.Shard, c net.Conn) task.Conn {
	tc, err := s.Adopt(c)
	if err != nil {
		t.Error(err)
	}
	return tc
}

// str makes a string of memory that will be overwritten, as codecs with pooled buffers do.
func str(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
