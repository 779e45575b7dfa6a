package local

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/answer"
	"github.com/pillion-proxy/pillion/proxy/detect"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/relay"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// far is what the outbound stack reaches: an app that answers Exchanges with their request line, and a TCP app behind Streams.
type far struct {
	tcp       string        // address of the TCP app; "" refuses Streams
	hold      chan struct{} // if not nil, a Stream is opened once it is closed, or the request is cancelled
	exchanges atomic.Int32
	streams   atomic.Int32
	cancelled atomic.Int32
	last      atomic.Value // proxy.Request's method, authority, path, service
}

func (f *far) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	f.last.Store(fmt.Sprintf("%s %s %s %v local=%v", req.Method, req.Authority, req.Path, req.Service, req.Local))
	if !req.IsConnect() {
		f.exchanges.Add(1)
		text := "you asked for " + req.Path
		resp.Status, resp.Length, resp.Body = 200, int64(len(text)), &body{rest: text}
		return nil
	}
	if f.hold != nil {
		for held := true; held; {
			select {
			case <-f.hold:
				held = false
			default:
				req.Shard.Sleep(time.Millisecond)
			}
			if err := req.Cancel.Err(); err != nil {
				f.cancelled.Add(1)
				return &proxy.Error{Code: proxy.ClientGone, Err: err, Unsent: true}
			}
		}
	}
	if f.tcp == "" {
		return &proxy.Error{Code: proxy.AppUnreachable, Detail: "no app here", Unsent: true}
	}
	f.streams.Add(1)
	c, err := req.Shard.Dial("tcp", f.tcp, 0)
	if err != nil {
		return err
	}
	resp.Status, resp.Stream = 200, c
	resp.OnClose(closer{})
	return nil
}

type closer struct{}

func (closer) CloseResponse(r *proxy.Response) { _ = r.Stream.Reset() }

type body struct {
	proxy.Body
	rest string
}

func (b *body) Read(p []byte) (int, error) {
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}
func (b *body) Buffered() int {
	if b.rest == "" {
		return -1
	}
	return len(b.rest)
}
func (b *body) Trailers() proxy.Fields { return nil }
func (b *body) Close() error           { return nil }

// serve opens one port before h.
func serve(t *testing.T, rt task.Runtime, h proxy.RoundTripper, p Port) (*Server, string) {
	t.Helper()
	return serveSet(t, rt, h, p, func(*Server) {})
}

// serveSet is serve with settings that are made before anybody connects.
func serveSet(t *testing.T, rt task.Runtime, h proxy.RoundTripper, p Port, set func(*Server)) (*Server, string) {
	t.Helper()
	l, err := New(Config{
		Handler: answer.Rescue(h), Tunnel: relay.Copy, Answer: answer.Fill, TLSPorts: map[string]uint16{"web": 8443},
		Shards: rt.Shards(), Logger: proxytest.Logger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	set(l)
	p.Name = "test"
	if p.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	addr := p.Listener.Addr().String()
	ln, err := l.Listen(rt, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return l, addr
}

func dial(t *testing.T, addr string) *proxytest.Peer {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return proxytest.NewPeer(t, c)
}

// tcpApp serves every connection with f, until stop.
func tcpApp(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				f(c)
			})
		}
	})
	t.Cleanup(func() { ln.Close(); running.Wait() })
	return ln.Addr().String()
}

func echo(c net.Conn) { _, _ = io.Copy(c, c) }

func banner(c net.Conn) {
	fmt.Fprint(c, "220 ready\r\n")
	_, _ = io.Copy(c, c)
}

// runtimes is proxytest.Runtimes, with the test's apps ended before it looks what is left over.
func runtimes(t *testing.T, app func(net.Conn), f func(t *testing.T, rt task.Runtime, far *far)) {
	t.Helper()
	tcp := ""
	if app != nil {
		tcp = tcpApp(t, app)
	}
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) { f(t, rt, &far{tcp: tcp}) })
}

const get = "GET /a HTTP/1.1\r\nHost: api\r\n\r\n"

func expectAnswer(p *proxytest.Peer, path string) {
	p.ExpectUntil("\r\n\r\n")
	p.Expect("you asked for " + path)
}

func TestOutboundHTTP1(t *testing.T) {
	runtimes(t, nil, func(t *testing.T, rt task.Runtime, f *far) {
		_, addr := serve(t, rt, f, Port{})
		c := dial(t, addr)
		c.Send(get)
		expectAnswer(c, "/a")
		c.Send("GET http://api/b HTTP/1.1\r\nHost: api\r\n\r\n")
		expectAnswer(c, "/b")
		if got, want := f.last.Load(), "GET api /b  local=true"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		proxytest.Eventually(t, "the connection is idle", func() bool { return rt.Stats().Idle == 1 && rt.Stats().Buffers == 0 })
		c.Close()
	})
}

