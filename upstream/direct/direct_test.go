package direct

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

func endpoint(addr string) proxy.Endpoint { return proxy.Endpoint{Addr: netip.MustParseAddrPort(addr)} }

// get carries out one request in a task and returns status and body.
func get(t *testing.T, s task.Shard, rt proxy.RoundTripper, req *proxy.Request) (status int, body string, err error) {
	t.Helper()
	req.Shard, req.Cancel = s, new(proxy.Cancel)
	proxytest.Do(t, s, func() {
		var resp proxy.Response
		if err = rt.RoundTrip(req, &resp); err != nil {
			return
		}
		defer resp.Close()
		status = resp.Status
		p := make([]byte, 4096)
		for resp.Body != nil {
			n, e := resp.Body.Read(p)
			body += string(p[:n])
			if e != nil {
				if e != io.EOF {
					err = e
				}
				return
			}
		}
	})
	return status, body, err
}

func plain() *proxy.Request {
	return &proxy.Request{Method: "GET", Scheme: "http", Authority: "app", Path: "/", Version: proxy.HTTP11}
}

func TestConnectionsAreKept(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		var conns atomic.Int32
		app := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello ", r.Host) }))
		app.Config.ConnState = func(_ net.Conn, st http.ConnState) {
			if st == http.StateNew {
				conns.Add(1)
			}
		}
		app.Start()
		defer app.Close()
		s := rt.Shards()[0]
		d := New(Config{Shards: rt.Shards()})
		to := d.To(endpoint(app.Listener.Addr().String()), Options{Idle: 100 * time.Millisecond})
		for range 10 {
			if status, body, err := get(t, s, to, plain()); status != 200 || body != "hello app" || err != nil {
				t.Fatalf("got %d %q %v", status, body, err)
			}
		}
		if n := conns.Load(); n != 1 {
			t.Errorf("%d connections for 10 requests, want 1", n)
		}
		proxytest.Eventually(t, "the idle connection is closed", func() bool { return rt.Stats().Conns == 0 })
	})
}

// staleApp answers one request per connection and closes when the next one arrives.
func staleApp(t *testing.T) (addr string, requests *atomic.Int32, stop func()) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	requests = new(atomic.Int32)
	serve := func(c net.Conn) {
		defer c.Close()
		r := bufio.NewReader(c)
		for i := range 2 {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			requests.Add(1)
			_, _ = io.Copy(io.Discard, req.Body)
			if i == 0 {
				fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		}
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() { serve(c) })
		}
	})
	return ln.Addr().String(), requests, func() { ln.Close(); running.Wait() }
}

func TestStaleConnection(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		addr, requests, stop := staleApp(t)
		defer stop()
		s := rt.Shards()[0]
		d := New(Config{Shards: rt.Shards()})
		to := d.To(endpoint(addr), Options{})
		get(t, s, to, plain())
		if status, body, err := get(t, s, to, plain()); status != 200 || body != "ok" || err != nil {
			t.Errorf("GET on a connection that the app closed: got %d %q %v, want a repeat on a new one", status, body, err)
		}
		before := requests.Load()
		post := plain()
		post.Method = "POST"
		_, _, err := get(t, s, to, post)
		var e *proxy.Error
		if !errors.As(err, &e) || e.Code != proxy.AppClosed || requests.Load() != before+1 {
			t.Errorf("POST: got %v and %d requests, want app_closed and no repeat", err, requests.Load()-before)
		}
		proxytest.Eventually(t, "no connection is left", func() bool { return rt.Stats().Conns == 0 })
	})
}

func TestUnreachableAndOwn(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		dead := ln.Addr().String()
		ln.Close()
		s := rt.Shards()[0]
		d := New(Config{Shards: rt.Shards(), Own: func(_, a string) bool { return a == "127.0.0.1:15001" }})
		for addr, code := range map[string]proxy.Code{dead: proxy.AppUnreachable, "127.0.0.1:15001": proxy.LoopDetected} {
			for _, method := range []string{"GET", "CONNECT"} {
				req := plain()
				req.Method = method
				_, _, err := get(t, s, d.To(endpoint(addr), Options{}), req)
				var e *proxy.Error
				if !errors.As(err, &e) || e.Code != code || !e.Unsent {
					t.Errorf("%s %s: got %v, want %s, unsent", method, addr, err, code)
				}
			}
		}
	})
}

