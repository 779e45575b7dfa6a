package http3

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/relay"
	"github.com/pillion-proxy/pillion/proxy/task"
)

func connect() *proxy.Request {
	return &proxy.Request{Method: "CONNECT", Authority: "db:5432", Cancel: new(proxy.Cancel)}
}

func upgrade(protocol string) *proxy.Request {
	r := get("/chat")
	r.Upgrade = protocol
	return r
}

// tunnel is a link whose CONNECT ends at app, and a Stream through it.
func tunnel(t *testing.T, s task.Shard, req *proxy.Request) (l *link, resp *proxy.Response, app *proxytest.Peer) {
	t.Helper()
	up, far := proxytest.Pair(t, s)
	l = newLink(t, s, Config{Tunnel: relay.Copy, Handler: handler(func(got *proxy.Request, resp *proxy.Response) error {
		if got.Method != req.Method || got.Upgrade != req.Upgrade || got.Authority != req.Authority || got.Path != req.Path {
			t.Errorf("server got %+v", got)
		}
		resp.Status, resp.Stream = 200, up
		if got.Upgrade != "" {
			resp.Status = 101
		}
		return nil
	})}, Config{})
	resp = l.do(req)
	want := 200
	if req.Upgrade != "" {
		want = 101
	}
	if resp.Stream == nil || resp.Status != want {
		t.Fatalf("no Stream: %+v", resp)
	}
	return l, resp, proxytest.NewPeer(t, far)
}

func TestTunnelHalfClose(t *testing.T) {
	for _, req := range []*proxy.Request{connect(), upgrade("websocket")} {
		goroutines(t, func(t *testing.T, s task.Shard) {
			l, resp, app := tunnel(t, s, req)
			defer l.close()
			big := strings.Repeat("abcdefgh", 1<<17)
			sent := proxytest.Go(s, func() {
				resp.Stream.Write([]byte(big))
				resp.Stream.CloseWrite()
			})
			app.Expect(big)
			app.ExpectEOF() // and the other direction goes on
			proxytest.Wait(t, sent)
			go func() {
				io.WriteString(app, big)
				app.FinishSending()
			}()
			got, err := io.ReadAll(resp.Stream)
			if string(got) != big || err != nil {
				t.Errorf("got %d bytes, %v, want %d", len(got), err, len(big))
			}
			resp.Stream.Close()
			resp.Close()
			l.quiet()
		})
	}
}

func TestTunnelOtherHalfCloseFirst(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		l, resp, app := tunnel(t, s, connect())
		defer l.close()
		app.Send("bye")
		app.FinishSending()
		if got, err := io.ReadAll(resp.Stream); string(got) != "bye" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		resp.Stream.Write([]byte("still here"))
		app.Expect("still here")
		resp.Stream.CloseWrite()
		app.ExpectEOF()
		resp.Close()
		l.quiet()
	})
}

// A client that goes away closes the connection only once the server has what was sent last on a Stream that it has ended first.
func TestShutdownLosesNothingOfAStream(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		l, resp, app := tunnel(t, s, connect())
		app.FinishSending()
		if got, err := io.ReadAll(resp.Stream); len(got) > 0 || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		l.client.Shutdown()
		rest := strings.Repeat("x", 10_000)
		resp.Stream.Write([]byte(rest))
		resp.Stream.CloseWrite()
		app.Expect(rest)
		app.ExpectEOF()
		resp.Close()
		for range 2 {
			if err := l.served(); err != nil {
				t.Errorf("Serve returned %v", err)
			}
		}
		l.net.close()
	})
}

