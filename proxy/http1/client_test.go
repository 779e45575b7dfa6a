package http1

import (
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// client is a ClientConn with the app's end of its connection in the test's hands.
type client struct {
	t     *testing.T
	s     task.Shard
	cc    *ClientConn
	app   *proxytest.Peer
	idle  chan struct{} // one value per OnIdle
	close chan struct{} // one per OnClose
}

func newClient(t *testing.T, rt task.Runtime, cfg ClientConfig) *client {
	t.Helper()
	s := rt.Shards()[0]
	c, peer := proxytest.Pair(t, s)
	cl := &client{t: t, s: s, app: proxytest.NewPeer(t, peer), idle: make(chan struct{}, 10), close: make(chan struct{}, 10)}
	cfg.OnIdle = func(*ClientConn) { cl.idle <- struct{}{} }
	cfg.OnClose = func(*ClientConn) { cl.close <- struct{}{} }
	proxytest.Call(t, s, func() { cl.cc = NewClientConn(s, c, cfg) })
	return cl
}

// get starts an exchange whose answer is read to its end; the result comes on the channel.
func (cl *client) get(req *proxy.Request) <-chan result {
	done := make(chan result, 1)
	proxytest.Go(cl.s, func() {
		var r result
		var resp proxy.Response
		defer func() { done <- r }()
		req.Shard = cl.s
		if r.err = cl.cc.RoundTrip(req, &resp); r.err != nil {
			r.stale = cl.cc.Stale()
			return
		}
		r.status = resp.Status
		var p [100]byte
		for resp.Body != nil && r.err == nil {
			var n int
			n, r.err = resp.Body.Read(p[:])
			r.body += string(p[:n])
		}
		if r.err == io.EOF {
			r.err = nil
		}
		resp.Close()
	})
	return done
}

type result struct {
	status int
	body   string
	err    error
	stale  bool
}

func (r result) code() proxy.Code {
	var named *proxy.Error
	errors.As(r.err, &named)
	if named == nil {
		return ""
	}
	return named.Code
}

func (cl *client) wait(c <-chan result) result {
	cl.t.Helper()
	select {
	case r := <-c:
		return r
	case <-time.After(10 * time.Second):
		cl.t.Fatal("the exchange does not end")
	}
	return result{}
}

func (cl *client) expect(what string, c <-chan struct{}) {
	cl.t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second):
		cl.t.Fatalf("%s was not called", what)
	}
}

func plain() *proxy.Request {
	return &proxy.Request{Method: "GET", Scheme: "http", Authority: "a", Path: "/", Cancel: new(proxy.Cancel)}
}

const plainHead = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

func eachClient(t *testing.T, cfg ClientConfig, f func(t *testing.T, cl *client)) {
	t.Helper()
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) { f(t, newClient(t, rt, cfg)) })
}

func (cl *client) exchange() {
	cl.t.Helper()
	r := cl.get(plain())
	cl.app.Expect(plainHead)
	cl.app.Send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	if got := cl.wait(r); got.err != nil || got.status != 200 || got.body != "ok" {
		cl.t.Fatalf("got %+v, want 200 ok", got)
	}
}

func TestClientIsReused(t *testing.T) {
	eachClient(t, ClientConfig{}, func(t *testing.T, cl *client) {
		for range 3 {
			cl.exchange()
			cl.expect("OnIdle", cl.idle)
		}
		cl.app.Close()
		cl.expect("OnClose", cl.close)
		r := cl.wait(cl.get(plain()))
		var named *proxy.Error
		if !errors.As(r.err, &named) || named.Code != proxy.AppClosed || !named.Unsent || !r.stale {
			t.Errorf("RoundTrip after the end: %+v, want app_closed, unsent, stale", r)
		}
	})
}

// RFC 9112 section 9.2: "If a client receives data on a connection that doesn't have outstanding requests, the client MUST NOT consider that data to
// be a valid response; the client SHOULD close the connection".
func TestClientHearsWhatNobodyAskedFor(t *testing.T) {
	eachClient(t, ClientConfig{}, func(t *testing.T, cl *client) {
		cl.exchange()
		cl.app.Send("HTTP/1.1 408 Too slow\r\n\r\n")
		cl.expect("OnClose", cl.close)
		cl.app.ExpectClosed()
	})
	eachClient(t, ClientConfig{}, func(t *testing.T, cl *client) {
		r := cl.get(plain())
		cl.app.Expect(plainHead)
		cl.app.Send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more")
		if got := cl.wait(r); got.body != "ok" {
			t.Errorf("got %+v, want ok", got)
		}
		cl.expect("OnClose", cl.close)
	})
}