func TestStream(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		go func() {
			c, err := ln.Accept()
			if err == nil {
				fmt.Fprint(c, "banner\n")
				_, _ = io.Copy(c, c)
				c.Close()
			}
		}()
		s := rt.Shards()[0]
		d := New(Config{Shards: rt.Shards()})
		req := &proxy.Request{Method: "CONNECT", Authority: "x:1", Shard: s, Cancel: new(proxy.Cancel)}
		proxytest.Do(t, s, func() {
			var resp proxy.Response
			if err := d.To(endpoint(ln.Addr().String()), Options{}).RoundTrip(req, &resp); err != nil || resp.Stream == nil || resp.Status != 200 {
				t.Errorf("got %v, status %d", err, resp.Status)
				return
			}
			defer resp.Close()
			_, _ = resp.Stream.Write([]byte("ping"))
			_ = resp.Stream.CloseWrite()
			var all strings.Builder
			p := make([]byte, 64)
			for {
				n, err := resp.Stream.Read(p)
				all.Write(p[:n])
				if err != nil {
					break
				}
			}
			if all.String() != "banner\nping" {
				t.Errorf("got %q", all.String())
			}
			_ = resp.Stream.Close()
		})
	})
}

func TestGRPCFallsBackToHTTP1(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(true)
		protocols.SetUnencryptedHTTP2(true)
		answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) })
		both := httptest.NewUnstartedServer(answer)
		both.Config.Protocols = protocols
		both.Start()
		defer both.Close()
		old := httptest.NewServer(answer)
		defer old.Close()
		s := rt.Shards()[0]
		d := New(Config{Shards: rt.Shards()})
		grpc := func(addr string) (string, error) {
			req := plain()
			req.Fields.Add("content-type", "application/grpc")
			_, body, err := get(t, s, d.To(endpoint(addr), Options{}), req)
			return body, err
		}
		if got, err := grpc(both.Listener.Addr().String()); got != "HTTP/2.0" {
			t.Errorf("an app that speaks h2c was called with %q, %v", got, err)
		}
		for range 2 { // the first finds out, the second knows
			if got, err := grpc(old.Listener.Addr().String()); got != "HTTP/1.1" {
				t.Errorf("an app that speaks HTTP/1.1 only was called with %q, %v", got, err)
			}
		}
		proxytest.Do(t, s, func() { d.Shutdown(s) })
	})
}

func TestOthers(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host) }))
		defer app.Close()
		addr := netip.MustParseAddrPort(app.Listener.Addr().String())
		s := rt.Shards()[0]
		d := New(Config{Shards: rt.Shards(), Own: func(_, a string) bool { return strings.HasSuffix(a, ":15000") }})
		others := d.Others(func(_ context.Context, host string) ([]netip.Addr, error) {
			if host != "named.example" {
				return nil, errors.New("no such host")
			}
			return []netip.Addr{addr.Addr()}, nil
		})
		call := func(authority string) (int, string, error) {
			req := plain()
			req.Authority = authority
			return get(t, s, others, req)
		}
		want := fmt.Sprintf("named.example:%d", addr.Port())
		if status, body, err := call(want); status != 200 || body != want {
			t.Errorf("got %d %q %v, want %q", status, body, err, want)
		}
		for authority, code := range map[string]proxy.Code{"other.example": proxy.ConnectFailed, "named.example:15000": proxy.NotPermitted,
			"[::1]:15000": proxy.NotPermitted, "named.example:0": proxy.BadRequest, "named.example:http": proxy.BadRequest} {
			_, _, err := call(authority)
			var e *proxy.Error
			if !errors.As(err, &e) || e.Code != code {
				t.Errorf("%s: got %v, want %s", authority, err, code)
			}
		}
		proxytest.Do(t, s, func() { d.Shutdown(s) })
	})
}

