package quiclink

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/listeners/peer"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/http2"
	"github.com/pillion-proxy/pillion/proxy/http3"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/relay"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/tls/mtls"
	"github.com/pillion-proxy/pillion/tls/tlstest"
	"github.com/pillion-proxy/pillion/upstream/pool"
)

// bed is a near runtime, a far one, and a peer that answers on the far one.
type bed struct {
	t         *testing.T
	near, far task.Shard
	ids       func(string) *mtls.Source
	srv       *peer.Server
	addr      netip.AddrPort
	seen      sync.Map // path to fields
	calls     atomic.Int32
	handler   func(req *proxy.Request, resp *proxy.Response) error // nil: 204
}

// RoundTrip is the peer's handler.
func (b *bed) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	b.calls.Add(1)
	var kept []string
	for _, f := range req.Fields {
		kept = append(kept, strings.Clone(f.Name)+": "+strings.Clone(f.Value))
	}
	b.seen.Store(strings.Clone(req.Path), strings.Join(kept, "\n"))
	if b.handler != nil {
		return b.handler(req, resp)
	}
	resp.Status = 204
	return nil
}

// over runs f with a near shard of each runtime.
func over(t *testing.T, change func(*peer.QUIC), f func(b *bed)) {
	ids := tlstest.Identities(t)
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		other := task.NewGoroutines(task.Config{Loops: 1, First: 2, Logger: proxytest.Logger(t)})
		stop := proxytest.Start(t, other)
		defer stop()
		b := &bed{t: t, near: rt.Shards()[0], far: other.Shards()[0], ids: ids}
		b.start(rt, change)
		defer b.srv.Close()
		f(b)
		b.srv.Drain()
	})
}

func (b *bed) start(rt task.Runtime, change func(*peer.QUIC)) {
	b.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.t.Fatal(err)
	}
	b.addr = conn.LocalAddr().(*net.UDPAddr).AddrPort()
	id := b.ids("api")
	q := &peer.QUIC{Conn: conn, Shards: []task.Shard{b.far}, HTTP3: http3.Config{Handler: b, Tunnel: relay.Copy, Pillion: true}}
	if change != nil {
		change(q)
	}
	b.srv = peer.New(peer.Config{Listener: ln, Runtime: rt, TLS: id.ServerConfig, Identity: id.Identity, Explain: id.Explain, Self: id.Self,
		HTTP2: http2.Config{Handler: b}, Logger: slog.New(slog.DiscardHandler), QUIC: q})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := b.srv.Run(ctx); err != nil {
			b.t.Error(err)
		}
	}()
	b.t.Cleanup(func() { cancel(); <-done })
}

func (b *bed) endpoint(addr netip.AddrPort, name string) *proxy.Endpoint {
	return &proxy.Endpoint{Addr: addr, Identity: proxy.NewIdentity("example.org", name), Mesh: true, Transport: proxy.QUIC}
}

// dialer returns a Dialer, which must be closed, and a pool of its Links.
func (b *bed) dialer(cfg Config) (*Dialer, *pool.Pool) {
	id := b.ids("web")
	cfg.TLS, cfg.Explain, cfg.HTTP3.Pillion = id.ClientConfig, id.Explain, true
	cfg.Far = func(task.Shard) task.Shard { return b.far }
	cfg.Socket = func() (*net.UDPConn, error) { return net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}) }
	cfg.Logger = proxytest.Logger(b.t)
	d := New(cfg)
	return d, pool.New(pool.Config{Shard: b.near, Dial: d.Dial})
}

func (b *bed) request(path string) *proxy.Request {
	return &proxy.Request{Method: "GET", Scheme: "http", Authority: "api", Path: path, Version: proxy.HTTP11,
		Service: proxy.Service{Name: "api", Port: 80}, Shard: b.near, Cancel: new(proxy.Cancel)}
}

