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
	"time"

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

// An app that answers HTTP/1.1 with its SETTINGS has not read the request, which it is sent at once over HTTP/2, content and all.
func TestSettingsInsteadOfAnAnswer(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		real, stop := echoAt(t)
		defer stop()
		addr, stopFront := front(t, real)
		defer stopFront()
		s := rt.Shards()[0]
		for _, c := range []struct {
			name   string
			body   proxy.Body
			length int64
			want   string
		}{
			{"no content", nil, 0, "HTTP/2.0 "},
			{"little content", &content{"text"}, 4, "HTTP/2.0 text"},
			{"content without a length", &content{"text"}, proxy.Unknown, "HTTP/2.0 text"},
			{"content that comes slowly", &slow{content{"text"}, s}, 4, "HTTP/2.0 text"},
			{"as much as is kept", &content{strings.Repeat("x", maxReplay)}, maxReplay, "HTTP/2.0 " + strings.Repeat("x", maxReplay)},
		} {
			d := New(Config{Shards: rt.Shards()})
			req := plain()
			req.Method, req.Length, req.Body = "POST", c.length, c.body
			_, body, err := get(t, s, d.To(endpoint(addr), Options{}), req)
			if body != c.want || err != nil {
				t.Errorf("%s: got %.40q (%d bytes), %v, want %.40q", c.name, body, len(body), err, c.want)
			}
			if req.Body != c.body {
				t.Errorf("%s: the request is left with another content", c.name)
			}
			proxytest.Do(t, s, func() { d.Shutdown(s) })
		}
	})
}

// What is more than can be kept is not sent again in part: the caller is told what to write, and the next one passes.
func TestContentTooLargeForReplay(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		body := &content{strings.Repeat("x", maxReplay+1)}
		r := newReplay(s, body)
		proxytest.Do(t, s, func() {
			p := make([]byte, 4096)
			for {
				if _, err := r.Read(p); err != nil {
					break
				}
			}
			if second := r.rewind(); second != nil {
				t.Error("content that was not kept can be read again")
			}
			if n, err := r.Read(p); n != 0 || err != errRewound {
				t.Errorf("the first attempt reads on: %d, %v", n, err)
			}
		})
	})
}

// slow is a content that waits before each byte.
type slow struct {
	content
	s task.Shard
}

func (c *slow) Read(p []byte) (int, error) {
	c.s.Sleep(20 * time.Millisecond)
	return c.content.Read(p[:1])
}
func (c *slow) Buffered() int { return min(0, c.content.Buffered()) }

// echoAt is an app that speaks only HTTP/2 and answers with the version and the content that it got.
func echoAt(t *testing.T) (addr string, stop func()) {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	app := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(w, "%s %s", r.Proto, b)
	}))
	app.Config.Protocols = protocols
	app.Start()
	return app.Listener.Addr().String(), app.Close
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
