package http3

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// served waits for one result of Serve.
func (l *link) served() error {
	l.t.Helper()
	select {
	case err := <-l.ended:
		return err
	case <-time.After(patience):
		l.t.Fatal("Serve does not return")
		return nil
	}
}

// Shutdown of either end takes no new streams, lets the running ones end, and then closes in order.
func TestShutdown(t *testing.T) {
	for _, who := range []string{"server", "client"} {
		goroutines(t, func(t *testing.T, s task.Shard) {
			release := make(chan struct{})
			closed := make(chan error, 2)
			onClose := func(_ *Conn, err error) { closed <- err }
			l := newLink(t, s, Config{OnClose: onClose, Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
				<-release
				return echo(req, resp)
			})}, Config{OnClose: onClose})
			done := proxytest.Go(s, func() {
				resp := l.do(post("/", text("hello"), 5))
				if got, err := readAll(resp.Body); got != "hello" || err != nil {
					t.Errorf("%s: got %q, %v", who, got, err)
				}
				resp.Close()
			})
			proxytest.Eventually(t, "the request is under way", func() bool { return l.server.Stats().Running == 1 })
			if who == "server" {
				l.server.Shutdown()
			} else {
				l.client.Shutdown()
			}
			proxytest.Eventually(t, "the client opens no more", func() bool { return l.client.LeavingLocked() && l.client.Available() == 0 })
			if err := l.client.RoundTrip(get("/"), new(proxy.Response)); err != proxy.ErrNoStream {
				t.Errorf("%s: got %v, want ErrNoStream", who, err)
			}
			close(release)
			proxytest.Wait(t, done)
			for range 2 {
				if err := l.served(); err != nil {
					t.Errorf("%s: Serve returned %v", who, err)
				}
				if err := <-closed; err != nil {
					t.Errorf("%s: OnClose was told %v", who, err)
				}
			}
			l.net.close()
		})
	}
}

// A connection that ends breaks its streams: nobody takes what came for the whole.
func TestClose(t *testing.T) {
	for _, who := range []string{"server", "client"} {
		goroutines(t, func(t *testing.T, s task.Shard) {
			release := make(chan struct{})
			l := newLink(t, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
				resp.Status, resp.Length = 200, proxy.Unknown
				resp.Body = &parts{parts: [][]byte{[]byte("some"), []byte("more")}, wait: func(i int) {
					if i == 1 {
						<-release
					}
				}}
				return nil
			})}, Config{})
			resp := l.do(get("/"))
			p := make([]byte, 10)
			if n, err := resp.Body.Read(p); n != 4 || err != nil {
				t.Errorf("%s: got %d, %v", who, n, err)
			}
			if who == "server" {
				l.server.Close()
			} else {
				l.client.Close()
			}
			_, err := resp.Body.Read(p)
			var e *proxy.Error
			if !errors.As(err, &e) || e.Code != proxy.PeerReset || err == io.EOF {
				t.Errorf("%s: got %v, want that the connection was lost", who, err)
			}
			resp.Close()
			close(release)
			l.close()
			if err := l.client.RoundTrip(get("/"), new(proxy.Response)); err != proxy.ErrNoStream {
				t.Errorf("%s: afterwards: %v", who, err)
			}
		})
	}
}

func TestIdleTimeout(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		l := newLink(t, s, Config{Handler: handler(echo)}, Config{IdleTimeout: 30 * time.Millisecond})
		resp := l.do(get("/"))
		resp.Close()
		for range 2 {
			if err := l.served(); err != nil {
				t.Errorf("Serve returned %v", err)
			}
		}
		l.net.close()
	})
}

// A server that goes away says which requests it has not taken; these may be sent elsewhere.
func TestGoAwayLeavesRequestsUnsent(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		r := rawPeer(t, s, false, Config{})
		defer r.close()
		control := r.settings()
		first, second := make(chan error, 1), make(chan error, 1)
		s.Go(func() { first <- r.conn.RoundTrip(get("/"), new(proxy.Response)) })
		st := r.accept() // stream 0
		s.Go(func() { second <- r.conn.RoundTrip(get("/"), new(proxy.Response)) })
		r.accept()
		control.Write(appendNumberFrame(nil, frameGoAway, 4))
		var e *proxy.Error
		if err := <-second; !errors.As(err, &e) || e.Code != proxy.Refused || !e.Unsent {
			t.Errorf("the second got %v, want that it was refused", err)
		}
		st.Write(headers(":status: 200", "content-length: 0"))
		st.Close()
		if err := <-first; err != nil {
			t.Errorf("the first got %v", err)
		}
	})
}

// WaitReady says why there is no HTTP/3 at the other end.
func TestWaitReady(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		r := rawPeer(t, s, false, Config{})
		defer r.close()
		if err := r.conn.WaitReady(s.Now().Add(20 * time.Millisecond)); err != errNoSettings {
			t.Errorf("got %v, want %v", err, errNoSettings)
		}
		r.settings()
		if err := r.conn.WaitReady(s.Now().Add(patience)); err != nil {
			t.Error(err)
		}
		if st := r.conn.Stats(); !st.Ready || st.Pillion {
			t.Errorf("stats %+v", st)
		}
	})
	goroutines(t, func(t *testing.T, s task.Shard) {
		r := rawPeer(t, s, false, Config{})
		defer r.close()
		r.q.CloseWithError(0x10c, "no")
		var e *ConnError
		if err := r.conn.WaitReady(s.Now().Add(patience)); !errors.As(err, &e) || !e.Peer || e.Reason != "no" {
			t.Errorf("got %v, want what the peer said", err)
		}
	})
}

// A peer that does not know extended CONNECT is not asked for it.
func TestNoExtendedConnect(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		r := rawPeer(t, s, false, Config{})
		defer r.close()
		r.settings()
		err := r.conn.RoundTrip(upgrade("websocket"), new(proxy.Response))
		var e *proxy.Error
		if !errors.As(err, &e) || e.Code != proxy.Unsupported || !e.Unsent {
			t.Errorf("got %v, want that it is unsupported", err)
		}
	})
}