// call carries out one request in a task.
func (b *bed) call(p *pool.Pool, ep *proxy.Endpoint, req *proxy.Request) (status int, err error) {
	b.t.Helper()
	proxytest.Do(b.t, b.near, func() {
		var resp proxy.Response
		if err = p.RoundTrip(ep, req, &resp); err == nil {
			status = resp.Status
			resp.Close()
		}
	})
	return status, err
}

// link returns the only Link of p.
func (b *bed) link(p *pool.Pool) *Link {
	b.t.Helper()
	var all []*Link
	proxytest.Do(b.t, b.near, func() { p.Each(func(_ *proxy.Endpoint, l pool.Link) { all = append(all, l.(*Link)) }) })
	if len(all) != 1 {
		b.t.Fatalf("%d links, want 1", len(all))
	}
	return all[0]
}

// end closes d and waits until nothing of it is left.
func (b *bed) end(d *Dialer, p *pool.Pool) {
	b.t.Helper()
	proxytest.Do(b.t, b.near, p.Shutdown)
	proxytest.Eventually(b.t, "the links have ended", func() bool {
		n := 0
		proxytest.Do(b.t, b.near, func() { p.Each(func(*proxy.Endpoint, pool.Link) { n++ }) })
		return n == 0
	})
	d.Close()
}

func TestExchange(t *testing.T) {
	over(t, nil, func(b *bed) {
		d, p := b.dialer(Config{})
		for range 20 {
			req := b.request("/x")
			req.Fields.Add(proxy.ToField, "evil")
			req.Fields.Add("X-Case", "Kept")
			if status, err := b.call(p, b.endpoint(b.addr, "api"), req); status != 204 || err != nil {
				t.Fatalf("got %d, %v", status, err)
			}
			if len(req.Fields) != 1 {
				t.Errorf("the request's fields became %v", req.Fields)
			}
		}
		fields, _ := b.seen.Load("/x")
		if got, want := fields, "X-Case: Kept\n"+proxy.ToField+": api:80"; got != want {
			t.Errorf("the peer saw %q, want %q", got, want)
		}
		st := b.link(p).Stats()
		if st.Opened != 20 || !st.Pillion || st.Suspect {
			t.Errorf("stats %+v; want 20 streams of a pillion", st)
		}
		b.end(d, p)
	})
}

// refusals are dials that must fail, and how.
func TestRefusals(t *testing.T) {
	over(t, nil, func(b *bed) {
		for _, c := range []struct {
			what, name string
			ids        func(string) *mtls.Source
			code       proxy.Code
			says       string
		}{
			{"another identity", "billing", b.ids, proxy.BadIdentity, "expected"},
			{"another authority", "api", tlstest.Identities(t), proxy.BadIdentity, "none of our roots"},
		} {
			kept := b.ids
			b.ids = c.ids
			d, p := b.dialer(Config{})
			b.ids = kept
			_, err := b.call(p, b.endpoint(b.addr, c.name), b.request("/"))
			var e *proxy.Error
			if !errors.As(err, &e) || e.Code != c.code || !e.Unsent || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: got %v, want %s, unsent, %q", c.what, err, c.code, c.says)
			}
			b.end(d, p)
		}
	})
}

// A peer that does not accept our certificate says so after its own handshake; the error names ours.
func TestOurCertificateIsRefused(t *testing.T) {
	over(t, nil, func(b *bed) {
		d, p := b.dialer(Config{})
		strange := tlstest.Identities(t)("web")
		api := proxy.NewIdentity("example.org", "api")
		cfg := strange.ClientConfig(api)
		cfg.VerifyConnection = d.cfg.TLS(api).VerifyConnection // we believe it
		d.cfg.TLS = tlsOf(cfg)
		_, err := b.call(p, b.endpoint(b.addr, "api"), b.request("/"))
		var e *proxy.Error
		var ours *mtls.RefusedError
		if !errors.As(err, &e) || e.Code != proxy.BadIdentity || !errors.As(err, &ours) {
			t.Errorf("got %v, want bad_identity by a RefusedError", err)
		}
		b.end(d, p)
	})
}