func TestSplitFirstPackets(t *testing.T) {
	runtimes(t, nil, func(t *testing.T, rt task.Runtime, f *far) {
		_, addr := serve(t, rt, f, Port{})
		c := dial(t, addr)
		for _, piece := range []string{"G", "ET /", "a HTT", "P/1.1\r\nHo", "st: api\r\n\r", "\n"} {
			c.Send(piece)
			time.Sleep(2 * time.Millisecond)
		}
		expectAnswer(c, "/a")
		c.Close()
	})
}

func h2Client() *http.Client {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{Protocols: p}, Timeout: 10 * time.Second}
}

func TestOutboundH2C(t *testing.T) {
	runtimes(t, nil, func(t *testing.T, rt task.Runtime, f *far) {
		l, addr := serve(t, rt, f, Port{})
		hc := h2Client()
		defer hc.CloseIdleConnections()
		for range 2 {
			resp, err := hc.Get("http://" + addr + "/x")
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.ProtoMajor != 2 || string(text) != "you asked for /x" {
				t.Errorf("got %s %q", resp.Proto, text)
			}
		}
		proxytest.Eventually(t, "no buffer is held", func() bool { return rt.Stats().Buffers == 0 })
		l.Shutdown()
		proxytest.Eventually(t, "the connection ends", func() bool { return rt.Stats().Conns == 0 })
	})
}

func TestShutdownReachesLaterH2C(t *testing.T) {
	runtimes(t, nil, func(t *testing.T, rt task.Runtime, f *far) {
		l, addr := serve(t, rt, f, Port{})
		l.Shutdown()
		hc := h2Client()
		defer hc.CloseIdleConnections()
		if resp, err := hc.Get("http://" + addr + "/x"); err == nil {
			resp.Body.Close()
		}
		proxytest.Eventually(t, "the connection ends", func() bool { return rt.Stats().Conns == 0 })
	})
}

func TestOutboundConnect(t *testing.T) {
	runtimes(t, echo, func(t *testing.T, rt task.Runtime, f *far) {
		_, addr := serve(t, rt, f, Port{})
		c := dial(t, addr)
		c.Send("CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\nearly")
		c.ExpectUntil("\r\n\r\n")
		c.Expect("early")
		c.Send("more")
		c.FinishSending()
		c.Expect("more")
		c.ExpectEOF()
	})
}

func TestRefusedProtocols(t *testing.T) {
	runtimes(t, nil, func(t *testing.T, rt task.Runtime, f *far) {
		_, addr := serve(t, rt, f, Port{Service: db, Protocol: HTTP})
		for what, said := range map[string]string{"TLS": "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "SOCKS5": "\x05\x01\x00"} {
			c := dial(t, addr)
			c.Send(said)
			if rest, err := io.ReadAll(c); len(rest) > 0 {
				t.Errorf("%s: got %q, %v, want the end", what, rest, err)
			}
		}
		for _, said := range []string{"\x00\x01\x02\x03\r\n\r\n", "hello there\r\n\r\n", "GET /\r\n\r\n"} {
			c := dial(t, addr)
			c.Send(said)
			if got := c.ExpectUntil("\r\n"); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
				t.Errorf("%q: got %q, want a 400", said, got)
			}
			c.ExpectClosed()
		}
		c := dial(t, addr) // leaves in the middle
		c.Send("GE")
		c.Close()
		if f.exchanges.Load()+f.streams.Load() != 0 {
			t.Error("something was forwarded")
		}
	})
}

var db = proxy.Service{Name: "db", Port: 5432}

