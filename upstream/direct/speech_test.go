package direct

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// appAt serves an app of the given protocols on addr, which may be "127.0.0.1:0", until stop.
func appAt(t *testing.T, addr string, http1, h2c bool) (at string, stop func()) {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(http1)
	protocols.SetUnencryptedHTTP2(h2c)
	app := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }))
	app.Config.Protocols = protocols
	app.Listener.Close()
	var err error
	if app.Listener, err = net.Listen("tcp", addr); err != nil {
		t.Fatal(err)
	}
	app.Start()
	return app.Listener.Addr().String(), app.Close
}

// An app is found out, and found out again when it has become another one.
func TestAppIsFoundOut(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		d := New(Config{Shards: rt.Shards()})
		addr := "127.0.0.1:0"
		var stop func()
		ask := func(shard int, grpc bool) (string, error) {
			t.Helper()
			req := plain()
			if grpc {
				req.Fields.Add("content-type", "application/grpc")
			}
			_, body, err := get(t, rt.Shards()[shard], d.To(endpoint(addr), Options{}), req)
			return body, err
		}
		speaks := func() string {
			var h Health
			s := rt.Shards()[0]
			proxytest.Do(t, s, func() { h = d.Health(s, endpoint(addr)) })
			return h.Speaks
		}
		for i, c := range []struct {
			http1, h2c        bool
			plain, grpc, says string
		}{
			{true, false, "HTTP/1.1", "HTTP/1.1", "http1"},
			{false, true, "HTTP/2.0", "HTTP/2.0", "h2c"},
			{true, false, "HTTP/1.1", "HTTP/1.1", "http1"},
			{false, true, "HTTP/2.0", "HTTP/2.0", "h2c"},
		} {
			addr, stop = appAt(t, addr, c.http1, c.h2c)
			for shard := range rt.Shards() {
				// The first call may meet the pause after a failed attempt, of a moment ago, to speak HTTP/2 with the app before.
				proxytest.Eventually(t, fmt.Sprintf("app %d is called with %s", i, c.plain), func() bool {
					d.heard.of(key{addr: netip.MustParseAddrPort(addr)}).probe.Store(0) // a second has passed
					got, err := ask(shard, false)
					return err == nil && got == c.plain
				})
				if got, err := ask(shard, true); got != c.grpc || err != nil {
					t.Errorf("app %d: gRPC called with %s, %v, want %s", i, got, err, c.grpc)
				}
			}
			if got := speaks(); got != c.says {
				t.Errorf("app %d: status says %q, want %q", i, got, c.says)
			}
			stop()
			proxytest.Eventually(t, "connections to the app that is gone are closed", func() bool { return rt.Stats().Conns == 0 })
		}
		for _, s := range rt.Shards() {
			proxytest.Do(t, s, func() { d.Shutdown(s) })
		}
	})
}

// What an app that speaks both is called with depends on the request alone.
func TestAppSpeaksBoth(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		addr, stop := appAt(t, "127.0.0.1:0", true, true)
		defer stop()
		s := rt.Shards()[0]
		d := New(Config{Shards: rt.Shards()})
		for range 2 {
			for kind, want := range map[string]string{"application/grpc": "HTTP/2.0", "text/plain": "HTTP/1.1"} {
				req := plain()
				req.Fields.Add("content-type", kind)
				if _, body, err := get(t, s, d.To(endpoint(addr), Options{}), req); body != want || err != nil {
					t.Errorf("%s: called with %s, %v, want %s", kind, body, err, want)
				}
			}
		}
		proxytest.Do(t, s, func() {
			if got := d.Health(s, endpoint(addr)).Speaks; got != "http1, h2c" {
				t.Errorf("status says %q", got)
			}
			d.Shutdown(s)
		})
	})
}

// An app that answers HTTP/1.1 with its SETTINGS is sent at once what has no content; the caller of what has some is told what to write.
func TestSettingsInsteadOfAnAnswer(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		real, stop := appAt(t, "127.0.0.1:0", false, true)
		defer stop()
		addr, stopFront := front(t, real)
		defer stopFront()
		s := rt.Shards()[0]
		d := New(Config{Shards: rt.Shards()})
		post := plain()
		post.Method, post.Length, post.Body = "POST", 4, &content{"text"}
		if _, _, err := get(t, s, d.To(endpoint(addr), Options{}), post); err == nil || !strings.Contains(err.Error(), "h2c") {
			t.Errorf("with content: %v, want an error that names h2c", err)
		}
		d = New(Config{Shards: rt.Shards()})
		if _, body, err := get(t, s, d.To(endpoint(addr), Options{}), plain()); body != "HTTP/2.0" || err != nil {
			t.Errorf("without content: %q, %v, want HTTP/2", body, err)
		}
		proxytest.Do(t, s, func() { d.Shutdown(s) })
	})
}

// front is an app before the HTTP/2 app at real that says SETTINGS to whoever speaks HTTP/1.1.
func front(t *testing.T, real string) (addr string, stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	serve := func(c net.Conn) {
		defer c.Close()
		first := make([]byte, 4096)
		n, _ := c.Read(first)
		if !strings.HasPrefix(string(first[:n]), "PRI ") {
			fmt.Fprint(c, "\x00\x00\x00\x04\x00\x00\x00\x00\x00")
			_, _ = io.Copy(io.Discard, c)
			return
		}
		up, err := net.Dial("tcp", real)
		if err != nil {
			return
		}
		defer up.Close()
		_, _ = up.Write(first[:n])
		running.Go(func() { _, _ = io.Copy(c, up); c.Close() })
		_, _ = io.Copy(up, c)
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

// A request that may have run, or whose content is gone, is not sent again; the next one passes.
func TestContentMeetsHTTP2Only(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		addr, stop := appAt(t, "127.0.0.1:0", false, true)
		defer stop()
		s := rt.Shards()[0]
		d := New(Config{Shards: rt.Shards()})
		post := func() *proxy.Request {
			req := plain()
			req.Method, req.Length, req.Body = "POST", 4, &content{"text"}
			return req
		}
		if _, _, err := get(t, s, d.To(endpoint(addr), Options{}), post()); err == nil {
			t.Error("first: no error")
		}
		if _, body, err := get(t, s, d.To(endpoint(addr), Options{}), post()); body != "HTTP/2.0" || err != nil {
			t.Errorf("second: %q, %v, want HTTP/2", body, err)
		}
		proxytest.Do(t, s, func() { d.Shutdown(s) })
	})
}

// content is a body.
type content struct{ rest string }

func (c *content) Read(p []byte) (int, error) {
	if c.rest == "" {
		return 0, io.EOF
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}
func (c *content) Buffered() int {
	if c.rest == "" {
		return -1
	}
	return len(c.rest)
}
func (c *content) Trailers() proxy.Fields { return nil }
func (c *content) Close() error           { return nil }