// TestNobodyListens: a closed port is known at once, not after the time of a handshake.
func TestNobodyListens(t *testing.T) {
	over(t, nil, func(b *bed) {
		d, p := b.dialer(Config{DialTimeout: time.Hour})
		closed, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		addr := closed.LocalAddr().(*net.UDPAddr).AddrPort()
		closed.Close()
		_, err = b.call(p, b.endpoint(addr, "api"), b.request("/"))
		var e *proxy.Error
		if !errors.As(err, &e) || e.Code != proxy.ConnectFailed || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("got %v, want connect_failed, connection refused", err)
		}
		b.end(d, p)
	})
}

// TestSilence: where packets vanish the dial ends in time.
func TestSilence(t *testing.T) {
	over(t, nil, func(b *bed) {
		d, p := b.dialer(Config{DialTimeout: 100 * time.Millisecond})
		hole, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer hole.Close()
		_, err = b.call(p, b.endpoint(hole.LocalAddr().(*net.UDPAddr).AddrPort(), "api"), b.request("/"))
		if !errors.Is(err, http3.ErrSilence) {
			t.Errorf("got %v, want %v", err, http3.ErrSilence)
		}
		b.end(d, p)
	})
}

// stream opens a Stream that echoes.
func (b *bed) stream(p *pool.Pool, ep *proxy.Endpoint) *proxy.Response {
	b.t.Helper()
	resp := new(proxy.Response)
	proxytest.Do(b.t, b.near, func() {
		req := b.request("")
		req.Method = "CONNECT"
		if err := p.RoundTrip(ep, req, resp); err != nil {
			b.t.Fatal(err)
		}
	})
	return resp
}

// echo answers CONNECT with a TCP connection to an app that echoes.
func (b *bed) echo() {
	b.handler = func(req *proxy.Request, resp *proxy.Response) error {
		if !req.IsConnect() {
			resp.Status = 204
			return nil
		}
		mine, app := proxytest.NetPair(b.t, "tcp", "127.0.0.1:0")
		c, err := req.Shard.Adopt(mine)
		if err != nil {
			return err
		}
		go func() {
			defer app.Close()
			_, _ = io.Copy(app, app)
		}()
		resp.Status, resp.Stream = 200, c
		return nil
	}
}

// TestMovesToAnotherPath: a path that dies in the middle of a Stream is replaced by another local port, and not a byte is lost.
func TestMovesToAnotherPath(t *testing.T) {
	over(t, nil, func(b *bed) {
		b.echo()
		r := newRelay(t, b.addr)
		d, p := b.dialer(Config{SuspectAfter: 100 * time.Millisecond})
		ep := b.endpoint(r.addr, "api")
		resp := b.stream(p, ep)
		sent := bytes.Repeat([]byte("0123456789abcdef"), 4096)
		exchange := func() {
			t.Helper()
			proxytest.Do(t, b.near, func() {
				if _, err := resp.Stream.Write(sent); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, len(sent))
				for n := 0; n < len(got); {
					m, err := resp.Stream.Read(got[n:])
					if err != nil {
						t.Fatalf("after %d bytes: %v", n, err)
					}
					n += m
				}
				if !bytes.Equal(got, sent) {
					t.Error("the echo is not what was sent")
				}
			})
		}
		exchange()
		proxytest.Eventually(t, "another path is ready", func() (ready bool) {
			l := b.link(p)
			proxytest.Call(t, b.far, func() { ready = !l.path.trying })
			return ready
		})
		r.blockFirst()
		exchange()
		proxytest.Eventually(t, "the link has moved, and its path answers", func() bool {
			st := b.link(p).Stats()
			return st.Moves > 0 && !st.Suspect
		})
		if status, err := b.call(p, ep, b.request("/")); status != 204 || err != nil {
			t.Errorf("a request over the new path: %d, %v", status, err)
		}
		proxytest.Do(t, b.near, func() { resp.Close() })
		b.end(d, p)
		r.close()
	})
}