func TestTCPPort(t *testing.T) {
	runtimes(t, banner, func(t *testing.T, rt task.Runtime, f *far) {
		_, addr := serve(t, rt, f, Port{Service: db, Protocol: TCP})
		c := dial(t, addr)
		c.Expect("220 ready\r\n")
		c.Send(get) // just bytes
		c.Expect(get)
		c.FinishSending()
		c.ExpectEOF()
		if got, want := f.last.Load(), "CONNECT db:5432  db:5432 local=true"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestTCPPortResetsWithoutAStream(t *testing.T) {
	runtimes(t, nil, func(t *testing.T, rt task.Runtime, f *far) {
		f.hold = make(chan struct{})
		_, addr := serve(t, rt, f, Port{Service: db, Protocol: TCP})
		c := dial(t, addr)
		close(f.hold)
		if _, err := io.ReadAll(c); err == nil {
			t.Error("a connection without a stream ended in order, want a reset")
		}
	})
}

func TestHTTPPort(t *testing.T) {
	runtimes(t, nil, func(t *testing.T, rt task.Runtime, f *far) {
		_, addr := serve(t, rt, f, Port{Service: proxy.Service{Name: "api"}, Protocol: HTTP})
		c := dial(t, addr)
		c.Send(get)
		expectAnswer(c, "/a")
		if got, want := f.last.Load(), "GET api /a api local=true"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		c.Close()
	})
}

// The server's first word passes although nobody knows the protocol, and without a wait.
func TestAutoServerFirst(t *testing.T) {
	runtimes(t, banner, func(t *testing.T, rt task.Runtime, f *far) {
		l, addr := serve(t, rt, f, Port{Service: db})
		for _, known := range []detect.Verdict{detect.Unknown, detect.ServerFirst} {
			if got := l.Speaks(db); got != known {
				t.Errorf("speaks %v, want %v", got, known)
			}
			c := dial(t, addr)
			c.Expect("220 ready\r\n")
			c.Send("EHLO\r\n")
			c.Expect("EHLO\r\n")
			c.FinishSending()
			c.ExpectEOF()
		}
	})
}

func TestAutoClientFirst(t *testing.T) {
	runtimes(t, echo, func(t *testing.T, rt task.Runtime, f *far) {
		_, addr := serve(t, rt, f, Port{Service: db})
		for _, said := range []string{"\x00\x03hello", "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "PING\r\n"} {
			c := dial(t, addr)
			c.Send(said)
			c.Expect(said)
			c.FinishSending()
			c.ExpectEOF()
		}
		// Bytes that could become HTTP are held back for a moment only, and a client that finishes at once is heard.
		c := dial(t, addr)
		c.Send("GE")
		c.FinishSending()
		c.Expect("GE")
		c.ExpectEOF()
	})
}

func TestAutoHTTP(t *testing.T) {
	runtimes(t, echo, func(t *testing.T, rt task.Runtime, f *far) {
		l, addr := serve(t, rt, f, Port{Service: db})
		c := dial(t, addr)
		c.Send(get)
		expectAnswer(c, "/a")
		c.Send("GET /b HTTP/1.1\r\nHost: api\r\n\r\n")
		expectAnswer(c, "/b")
		c.Close()
		if got := l.Speaks(db); got != detect.HTTP1 {
			t.Errorf("speaks %v, want http1", got)
		}
		proxytest.Eventually(t, "the stream for whoever speaks first", func() bool { return f.streams.Load() == 1 })
		c = dial(t, addr)
		c.Send(get)
		expectAnswer(c, "/a")
		c.Close()
		if f.streams.Load() != 1 {
			t.Error("a stream was opened for a service that is known to speak HTTP")
		}
		// The bytes of a connection have the last word.
		c = dial(t, addr)
		c.Send("\x00\x03hello")
		c.Expect("\x00\x03hello")
		c.Close()
		proxytest.Eventually(t, "every connection ends", func() bool { return rt.Stats().Conns == 0 })
	})
}

func TestAutoH2C(t *testing.T) {
	runtimes(t, echo, func(t *testing.T, rt task.Runtime, f *far) {
		l, addr := serve(t, rt, f, Port{Service: db})
		hc := h2Client()
		resp, err := hc.Get("http://" + addr + "/x")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadAll(resp.Body)
		resp.Body.Close()
		if got := l.Speaks(db); got != detect.HTTP2 {
			t.Errorf("speaks %v, want http2", got)
		}
		hc.CloseIdleConnections()
		// RFC 9113 section 3.4: an invalid preface is an error of the connection, and no answer in HTTP/1 follows.
		c := dial(t, addr)
		c.Send("INVALID CONNECTION PREFACE\r\n\r\n")
		if got, err := io.ReadAll(c); len(got) > 0 {
			t.Errorf("an invalid preface was answered with %q, %v", got, err)
		}
		c.Close()
	})
}

// One who knocks with HTTP at the door of a database changes nothing for its clients.
func TestStrayHTTPIsNotRemembered(t *testing.T) {
	runtimes(t, nil, func(t *testing.T, rt task.Runtime, f *far) {
		refusing := proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			return &proxy.Error{Code: proxy.AppBadAnswer}
		})
		l, addr := serve(t, rt, refusing, Port{Service: db})
		c := dial(t, addr)
		c.Send(get)
		if got := c.ExpectUntil("\r\n"); !strings.Contains(got, "502") {
			t.Errorf("got %q, want the explanation", got)
		}
		c.Close()
		if got := l.Speaks(db); got != detect.Unknown {
			t.Errorf("speaks %v, want unknown", got)
		}
	})
}

func TestClientLeavesWhileTheStreamIsOpened(t *testing.T) {
	for _, protocol := range []Protocol{Auto, TCP} {
		for _, words := range []string{"", "\x00\x01"} {
			if protocol == TCP && words != "" {
				continue // bytes that nobody reads yet hide the reset behind them
			}
			t.Run(fmt.Sprintf("%d%q", protocol, words), func(t *testing.T) {
				proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
					f := &far{hold: make(chan struct{})}
					_, addr := serve(t, rt, f, Port{Service: db, Protocol: protocol})
					c := dial(t, addr)
					c.Send(words)
					proxytest.Eventually(t, "the stream is being opened", func() bool { return f.last.Load() != nil })
					time.Sleep(10 * time.Millisecond)
					c.Abort()
					proxytest.Eventually(t, "nobody waits any more", func() bool { return f.cancelled.Load() == 1 && rt.Stats().Tasks == 0 })
				})
			})
		}
	}
}