// The app closes an idle connection just as a request is sent: the pool may repeat it. On a new connection it may not.
func TestClientStale(t *testing.T) {
	for _, how := range []struct {
		name  string
		leave func(*proxytest.Peer)
	}{{"close", func(p *proxytest.Peer) { p.Close() }}, {"reset", (*proxytest.Peer).Abort}} {
		t.Run(how.name, func(t *testing.T) {
			eachClient(t, ClientConfig{}, func(t *testing.T, cl *client) {
				cl.exchange()
				r := cl.get(plain())
				cl.app.Expect(plainHead)
				how.leave(cl.app)
				if got := cl.wait(r); got.code() != proxy.AppClosed || !got.stale {
					t.Errorf("reused: %+v, want app_closed, stale", got)
				}
				cl.expect("OnClose", cl.close)
			})
			eachClient(t, ClientConfig{}, func(t *testing.T, cl *client) {
				r := cl.get(plain())
				cl.app.Expect(plainHead)
				how.leave(cl.app)
				if got := cl.wait(r); got.code() != proxy.AppClosed || got.stale {
					t.Errorf("new: %+v, want app_closed, not stale", got)
				}
			})
			eachClient(t, ClientConfig{}, func(t *testing.T, cl *client) {
				cl.exchange()
				r := cl.get(plain())
				cl.app.Expect(plainHead)
				cl.app.Send("H")
				time.Sleep(10 * time.Millisecond)
				how.leave(cl.app)
				if got := cl.wait(r); got.code() != proxy.AppClosed || got.stale {
					t.Errorf("answer begun: %+v, want app_closed, not stale", got)
				}
			})
		})
	}
}

// TestClientTruncated: an answer knows whether it is whole.
func TestClientTruncated(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		for _, c := range []struct {
			answer string
			read   bool
			want   proxy.Code
		}{
			{"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", true, proxy.AppClosed},
			{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n", true, proxy.AppClosed},
			{"HTTP/1.1 200 OK\r\n\r\nwhole", true, ""},
			{"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", false, ""}, // nobody asked for more
		} {
			cl := newClient(t, rt, ClientConfig{})
			done := proxytest.Go(cl.s, func() {
				var resp proxy.Response
				req := plain()
				req.Shard = cl.s
				if err := cl.cc.RoundTrip(req, &resp); err != nil {
					t.Error(err)
					return
				}
				if c.read {
					_, _ = io.ReadAll(resp.Body)
				}
				var named *proxy.Error
				if err := resp.Body.(proxy.Truncater).Truncated(); (err == nil) != (c.want == "") || errors.As(err, &named) && named.Code != c.want {
					t.Errorf("%q: truncated: %v, want %q", c.answer, err, c.want)
				}
				resp.Close()
			})
			cl.app.Expect(plainHead)
			cl.app.Send(c.answer)
			cl.app.Close()
			proxytest.Wait(t, done)
		}
	})
}

func TestClientCancel(t *testing.T) {
	eachClient(t, ClientConfig{}, func(t *testing.T, cl *client) {
		req := plain()
		r := cl.get(req)
		cl.app.Expect(plainHead)
		proxytest.Call(t, cl.s, func() { req.Cancel.Cancel(io.ErrUnexpectedEOF) })
		if got := cl.wait(r); got.code() != proxy.ClientGone || !errors.Is(got.err, io.ErrUnexpectedEOF) {
			t.Errorf("cancelled before the answer: %+v", got)
		}
		cl.expect("OnClose", cl.close)
		if _, err := cl.app.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the app read %v, want a reset", err)
		}
	})
	eachClient(t, ClientConfig{}, func(t *testing.T, cl *client) {
		req := plain()
		r := cl.get(req)
		cl.app.Expect(plainHead)
		cl.app.Send("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok")
		time.Sleep(10 * time.Millisecond)
		proxytest.Call(t, cl.s, func() { req.Cancel.Cancel(io.ErrUnexpectedEOF) })
		if got := cl.wait(r); got.code() != proxy.ClientGone {
			t.Errorf("cancelled within the answer: %+v", got)
		}
		cl.app.ExpectClosed()
	})
	eachClient(t, ClientConfig{}, func(t *testing.T, cl *client) {
		req := plain()
		req.Cancel.Cancel(io.ErrUnexpectedEOF)
		if got := cl.wait(cl.get(req)); got.code() != proxy.ClientGone {
			t.Errorf("cancelled before it began: %+v", got)
		}
		cl.exchange() // nothing was sent
	})
}