func TestManyTargetsLoseNoConnection(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		slow := make(chan struct{})
		app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-slow }))
		defer app.Close()
		s := rt.Shards()[0]
		d := New(Config{Shards: rt.Shards()})
		running := proxytest.Go(s, func() {
			var resp proxy.Response
			req := plain()
			req.Shard, req.Cancel = s, new(proxy.Cancel)
			if err := d.To(endpoint(app.Listener.Addr().String()), Options{Idle: 50 * time.Millisecond}).RoundTrip(req, &resp); err != nil {
				t.Error(err)
				return
			}
			resp.Close()
		})
		proxytest.Eventually(t, "the request runs", func() bool { return rt.Stats().Conns == 1 })
		proxytest.Call(t, s, func() {
			for i := range 2 * maxTargets { // its target is forgotten meanwhile
				d.shards[s.Index()].target("tcp", key{addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80)}, &Options{})
			}
			s.Lock()
			if n := len(d.shards[s.Index()].targets); n > maxTargets {
				t.Errorf("%d targets are remembered, want at most %d", n, maxTargets)
			}
			s.Unlock()
		})
		close(slow)
		proxytest.Wait(t, running)
		proxytest.Eventually(t, "the connection is swept", func() bool { return rt.Stats().Conns == 0 })
	})
}

// A truncated answer is an error and never an end.
func TestAppClosesMidAnswer(t *testing.T) {
	for what, answer := range map[string]string{
		"length": "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
		"chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
	} {
		t.Run(what, func(t *testing.T) {
			proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
				s := rt.Shards()[0]
				d := New(Config{Shards: rt.Shards()})
				addr, stop := scripted(t, "tcp", answer)
				defer stop()
				status, body, err := get(t, s, d.To(endpoint(addr), Options{}), plain())
				if status != 200 || body != "short" || err == nil {
					t.Errorf("got %d %q %v, want a 200 that is cut short", status, body, err)
				}
				proxytest.Eventually(t, "the connection is not kept", func() bool { return rt.Stats().Conns == 0 })
			})
		})
	}
}

// scripted reads a request's head, says answer and closes, on every connection.
func scripted(t *testing.T, network, answer string) (addr string, stop func()) {
	t.Helper()
	at := "127.0.0.1:0"
	if network == "unix" {
		dir, err := os.MkdirTemp("", "app") // the path of a socket must be short
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		at = dir + "/s"
	}
	ln, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	serve := func(c net.Conn) {
		defer c.Close()
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.WriteString(c, answer)
		}
	}
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() { serve(c) })
		}
	})
	return ln.Addr().String(), func() { ln.Close(); running.Wait() }
}

func TestUnixApp(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		path, stop := scripted(t, "unix", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		defer stop()
		s := rt.Shards()[0]
		d := New(Config{Shards: rt.Shards()})
		to := d.To(proxy.Endpoint{Unix: path}, Options{})
		if status, body, err := get(t, s, to, plain()); status != 200 || body != "ok" || err != nil {
			t.Errorf("got %d %q %v", status, body, err)
		}
		_, _, err := get(t, s, d.To(proxy.Endpoint{Unix: path + "-gone"}, Options{}), plain())
		var e *proxy.Error
		if !errors.As(err, &e) || e.Code != proxy.AppUnreachable {
			t.Errorf("no socket: got %v, want app_unreachable", err)
		}
		proxytest.Do(t, s, func() { d.Shutdown(s) })
	})
}

// An app that allows few streams on one h2c connection gets more connections, and no request fails.
func TestH2CStreamsAreBounded(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		app := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Millisecond)
			fmt.Fprint(w, "ok")
		}))
		app.Config.Protocols = protocols
		app.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 2}
		app.Start()
		defer app.Close()
		s := rt.Shards()[0]
		d := New(Config{Shards: rt.Shards()})
		to := d.To(endpoint(app.Listener.Addr().String()), Options{Protocol: H2C})
		var done []<-chan struct{}
		for range 100 {
			done = append(done, proxytest.Go(s, func() {
				var resp proxy.Response
				req := plain()
				req.Shard, req.Cancel = s, new(proxy.Cancel)
				if err := to.RoundTrip(req, &resp); err != nil || resp.Status != 200 {
					t.Errorf("got %v, status %d", err, resp.Status)
					return
				}
				resp.Close()
			}))
		}
		for _, c := range done {
			proxytest.Wait(t, c)
		}
		proxytest.Do(t, s, func() { d.Shutdown(s) })
	})
}

