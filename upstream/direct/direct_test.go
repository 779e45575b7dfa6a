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
