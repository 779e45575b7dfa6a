package http2

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	xhttp2 "golang.org/x/net/http2"
)

// A graceful end takes what is on its way, then names the last stream, and closes after it.
func TestServerShutdown(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		var hold task.Gate
		proxytest.Call(t, s, func() { s.Gate(&hold) })
		r := rawClient(t, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			if req.Path == "/hold" {
				hold.Wait(0)
			}
			resp.Status = 204
			return nil
		})})
		r.get(1, "/hold")
		r.get(3, "/")
		r.untilHeaders(3)
		proxytest.Call(t, s, r.c.Shutdown)
		if f := r.untilGoAway(); f.LastStreamID != maxStreamID || f.ErrCode != xhttp2.ErrCodeNo {
			t.Errorf("first GOAWAY: %v", f)
		}
		ping := r.until("PING", func(f xhttp2.Frame) bool { return f.Header().Type == xhttp2.FramePing }).(*xhttp2.PingFrame)
		data := ping.Data
		r.get(5, "/") // was on its way
		r.untilHeaders(5)
		r.WritePing(true, data)
		if f := r.untilGoAway(); f.LastStreamID != 5 {
			t.Errorf("second GOAWAY: %v, want last stream 5", f)
		}
		r.get(7, "/")
		if got := r.untilReset(7); got != xhttp2.ErrCodeRefusedStream {
			t.Errorf("late stream: %v, want REFUSED_STREAM", got)
		}
		proxytest.Call(t, s, hold.Wake)
		r.untilHeaders(1)
		if err := r.wait(); err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
}

func TestClientShutdown(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		var changed atomic.Int32 // OnChange may be called by any task
		closed := make(chan error, 1)
		l := newLink(t, s, Config{Handler: handler(echo)}, Config{
			OnChange: func(c *Conn) { changed.Add(1) },
			OnClose:  func(c *Conn, err error) { closed <- err },
		})
		l.do(func() {
			var resp proxy.Response
			if err := l.client.RoundTrip(post("/", text("x"), 1), &resp); err != nil {
				t.Error(err)
				return
			}
			l.client.Shutdown()
			if n := l.client.Available(); n != 0 || changed.Load() == 0 {
				t.Errorf("Available = %d, OnChange called %d times", n, changed.Load())
			}
			if got, err := readAll(resp.Body); got != "x" || err != nil {
				t.Errorf("running exchange: %q, %v", got, err)
			}
			resp.Close()
		})
		for range 2 {
			if err := <-l.ended; err != nil {
				t.Errorf("Serve = %v", err)
			}
		}
		if err := <-closed; err != nil {
			t.Errorf("OnClose(%v)", err)
		}
	})
}

func TestDeadPeer(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		r := rawServer(t, s, Config{PingIdle: 20 * time.Millisecond, DeadAfter: 500 * time.Millisecond})
		var err error
		done := proxytest.Go(s, func() { err = r.c.RoundTrip(get("/"), new(proxy.Response)) })
		r.untilHeaders(1)
		proxytest.Wait(t, done) // without an answer to PING
		wantCode(t, "RoundTrip", err, proxy.PeerReset, false)
		if err := r.wait(); !errors.Is(err, task.ErrDeadline) {
			t.Errorf("Serve = %v, want the deadline", err)
		}
	})
}

