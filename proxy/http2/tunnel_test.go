package http2

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	xhttp2 "golang.org/x/net/http2"
)

// tunnel is a link whose CONNECT ends at app, and a Stream through it.
func tunnel(t *testing.T, s task.Shard, req *proxy.Request) (l *link, resp *proxy.Response, app *proxytest.Peer) {
	t.Helper()
	up, far := proxytest.Pair(t, s)
	l = newLink(t, s, tunnelConfig(func(got *proxy.Request) proxy.Stream {
		if got.Method != req.Method || got.Upgrade != req.Upgrade || got.Authority != req.Authority || got.Path != req.Path {
			t.Errorf("server got %+v", got)
		}
		return up
	}), Config{})
	resp = new(proxy.Response)
	l.do(func() {
		if err := l.client.RoundTrip(req, resp); err != nil {
			t.Error(err)
		}
	})
	if resp.Stream == nil {
		t.Fatalf("no Stream: %+v", resp)
	}
	return l, resp, proxytest.NewPeer(t, far)
}

func connect() *proxy.Request {
	return &proxy.Request{Method: "CONNECT", Authority: "db:5432", Cancel: new(proxy.Cancel)}
}

func TestTunnelHalfClose(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		l, resp, app := tunnel(t, s, connect())
		defer l.close()
		big := strings.Repeat("abcdefgh", 1<<18)
		sent := proxytest.Go(s, func() {
			resp.Stream.Write([]byte(big))
			resp.Stream.CloseWrite()
		})
		app.Expect(big)
		app.ExpectEOF() // and the other direction goes on
		proxytest.Wait(t, sent)
		go func() {
			io.WriteString(app.Conn, big)
			app.Conn.(*net.TCPConn).CloseWrite()
		}()
		l.do(func() {
			var got bytes.Buffer
			p := make([]byte, 10000)
			for {
				n, err := resp.Stream.Read(p)
				got.Write(p[:n])
				if err != nil {
					if err != io.EOF {
						t.Errorf("read: %v", err)
					}
					break
				}
			}
			if got.String() != big {
				t.Errorf("got %d bytes, want %d", got.Len(), len(big))
			}
			resp.Stream.Close()
			resp.Close()
		})
		proxytest.Eventually(t, "no streams are left", func() bool {
			c, sv := l.stats()
			return c.Streams == 0 && sv.Streams == 0 && sv.Running == 0
		})
	})
}

func TestTunnelResets(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		l, resp, app := tunnel(t, s, connect())
		app.Abort()
		l.do(func() {
			var reset StreamReset
			if _, err := resp.Stream.Read(make([]byte, 10)); !errors.As(err, &reset) || reset.Code != ErrConnect || !reset.Peer {
				t.Errorf("read after the app's reset: %v, want CONNECT_ERROR", err)
			}
			if _, err := resp.Stream.Write([]byte("x")); err == nil {
				t.Error("write after the app's reset works")
			}
			resp.Close()
		})
		l.close()

		l, resp, app = tunnel(t, s, connect())
		l.do(func() { resp.Stream.Reset(); resp.Close() })
		if _, err := io.ReadAll(app.Conn); err == nil {
			t.Error("the app sees an end in order after the client's reset")
		}
		l.close()

		l, resp, app = tunnel(t, s, connect())
		l.do(func() { resp.Close() })
		app.ExpectClosed()
		l.close()
	})
}

func TestExtendedConnect(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		req := get("/chat")
		req.Upgrade = "websocket"
		l, resp, app := tunnel(t, s, req)
		if resp.Status != 101 {
			t.Errorf("status = %d, want 101", resp.Status)
		}
		l.do(func() { resp.Stream.Write([]byte("frame")) })
		app.Expect("frame")
		l.do(func() { resp.Close() })
		app.ExpectClosed()
		l.close()

		r := rawServer(t, s, Config{}) // which does not offer it
		defer r.close()
		proxytest.Do(t, s, func() {
			wantCode(t, "RoundTrip", r.c.RoundTrip(req, new(proxy.Response)), proxy.Unsupported, true)
		})
	})
}