// TestRebinding: a NAT that gives the Link another port goes unnoticed.
func TestRebinding(t *testing.T) {
	over(t, nil, func(b *bed) {
		b.echo()
		r := newRelay(t, b.addr)
		d, p := b.dialer(Config{})
		resp := b.stream(p, b.endpoint(r.addr, "api"))
		for range 3 {
			proxytest.Do(t, b.near, func() {
				if _, err := resp.Stream.Write([]byte("still there?")); err != nil {
					t.Error(err)
				}
				got := make([]byte, 100)
				if n, err := resp.Stream.Read(got); string(got[:n]) != "still there?" {
					t.Errorf("got %q, %v", got[:n], err)
				}
			})
			r.rebind()
		}
		proxytest.Do(t, b.near, func() { resp.Close() })
		b.end(d, p)
		r.close()
	})
}

// TestSuspectTakesNoRequests: a path that is blocked for all ports makes the Link suspect, and good again when it is not.
func TestSuspectTakesNoRequests(t *testing.T) {
	over(t, nil, func(b *bed) {
		b.echo()
		r := newRelay(t, b.addr)
		var told atomic.Int32
		d, p := b.dialer(Config{SuspectAfter: 100 * time.Millisecond, Suspect: func(ep *proxy.Endpoint, why error) { told.Add(1) }})
		resp := b.stream(p, b.endpoint(r.addr, "api"))
		l := b.link(p)
		available := func() (n int) {
			proxytest.Do(t, b.near, func() {
				b.near.Lock()
				n = l.AvailableLocked()
				b.near.Unlock()
			})
			return n
		}
		r.block.Store(true)
		proxytest.Do(t, b.near, func() { _, _ = resp.Stream.Write([]byte("lost, for now")) })
		proxytest.Eventually(t, "the link is suspect", func() bool { return available() == 0 && told.Load() == 1 })
		r.block.Store(false)
		proxytest.Eventually(t, "the link is good again", func() bool { return available() > 0 })
		proxytest.Do(t, b.near, func() {
			got := make([]byte, 100)
			if n, err := resp.Stream.Read(got); string(got[:n]) != "lost, for now" {
				t.Errorf("got %q, %v", got[:n], err)
			}
			resp.Close()
		})
		b.end(d, p)
		r.close()
	})
}

// TestDeadPeer: silence ends the Link, and with it what runs, which is not said to be unsent.
func TestDeadPeer(t *testing.T) {
	over(t, nil, func(b *bed) {
		entered := make(chan struct{}, 1)
		b.handler = func(req *proxy.Request, resp *proxy.Response) error {
			entered <- struct{}{}
			for req.Cancel.Err() == nil {
				req.Shard.Sleep(time.Millisecond)
			}
			return req.Cancel.Err()
		}
		r := newRelay(t, b.addr)
		d, p := b.dialer(Config{SuspectAfter: 50 * time.Millisecond, DeadAfter: 500 * time.Millisecond, PingIdle: 100 * time.Millisecond})
		done := proxytest.Go(b.near, func() {
			var resp proxy.Response
			var e *proxy.Error
			if err := p.RoundTrip(b.endpoint(r.addr, "api"), b.request("/"), &resp); !errors.As(err, &e) || e.Code != proxy.PeerReset || e.Unsent {
				t.Errorf("got %v, want peer_reset, not unsent", err)
			}
		})
		<-entered
		r.block.Store(true)
		proxytest.Wait(t, done)
		b.end(d, p)
		r.close()
	})
}

// TestPeerIsGone: the machine of a peer that was killed says so, and the Link does not wait for silence to be long.
func TestPeerIsGone(t *testing.T) {
	over(t, nil, func(b *bed) {
		b.echo()
		r := newRelay(t, b.addr)
		d, p := b.dialer(Config{DeadAfter: time.Hour, SuspectAfter: time.Minute})
		resp := b.stream(p, b.endpoint(r.addr, "api"))
		r.close()
		done := proxytest.Go(b.near, func() {
			_, _ = resp.Stream.Write([]byte("anybody there?"))
			if _, err := resp.Stream.Read(make([]byte, 1)); err == nil || err == io.EOF {
				t.Errorf("got %v, want an error that is no end", err)
			}
			resp.Close()
		})
		proxytest.Wait(t, done)
		b.end(d, p)
	})
}