// A reset is a reset on the other side, never an orderly end.
func TestTunnelResets(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		l, resp, app := tunnel(t, s, connect())
		defer l.close()
		app.Send("x")
		p := make([]byte, 10)
		if n, err := resp.Stream.Read(p); n != 1 || err != nil {
			t.Errorf("got %d, %v", n, err)
		}
		app.Abort()
		_, err := resp.Stream.Read(p)
		var reset StreamReset
		if !errors.As(err, &reset) || !reset.Peer || reset.Code != ErrConnect {
			t.Errorf("got %v, want the peer's H3_CONNECT_ERROR", err)
		}
		resp.Close()
		l.quiet()
	})
	for _, how := range []string{"reset", "close", "cancel"} {
		goroutines(t, func(t *testing.T, s task.Shard) {
			req := connect()
			l, resp, app := tunnel(t, s, req)
			defer l.close()
			st := resp.Stream
			st.Write([]byte("x"))
			app.Expect("x")
			switch how {
			case "reset":
				st.Reset()
			case "close":
				resp.Close()
			case "cancel":
				req.Cancel.Cancel(errors.New("gone"))
			}
			if _, err := app.Read(make([]byte, 1)); err == nil || err == io.EOF {
				t.Errorf("%s: the app read %v, want a reset", how, err)
			}
			if _, err := st.Read(make([]byte, 1)); err == nil || err == io.EOF {
				t.Errorf("%s: the client read %v", how, err)
			}
			if how != "close" {
				resp.Close()
			}
			l.quiet()
		})
	}
}

// WaitReadable waits without a buffer, and a reset wakes it.
func TestTunnelWaitReadable(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		l, resp, app := tunnel(t, s, connect())
		defer l.close()
		w := resp.Stream.(proxy.Waiter)
		for range 3 {
			done := proxytest.Go(s, func() {
				if err := w.WaitReadable(); err != nil {
					t.Error(err)
				}
			})
			app.Send("hello")
			proxytest.Wait(t, done)
			p := make([]byte, 5)
			if _, err := io.ReadFull(resp.Stream, p); string(p) != "hello" || err != nil {
				t.Errorf("got %q, %v", p, err)
			}
		}
		done := proxytest.Go(s, func() {
			if err := w.WaitReadable(); err == nil {
				t.Error("a reset Stream is readable")
			}
		})
		resp.Stream.Reset()
		proxytest.Wait(t, done)
		resp.Close()
		l.quiet()
	})
}

// An answer that is no agreement is an answer. Only a pillion can be told of a 2xx that is none.
func TestUpgradeDeclined(t *testing.T) {
	for _, pillion := range []bool{true, false} {
		goroutines(t, func(t *testing.T, s task.Shard) {
			l := newLink(t, s, Config{Tunnel: relay.Copy, Pillion: pillion, Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
				resp.Status, resp.Length, resp.Body = 200, 5, text("plain")
				if req.Path == "/404" {
					resp.Status = 404
				}
				return nil
			})}, Config{Pillion: true})
			defer l.close()
			for _, c := range []struct {
				path string
				want int
			}{{"/", 200}, {"/404", 404}} {
				req := upgrade("websocket")
				req.Path = c.path
				resp := l.do(req)
				if !pillion && c.want == 200 {
					c.want = 501
				}
				if got, err := readAll(resp.Body); resp.Status != c.want || got != "plain" || err != nil || resp.Stream != nil {
					t.Errorf("pillion %v: got %d %q, %v, want %d", pillion, resp.Status, got, err, c.want)
				}
				resp.Close()
			}
			l.quiet()
		})
	}
}

// Offer writes whole pieces, or nothing.
func TestOffer(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		l, resp, app := tunnel(t, s, connect())
		defer l.close()
		o := resp.Stream.(proxy.Offerer)
		if ok, err := o.Offer([]byte("he"), []byte("llo")); !ok || err != nil {
			t.Errorf("got %v, %v", ok, err)
		}
		app.Expect("hello")
		piece, n := bytes.Repeat([]byte("x"), 60000), 0
		for end := time.Now().Add(patience); time.Now().Before(end); n++ { // nobody reads
			ok, err := o.Offer(nil, piece)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
		}
		app.Expect(strings.Repeat("x", n*len(piece)))
		resp.Close()
		l.quiet()
	})
}