// passedOver is an app that does not care for an Upgrade and answers as ever.
func passedOver() Config {
	return Config{Handler: handler(func(_ *proxy.Request, resp *proxy.Response) error {
		resp.Status, resp.Length, resp.Body = 200, 4, &content{parts: [][]byte{[]byte("page")}}
		return nil
	})}
}

func TestDeclinedUpgradeStaysAnExchange(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		server := passedOver()
		server.Pillion = true
		l := newLink(t, s, server, Config{Pillion: true})
		defer l.close()
		l.do(func() {
			req := get("/chat")
			req.Upgrade = "websocket"
			var resp proxy.Response
			if err := l.client.RoundTrip(req, &resp); err != nil {
				t.Error(err)
				return
			}
			defer resp.Close()
			if resp.Status != 200 || resp.Stream != nil || resp.Body == nil {
				t.Errorf("answer = %d, Stream %v, Body %v, want 200 with a Body", resp.Status, resp.Stream, resp.Body)
				return
			}
			p := make([]byte, 16)
			if n, err := resp.Body.Read(p); string(p[:n]) != "page" {
				t.Errorf("Read = %q, %v, want page", p[:n], err)
			}
		})
	})
}

// RFC 8441 section 5: to any other client a 2xx is the agreement.
func TestDeclinedUpgradeOnTheWire(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		r := rawClient(t, s, passedOver())
		r.headers(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "a", ":path", "/x")
		if got := r.untilHeaders(1).PseudoValue("status"); got != "501" {
			t.Errorf("status = %s, want 501", got)
		}
		r.close()
	})
}

// On the wire the success is 200, and a :protocol is not offered before the server's SETTINGS.
func TestExtendedConnectOnTheWire(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		up, far := proxytest.Pair(t, s)
		r := rawClient(t, s, tunnelConfig(func(*proxy.Request) proxy.Stream { return up }))
		r.until("SETTINGS_ENABLE_CONNECT_PROTOCOL", func(f xhttp2.Frame) bool {
			sf, ok := f.(*xhttp2.SettingsFrame)
			if !ok {
				return false
			}
			v, ok := sf.Value(xhttp2.SettingEnableConnectProtocol)
			return ok && v == 1
		})
		r.headers(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "a", ":path", "/x")
		if got := r.untilHeaders(1).PseudoValue("status"); got != "200" {
			t.Errorf("status = %s, want 200", got)
		}
		r.WriteData(1, true, []byte("hi"))
		proxytest.NewPeer(t, far).Expect("hi")
		far.Close()
		r.content(1)
		r.close()
	})
}

// A stream whose reader does not read holds back nobody else, and no more than its window.
func TestStalledStreamAndSiblings(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		const window = 256 << 10
		data := bytes.Repeat([]byte("x"), 4<<20)
		l := newLink(t, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			resp.Status, resp.Length = 200, int64(len(data))
			resp.Body = &content{parts: [][]byte{data}}
			return nil
		})}, Config{StreamWindow: window, ConnWindow: 1 << 20})
		defer l.close()
		l.do(func() {
			var stalled [3]proxy.Response
			for i := range stalled {
				if err := l.client.RoundTrip(get("/"), &stalled[i]); err != nil {
					t.Error(err)
				}
			}
			for range 3 {
				var resp proxy.Response
				if err := l.client.RoundTrip(get("/"), &resp); err != nil {
					t.Error(err)
					return
				}
				if got, err := readAll(resp.Body); len(got) != len(data) || err != nil {
					t.Errorf("got %d bytes, %v", len(got), err)
				}
				resp.Close()
			}
			if got := l.client.Stats().Unread; got > 3*window {
				t.Errorf("%d bytes unread, want at most %d: three stalled windows", got, 3*window)
			}
			for i := range stalled {
				if got, err := readAll(stalled[i].Body); len(got) != len(data) || err != nil {
					t.Errorf("stalled stream: got %d bytes, %v", len(got), err)
				}
				stalled[i].Close()
			}
		})
	})
}