// A peer that leaves a request and a PING unanswered gets no more requests, until it is heard again.
func TestSuspectPeer(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		var changes atomic.Int32
		r := rawServer(t, s, Config{PingIdle: 20 * time.Millisecond, DeadAfter: 8 * time.Second, OnChange: func(*Conn) { changes.Add(1) }})
		var resp proxy.Response
		var err error
		done := proxytest.Go(s, func() { err = r.c.RoundTrip(get("/"), &resp) })
		r.untilHeaders(1)
		available := func() (n int) {
			proxytest.Do(t, s, func() { n = r.c.Available() })
			return n
		}
		proxytest.Eventually(t, "the peer is suspect", func() bool { return available() == 0 })
		var st Stats
		proxytest.Call(t, s, func() { st = r.c.Stats() })
		if st.Closed || st.GoingAway {
			t.Fatalf("the connection has ended: %+v", st)
		}
		proxytest.Do(t, s, func() {
			if err := r.c.RoundTrip(get("/other"), new(proxy.Response)); err != proxy.ErrNoStream {
				t.Errorf("RoundTrip = %v, want ErrNoStream", err)
			}
		})
		before := changes.Load()
		if err := r.headers(1, true, ":status", "204"); err != nil {
			t.Fatal(err)
		}
		proxytest.Wait(t, done)
		if err != nil || resp.Status != 204 || available() == 0 {
			t.Errorf("RoundTrip = %v, status %d, %d streams available; want an answer, and trust", err, resp.Status, available())
		}
		proxytest.Eventually(t, "who waits for a stream is told", func() bool { return changes.Load() > before })
		proxytest.Do(t, s, resp.Close)
		r.close()
	})
}

func TestLivePeer(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		cfg := Config{Handler: handler(echo), PingIdle: 20 * time.Millisecond, DeadAfter: 5 * time.Second}
		l := newLink(t, rt.Shards()[0], cfg, cfg)
		var c, sv Stats
		proxytest.Eventually(t, "both have pinged", func() bool {
			c, sv = l.stats()
			return c.RTT > 0 && sv.RTT > 0
		})
		if c.Closed || sv.Closed {
			t.Errorf("client %+v, server %+v", c, sv)
		}
		l.close()
	})
}

func TestIdleTimeout(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		l := newLink(t, rt.Shards()[0], Config{Handler: handler(echo)}, Config{IdleTimeout: 30 * time.Millisecond})
		for range 2 {
			if err := <-l.ended; err != nil {
				t.Errorf("Serve = %v", err)
			}
		}
	})
}

// Every stream ends when the connection does: those that wait for anything go on.
func TestCloseEndsEverything(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		gone := make(chan error, 10)
		l := newLink(t, s, Config{Handler: stall(gone)}, Config{})
		var tasks []<-chan struct{}
		for range 5 {
			tasks = append(tasks, proxytest.Go(s, func() {
				wantCode(t, "RoundTrip", l.client.RoundTrip(get("/"), new(proxy.Response)), proxy.PeerReset, false)
			}))
		}
		proxytest.Eventually(t, "5 streams", func() bool { _, sv := l.stats(); return sv.Running == 5 })
		proxytest.Call(t, s, l.server.Close)
		for _, done := range tasks {
			proxytest.Wait(t, done)
		}
		for range 5 {
			if err := <-gone; err == nil {
				t.Error("a handler was not told")
			}
		}
		l.close()
	})
}

// The extra streams are refused, not queued, and OnChange says when there is room again.
func TestMaxStreams(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		changed := make(chan int, 10)
		r := rawServer(t, s, Config{OnChange: func(c *Conn) { changed <- c.Available() }},
			xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: 1})
		defer r.close()
		proxytest.Eventually(t, "SETTINGS", func() bool {
			var st Stats
			proxytest.Call(t, s, func() { st = r.c.Stats() })
			return st.Ready && st.Peer == 1
		})
		done := proxytest.Go(s, func() {
			var resp proxy.Response
			if err := r.c.RoundTrip(get("/"), &resp); err != nil {
				t.Error(err)
				return
			}
			resp.Close()
		})
		r.untilHeaders(1)
		proxytest.Do(t, s, func() {
			wantCode(t, "second stream", r.c.RoundTrip(get("/"), new(proxy.Response)), proxy.Refused, true)
		})
		r.headers(1, true, ":status", "204")
		proxytest.Wait(t, done)
		if n := <-changed; n != 1 {
			t.Errorf("OnChange with %d available, want 1", n)
		}
	})
}