func TestClientDeadline(t *testing.T) {
	eachClient(t, ClientConfig{}, func(t *testing.T, cl *client) {
		req := plain()
		req.Deadline = cl.s.Now().Add(50 * time.Millisecond)
		r := cl.get(req)
		if got := cl.wait(r); got.code() != proxy.Timeout {
			t.Errorf("got %+v, want timeout", got)
		}
		cl.expect("OnClose", cl.close)
	})
	eachClient(t, ClientConfig{AnswerTimeout: 200 * time.Millisecond}, func(t *testing.T, cl *client) {
		r := cl.get(plain())
		cl.app.Expect(plainHead)
		cl.app.Send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
		time.Sleep(400 * time.Millisecond) // AnswerTimeout is over with the head
		cl.app.Send("k")
		if got := cl.wait(r); got.body != "ok" {
			t.Errorf("got %+v, want ok", got)
		}
		r = cl.get(plain())
		if got := cl.wait(r); got.code() != proxy.Timeout {
			t.Errorf("got %+v, want timeout", got)
		}
	})
}

// RFC 9112 section 9.5: an app may answer and close before it has read the whole request; the answer counts.
func TestClientReadsAnswerAfterFailedSend(t *testing.T) {
	eachClient(t, ClientConfig{}, func(t *testing.T, cl *client) {
		req := plain()
		req.Method, req.Length, req.Body = "POST", 64<<20, &endless{}
		r := cl.get(req)
		cl.app.ExpectUntil("\r\n\r\n")
		cl.app.Send("HTTP/1.1 413 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
		cl.app.FinishSending()
		if got := cl.wait(r); got.status != 413 || got.body != "no" {
			t.Errorf("got %+v, want 413 no", got)
		}
		cl.app.ExpectClosed()
		cl.expect("OnClose", cl.close)
	})
}

// endless is a Body of x.
type endless struct{}

func (*endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}
func (*endless) Buffered() int          { return 1 << 20 }
func (*endless) Trailers() proxy.Fields { return nil }
func (*endless) Close() error           { return nil }

// What another codec has read must not end a line here.
func TestClientRefusesWhatHTTP1CannotSay(t *testing.T) {
	eachClient(t, ClientConfig{}, func(t *testing.T, cl *client) {
		for _, change := range []func(r *proxy.Request){
			func(r *proxy.Request) { r.Path = "/ HTTP/1.1\r\nX: y" },
			func(r *proxy.Request) { r.Path = "" },
			func(r *proxy.Request) { r.Method = "GET /x" },
			func(r *proxy.Request) { r.Authority = "a\r\nb: c" },
			func(r *proxy.Request) { r.Fields.Add("a b", "c") },
			func(r *proxy.Request) { r.Fields.Add("a", "c\r\nd: e") },
			func(r *proxy.Request) { r.Upgrade = "x\r\n" },
			func(r *proxy.Request) { r.Upgrade = "H2C" }, // :protocol of an extended CONNECT: requests would follow that say who calls
		} {
			req := plain()
			req.Version = proxy.HTTP2
			change(req)
			if got := cl.wait(cl.get(req)); got.code() != proxy.BadRequest {
				t.Errorf("%+v: got %+v, want bad_request", req, got)
			}
		}
		req := plain()
		req.Fields.Add("Connection", "close") // what a layer may put there by mistake
		req.Fields.Add("content-length", "5")
		req.Fields.Add("Transfer-Encoding", "chunked")
		r := cl.get(req)
		cl.app.Expect("GET / HTTP/1.1\r\nHost: a\r\ncontent-length: 0\r\n\r\n") // what counts is Length
		cl.app.Send("HTTP/1.1 204 No Content\r\n\r\n")
		cl.wait(r)
	})
}

// handlers that are wrong about their answer.
func TestServerRefusesImpossibleAnswers(t *testing.T) {
	for _, c := range []struct {
		name   string
		fill   func(r *proxy.Response)
		status string // "" for a reset
	}{
		{"no status", func(r *proxy.Response) {}, "502"},
		{"interim", func(r *proxy.Response) { r.Status = 103 }, "502"},
		{"split", func(r *proxy.Response) {
			r.Status, r.Version = 200, proxy.HTTP2
			r.Fields.Add("a", "b\r\nc: d")
		}, "502"},
		{"no body", func(r *proxy.Response) { r.Status, r.Length = 200, 5 }, "500"},
		{"short body", func(r *proxy.Response) { r.Status, r.Length, r.Body = 200, 5, &proxy.Content{Left: []byte("abc")} }, "502"},
		{"long body", func(r *proxy.Response) { r.Status, r.Length, r.Body = 200, 2, &proxy.Content{Left: []byte("abc")} }, "502"},
		{"stream", func(r *proxy.Response) { r.Status, r.Stream = 101, &stream{} }, "500"},
	} {
		t.Run(c.name, func(t *testing.T) {
			proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
				g := newGateway(t, rt, "", ServerConfig{Handler: proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
					c.fill(resp)
					return nil
				})}, ClientConfig{})
				p := g.dial()
				p.Send(plainHead)
				if got := p.ExpectUntil("\r\n"); !strings.HasPrefix(got, "HTTP/1.1 "+c.status) {
					t.Errorf("got %q, want %s", got, c.status)
				}
			})
		})
	}
}