func TestTrace(t *testing.T) {
	dir := t.TempDir()
	over(t, func(q *peer.QUIC) { q.Trace = http3.QLog(dir, slog.New(slog.DiscardHandler)) }, func(b *bed) {
		d, p := b.dialer(Config{Trace: http3.QLog(dir, proxytest.Logger(t))})
		if status, err := b.call(p, b.endpoint(b.addr, "api"), b.request("/")); status != 204 || err != nil {
			t.Fatalf("got %d, %v", status, err)
		}
		b.end(d, p)
	})
	for _, side := range []string{"client", "server"} {
		proxytest.Eventually(t, "the traces are written", func() bool {
			files, err := filepath.Glob(filepath.Join(dir, "*_"+side+".sqlog"))
			if err != nil || len(files) == 0 {
				return false
			}
			text, err := os.ReadFile(files[0])
			return err == nil && bytes.Contains(text, []byte("packet_sent"))
		})
	}
}

// upload is a Body of which the test can say how much was read.
type upload struct {
	rest []byte
	read atomic.Int64
}

func (u *upload) Read(p []byte) (int, error) {
	if len(u.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, u.rest)
	u.rest = u.rest[n:]
	u.read.Add(int64(n))
	return n, nil
}

func (u *upload) Buffered() int {
	if len(u.rest) == 0 {
		return -1
	}
	return len(u.rest)
}
func (u *upload) Trailers() proxy.Fields { return nil }
func (u *upload) Close() error           { return nil }

// TestMovesDuringAnExchange: a path that dies while content goes both ways is replaced, the request runs once, and not a byte is lost.
func TestMovesDuringAnExchange(t *testing.T) {
	over(t, nil, func(b *bed) {
		b.handler = func(req *proxy.Request, resp *proxy.Response) error {
			resp.Status, resp.Length, resp.Body = 200, req.Length, req.Body
			return nil
		}
		r := newRelay(t, b.addr)
		d, p := b.dialer(Config{SuspectAfter: 100 * time.Millisecond})
		ep := b.endpoint(r.addr, "api")
		const size = 4 << 20 // more than the windows and all that is between
		sent := bytes.Repeat([]byte("0123456789abcdef"), size/16)
		body := &upload{rest: sent}
		var got []byte
		exchange := func() error {
			req := b.request("/echo")
			req.Method, req.Length, req.Body = "POST", size, body
			var resp proxy.Response
			if err := p.RoundTrip(ep, req, &resp); err != nil {
				return err
			}
			defer resp.Close()
			for buf, blocked := make([]byte, 16<<10), false; ; {
				n, err := resp.Body.Read(buf)
				if got = append(got, buf[:n]...); err != nil {
					return err
				}
				if !blocked && len(got) > size/8 {
					blocked = true
					r.blockFirst()
				}
			}
		}
		if status, err := b.call(p, ep, b.request("/before")); status != 200 || err != nil {
			t.Fatalf("a request before: %d, %v", status, err)
		}
		proxytest.Eventually(t, "another path is ready", func() (ready bool) {
			l := b.link(p)
			proxytest.Call(t, b.far, func() { ready = !l.path.trying })
			return ready
		})
		var err error
		proxytest.Wait(t, proxytest.Go(b.near, func() { err = exchange() }))
		if err != io.EOF || !bytes.Equal(got, sent) {
			t.Errorf("%d of %d bytes came back, %v", len(got), size, err)
		}
		if n, moves := b.calls.Load(), b.link(p).Stats().Moves; n != 2 || moves == 0 {
			t.Errorf("the two requests ran %d times, and the link has moved %d times", n, moves)
		}
		b.end(d, p)
		r.close()
	})
}