// A small answer does not wait behind bulk data.
func TestSmallAnswersFirst(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		asked := make(chan struct{})
		r := rawClient(t, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			resp.Status, resp.Length, resp.Body = 200, proxy.Unknown, &endless{}
			if req.Path == "/small" {
				resp.Length, resp.Body = 5, text("small")
				close(asked)
			}
			return nil
		})}, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1<<31 - 1})
		defer r.close()
		r.WriteWindowUpdate(0, 1<<31-1-initialWindow)
		for id := uint32(1); id <= 5; id += 2 {
			r.get(id, "/bulk")
		}
		read, heads := int64(0), 0 // bytes, HEADERS
		next := func(f xhttp2.Frame) {
			read += frameHeaderLen + int64(f.Header().Length)
			if f.Header().Type == xhttp2.FrameHeaders {
				heads++
			}
		}
		r.until("three heads", func(f xhttp2.Frame) bool { next(f); return heads == 3 })
		// stopped waits until the Transport has been full for a while, and stream id waits for room or has had it.
		stopped := func(id uint32, quiet time.Duration) (out int64) {
			before, since := int64(-1), time.Now()
			proxytest.Eventually(t, "sending stops", func() bool {
				ok := false
				proxytest.Call(t, s, func() {
					s.Lock()
					defer s.Unlock()
					st := r.c.streams.get(id)
					ok = r.c.blocked && (st == nil || st.headSent || st.queue == &r.c.heads)
					out = int64(r.c.bytesOut)
				})
				if !ok || out != before {
					before, since = out, time.Now()
				}
				return ok && time.Since(since) >= quiet
			})
			return out
		}
		stopped(1, 50*time.Millisecond) // the kernel's buffers are full now
		r.get(7, "/small")
		proxytest.Wait(t, asked)
		out := stopped(7, 50*time.Millisecond)
		step := read
		r.until("the small answer", func(f xhttp2.Frame) bool {
			next(f)
			if f.Header().StreamID == 7 && f.Header().Type == xhttp2.FrameData {
				return true
			}
			if read > step+flushSize { // a reader so slow that who waits has its turn
				step = read
				stopped(7, 0)
			}
			return false
		})
		most := int64(2 << 20)
		if strings.HasSuffix(t.Name(), "goroutines") {
			most = 12 << 20 // whatever room the kernel makes is used up before a woken goroutine runs
		}
		if late := read - out; late > most {
			t.Errorf("%d bytes of bulk overtook the small answer", late)
		}
	})
}

// What a peer does not read stays with the app: the connection holds a bounded part of it.
func TestBackPressure(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		r := rawClient(t, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			resp.Status, resp.Length = 200, proxy.Unknown
			resp.Body = &endless{}
			return nil
		})}, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1<<31 - 1})
		defer r.close()
		r.WriteWindowUpdate(0, 1<<31-1-initialWindow)
		for id := uint32(1); id < 100; id += 2 {
			r.get(id, "/")
		}
		var before uint64
		proxytest.Eventually(t, "sending stops", func() bool {
			time.Sleep(50 * time.Millisecond)
			var out uint64
			proxytest.Call(t, s, func() { out = r.c.Stats().Out })
			stopped := out > 0 && out == before
			before = out
			return stopped
		})
		if n := rt.Stats().Buffers; n > 200 {
			t.Errorf("%d buffers held", n)
		}
		var queued int
		proxytest.Call(t, s, func() { queued = r.c.t.Queued() })
		if queued > maxQueued+2*flushSize+100*64 {
			t.Errorf("%d bytes queued", queued)
		}
		r.until("more", func(f xhttp2.Frame) bool { before -= min(before, uint64(f.Header().Length)); return before == 0 })
	})
}

// endless is content without end.
type endless struct{}

func (*endless) Read(p []byte) (int, error) { return len(p), nil }
func (*endless) Buffered() int              { return 1 }
func (*endless) Trailers() proxy.Fields     { return nil }
func (*endless) Close() error               { return nil }
