package http3

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// TestBegin: a request without content is begun by any goroutine, and its answer comes to a task.
func TestBegin(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		l := newLink(t, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			if req.Body != nil {
				t.Errorf("%s has content", req.Path)
			}
			resp.Status, resp.Length, resp.Body = 200, int64(len(req.Path)), text(req.Path)
			return nil
		})}, Config{})
		defer l.close()
		reqs := []*proxy.Request{get("/a"), get("/b"), get("/c")}
		var rest []proxy.RoundTripper
		for _, req := range reqs { // on the test's goroutine
			rt, err := l.client.Begin(req)
			if err != nil || rt == nil {
				t.Fatalf("got %v, %v", rt, err)
			}
			rest = append(rest, rt)
		}
		proxytest.Wait(t, proxytest.Go(s, func() {
			for i, req := range reqs {
				resp := new(proxy.Response)
				if err := rest[i].RoundTrip(req, resp); err != nil {
					t.Error(err)
					continue
				}
				if got, err := readAll(resp.Body); got != req.Path || err != nil {
					t.Errorf("got %q, %v, want %q", got, err, req.Path)
				}
				resp.Close()
			}
		}))
		for _, req := range []*proxy.Request{post("/", text("x"), 1), upgrade("websocket"), {Method: "CONNECT", Authority: "a:1"}} {
			if rt, err := l.client.Begin(req); rt != nil || err != nil {
				t.Errorf("%s %q was begun: %v, %v", req.Method, req.Upgrade, rt, err)
			}
		}
		gone := get("/")
		gone.Cancel.Cancel(io.EOF)
		var e *proxy.Error
		if _, err := l.client.Begin(gone); !errors.As(err, &e) || !e.Unsent {
			t.Errorf("a client that has left: %v, want unsent", err)
		}
		l.quiet()
		l.client.Shutdown()
		if _, err := l.client.Begin(get("/")); err != proxy.ErrNoStream {
			t.Errorf("after Shutdown: %v, want %v", err, proxy.ErrNoStream)
		}
	})
}

// TestBeginWithoutWindow: what the peer gives no window for waits until somebody may wait.
func TestBeginWithoutWindow(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		server := Config{Handler: handler(echo)}
		qs := server.QUIC()
		qs.InitialStreamReceiveWindow = 100
		l := &link{t: t, s: s, ended: make(chan error, 2), net: newNetwork(t, qs)}
		a, b := l.net.connect(Config{}.QUIC())
		l.server, l.client = NewServer(s, a, server), NewClient(s, b, Config{})
		s.Go(func() { l.ended <- l.server.Serve() })
		s.Go(func() { l.ended <- l.client.Serve() })
		defer l.close()
		req := get("/")
		req.Fields.Add("x-long", strings.Repeat("x", 5000))
		rest, err := l.client.Begin(req)
		if err != nil {
			t.Fatal(err)
		}
		if rest.(*begun).unsent == nil {
			t.Error("the head was sent, in spite of the window")
		}
		proxytest.Wait(t, proxytest.Go(s, func() {
			resp := new(proxy.Response)
			if err := rest.RoundTrip(req, resp); err != nil || resp.Status != 200 {
				t.Errorf("got %d, %v", resp.Status, err)
			}
			resp.Close()
		}))
		l.quiet()
	})
}

// TestBegunAndLeft: a client that leaves between Begin and the rest ends the handler.
func TestBegunAndLeft(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		entered, left := make(chan struct{}), make(chan struct{})
		l := newLink(t, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			w := &waiter{left: make(chan error, 1)}
			if _, err := req.Cancel.Watch(w); err != nil {
				return err
			}
			close(entered)
			defer close(left)
			return <-w.left
		})}, Config{})
		defer l.close()
		req := get("/")
		rest, err := l.client.Begin(req)
		if err != nil {
			t.Fatal(err)
		}
		<-entered
		req.Cancel.Cancel(io.EOF)
		<-left
		proxytest.Wait(t, proxytest.Go(s, func() {
			var e *proxy.Error
			if err := rest.RoundTrip(req, new(proxy.Response)); !errors.As(err, &e) || e.Code != proxy.ClientGone {
				t.Errorf("got %v, want client_gone", err)
			}
		}))
		l.quiet()
	})
}