// A panic ends its exchange with a reset; the server goes on.
func TestServerSurvivesPanic(t *testing.T) {
	proxytest.PanickyRuntimes(t, func(t *testing.T, rt task.Runtime) {
		g := newGateway(t, rt, "", ServerConfig{Handler: proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			if req.Path == "/panic" {
				panic("a bug")
			}
			resp.Status = 204
			return nil
		})}, ClientConfig{})
		p := g.dial()
		p.Send("POST /panic HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
		if _, err := p.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("client read %v, want a reset", err)
		}
		p = g.dial()
		p.Send(plainHead)
		p.Expect("HTTP/1.1 204 No Content\r\n\r\n")
	})
}

func TestServerClosing(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		g := newGateway(t, rt, "", ServerConfig{
			Closing: func() bool { return true },
			Handler: proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
				resp.Status = 204
				return nil
			})}, ClientConfig{})
		p := g.dial()
		p.Send(plainHead)
		p.Expect("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
		p.ExpectEOF()
	})
}

func TestNewServerErrors(t *testing.T) {
	for _, cfg := range []ServerConfig{{}, {Handler: proxy.RoundTripperFunc(nil), MaxHead: -1}} {
		if _, err := NewServer(cfg); err == nil {
			t.Errorf("NewServer(%+v) has no error", cfg)
		}
	}
}

// RFC 8441 section 5: a client of HTTP/2 sends no Sec-WebSocket-Key, a server of HTTP/2 no Sec-WebSocket-Accept; HTTP/1 wants both.
func TestWebSocketBetweenVersions(t *testing.T) {
	for _, answer := range []string{"right", "wrong"} {
		eachClient(t, ClientConfig{}, func(t *testing.T, cl *client) {
			req := plain()
			req.Version, req.Upgrade = proxy.HTTP2, "websocket"
			req.Fields.Add("sec-websocket-version", "13")
			var resp proxy.Response
			var err error
			got := ""
			done := proxytest.Go(cl.s, func() {
				if err = cl.cc.RoundTrip(req, &resp); err != nil {
					return
				}
				var p [10]byte
				n, _ := resp.Stream.Read(p[:])
				got = string(p[:n])
				if resp.Fields.Has(wsAccept) {
					t.Error("Sec-WebSocket-Accept was passed on to a client that asked for none")
				}
				resp.Close()
			})
			head := cl.app.ExpectUntil("\r\n\r\n")
			_, key, _ := strings.Cut(head, "Sec-WebSocket-Key: ")
			key, _, _ = strings.Cut(key, "\r\n")
			accept := acceptKey(key)
			if answer == "wrong" {
				accept = acceptKey("")
			}
			cl.app.Send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + "\r\n\r\nhi")
			proxytest.Wait(t, done)
			if answer == "right" && (err != nil || got != "hi") || answer == "wrong" && err == nil {
				t.Errorf("%s accept: got %q, %v", answer, got, err)
			}
		})
	}
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		g := newGateway(t, rt, "", ServerConfig{
			Tunnel: func(s task.Shard, client, upstream proxy.Stream) { client.Close() },
			Handler: proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
				resp.Status, resp.Version, resp.Stream = 200, proxy.HTTP2, &stream{}
				return nil
			})}, ClientConfig{})
		p := g.dial()
		p.Send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
		p.Expect("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		p.ExpectEOF()
	})
}