// A client that has sent all it wants to say waits for its answer.
func TestHalfCloseWhileTheStreamIsOpened(t *testing.T) {
	for _, protocol := range []Protocol{Auto, TCP} {
		app := tcpApp(t, echo)
		proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
			f := &far{tcp: app, hold: make(chan struct{})}
			_, addr := serve(t, rt, f, Port{Service: db, Protocol: protocol})
			c := dial(t, addr)
			c.Send("\x00\x01")
			c.FinishSending()
			time.Sleep(10 * time.Millisecond)
			close(f.hold)
			c.Expect("\x00\x01")
			c.ExpectEOF()
		})
	}
}

// HTTP on a port whose service has no app gets words, everything else a reset, nobody silence.
func TestAutoWithoutAnApp(t *testing.T) {
	runtimes(t, nil, func(t *testing.T, rt task.Runtime, f *far) {
		_, addr := serve(t, rt, f, Port{Service: db})
		c := dial(t, addr)
		c.Send(get)
		expectAnswer(c, "/a")
		c.Close()
		c = dial(t, addr)
		c.Send("\x00\x01")
		if _, err := io.ReadAll(c); err == nil {
			t.Error("ended in order, want a reset")
		}
	})
}

// A panic in the stack, or the end of the runtime, leaves nobody waiting.
func TestPanicWhileTheStreamIsOpened(t *testing.T) {
	proxytest.PanickyRuntimes(t, func(t *testing.T, rt task.Runtime) {
		broken := proxy.RoundTripperFunc(func(*proxy.Request, *proxy.Response) error { panic("a bug, played by a test") })
		_, addr := serve(t, rt, broken, Port{Service: db})
		c := dial(t, addr)
		c.Send("\x00\x01")
		if _, err := io.ReadAll(c); err == nil {
			t.Error("ended in order, want a reset")
		}
	})
}

func TestPrefixedMayBeResetByTheOtherDirection(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		for range 50 {
			c, _ := proxytest.Pair(t, s)
			var p *prefixed
			proxytest.Do(t, s, func() {
				p = &prefixed{Conn: c, shard: s, first: s.Buffer()}
				p.first.R, p.first.W = 0, 1000
			})
			reading := proxytest.Go(s, func() {
				b := make([]byte, 10)
				for {
					if _, err := p.Read(b); err != nil {
						return
					}
				}
			})
			resetting := proxytest.Go(s, func() { p.Reset() })
			proxytest.Wait(t, reading)
			proxytest.Wait(t, resetting)
		}
	})
}

func TestWhyIsBounded(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		proxytest.Do(t, s, func() {
			resp := &proxy.Response{Status: 503, Fields: proxy.Fields{{Name: answer.CodeField, Value: "denied"}}, Body: silent{}}
			if got := why(s, resp, nil); got != "status 503 denied" {
				t.Errorf("got %q", got)
			}
			resp.Body = &body{rest: "because\n"}
			if got := why(s, resp, nil); got != "status 503 denied: because" {
				t.Errorf("got %q", got)
			}
			if got := why(s, resp, errors.New("x")); got != "x" {
				t.Errorf("got %q", got)
			}
		})
	})
}

type silent struct{ proxy.Body }

func (silent) Buffered() int            { return 0 }
func (silent) Read([]byte) (int, error) { panic("would wait for ever") }

func TestSniffOfAKeptConnectionAllocatesNothing(t *testing.T) {
	first := &task.Buffer{B: make([]byte, task.BufferSize)}
	first.W = copy(first.B, get)
	p := &port{}
	if n := proxytest.Allocs(100, func() {
		if p.sniff(nil, nil, first) != detect.HTTP1 {
			t.Error("not HTTP/1")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// Connections on which nobody has spoken do not hold up the end.
func TestShutdownEndsTheSilent(t *testing.T) {
	runtimes(t, echo, func(t *testing.T, rt task.Runtime, f *far) {
		l, addr := serve(t, rt, f, Port{Service: db})
		c := dial(t, addr)
		proxytest.Eventually(t, "the stream is open", func() bool { return rt.Stats().Conns == 2 })
		l.Shutdown()
		c.ExpectEOF()
	})
}