// An app that was starting when it was first asked is asked for HTTP/2 again.
func TestHTTP1IsNotForEver(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		addr, stop := scripted(t, "tcp", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		defer stop()
		s := rt.Shards()[0]
		d := New(Config{Shards: rt.Shards()})
		req := plain()
		req.Fields.Add("content-type", "application/grpc")
		if status, _, err := get(t, s, d.To(endpoint(addr), Options{}), req); status != 200 || err != nil {
			t.Fatalf("got %d %v", status, err)
		}
		proxytest.Do(t, s, func() {
			tg := d.shards[s.Index()].target("tcp", key{addr: netip.MustParseAddrPort(addr)}, &Options{})
			if until := task.Instant(tg.speech.only1.Load()); !tg.speech.refusesHTTP2(s.Now()) || until > s.Now().Add(http1For) {
				t.Errorf("taken for HTTP/1 until %v, want for at most %v", until, http1For)
			}
		})
	})
}

func TestDeadlineDuringDial(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		d := New(Config{Shards: rt.Shards()})
		req := plain()
		req.Deadline = s.Now() // it has passed
		_, _, err := get(t, s, d.To(proxy.Endpoint{Addr: netip.MustParseAddrPort("127.0.0.1:9")}, Options{}), req)
		var e *proxy.Error
		if !errors.As(err, &e) || e.Code != proxy.Timeout || !e.Unsent {
			t.Errorf("got %v, want a timeout, unsent", err)
		}
	})
}

func TestExchangeAllocatesNothing(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		go func() { // an app that allocates nothing either
			c, err := ln.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			p, answer := make([]byte, 4096), []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			for {
				if _, err := c.Read(p); err != nil {
					return
				}
				if _, err := c.Write(answer); err != nil {
					return
				}
			}
		}()
		s := rt.Shards()[0]
		d := New(Config{Shards: rt.Shards()})
		to := d.To(endpoint(ln.Addr().String()), Options{})
		proxytest.Do(t, s, func() {
			req, resp := plain(), new(proxy.Response)
			req.Shard, req.Cancel = s, new(proxy.Cancel)
			one := func() {
				if err := to.RoundTrip(req, resp); err != nil {
					t.Error(err)
					return
				}
				resp.Close()
			}
			for range 10 {
				one()
			}
			most := 0.0
			if strings.HasSuffix(t.Name(), "goroutines") {
				most = 16 // of the runtime: watches of idle connections
			}
			if n := proxytest.Allocs(200, one); n > most {
				t.Errorf("%v allocations for an Exchange on a kept connection, want at most %v", n, most)
			}
		})
		proxytest.Do(t, s, func() { d.Shutdown(s) })
	})
}

// A service's timeout ends with the head of the answer: what is slow after it, as a stream of events is, goes on.
func TestDeadlineIsForTheHead(t *testing.T) {
	const deadline = 400 * time.Millisecond
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(true)
		protocols.SetUnencryptedHTTP2(true)
		app := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			time.Sleep(deadline + 100*time.Millisecond)
			fmt.Fprint(w, "late")
		}))
		app.Config.Protocols = protocols
		app.Start()
		defer app.Close()
		s := rt.Shards()[0]
		d := New(Config{Shards: rt.Shards()})
		var done []<-chan struct{}
		for _, p := range []Protocol{HTTP, H2C} {
			to := d.To(endpoint(app.Listener.Addr().String()), Options{Protocol: p})
			done = append(done, proxytest.Go(s, func() {
				var resp proxy.Response
				req := plain()
				req.Shard, req.Cancel, req.Deadline = s, new(proxy.Cancel), s.Now().Add(deadline)
				if err := to.RoundTrip(req, &resp); err != nil {
					t.Errorf("protocol %d: %v", p, err)
					return
				}
				defer resp.Close()
				b := make([]byte, 100)
				if n, err := resp.Body.Read(b); string(b[:n]) != "late" || err != nil && err != io.EOF {
					t.Errorf("protocol %d: got %q, %v", p, b[:n], err)
				}
			}))
		}
		for _, c := range done {
			proxytest.Wait(t, c)
		}
		proxytest.Do(t, s, func() { d.Shutdown(s) })
	})
}
