package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/http2"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/tls/mtls"
	"github.com/pillion-proxy/pillion/tls/tlstest"
	"github.com/pillion-proxy/pillion/upstream/h2link"
	"github.com/pillion-proxy/pillion/upstream/pool"
)

// records counts and keeps what is logged.
type records struct {
	slog.Handler
	mu  sync.Mutex
	all []string
}

func (r *records) Enabled(context.Context, slog.Level) bool { return true }
func (r *records) Handle(_ context.Context, rec slog.Record) error {
	line := rec.Message
	rec.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec.Level >= slog.LevelWarn {
		r.all = append(r.all, line)
	}
	return nil
}

func (r *records) lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.all...)
}

// inbound answers 204 and notes who called; a request for /slow is held until release.
type inbound struct {
	caller  atomic.Value
	slow    atomic.Int32
	release atomic.Bool
}

func (i *inbound) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	i.caller.Store(string(req.Peer.Identity) + " from " + req.Client.Addr().String())
	if req.Path == "/slow" {
		i.slow.Add(1)
		for !i.release.Load() && req.Cancel.Err() == nil {
			req.Shard.Sleep(time.Millisecond)
		}
	}
	resp.Status = 204
	return nil
}

type fixture struct {
	*Server
	in   *inbound
	log  *records
	ep   *proxy.Endpoint
	done chan struct{} // Run has returned
}

// start runs a Server; change may alter its configuration.
func start(t *testing.T, rt task.Runtime, id *mtls.Source, change func(*Config)) *fixture {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{in: &inbound{}, log: &records{}, done: make(chan struct{}),
		ep: &proxy.Endpoint{Addr: netip.MustParseAddrPort(ln.Addr().String()), Identity: id.Self(), Mesh: true}}
	cfg := Config{Listener: ln, Runtime: rt, TLS: id.ServerConfig, Identity: id.Identity, Explain: id.Explain, Self: id.Self,
		HTTP2: http2.Config{Handler: f.in, Pillion: true}, Logger: slog.New(f.log)}
	if change != nil {
		change(&cfg)
	}
	f.Server = New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(f.done)
		if err := f.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(cancel)
	return f
}

// stop ends the Server and waits for it.
func (f *fixture) stop(t *testing.T) {
	t.Helper()
	f.Drain()
	proxytest.Wait(t, f.done)
}

func newPool(s task.Shard, id *mtls.Source) *pool.Pool {
	return pool.New(pool.Config{Shard: s, Dial: h2link.Dialer(h2link.Config{TLS: id.ClientConfig, Explain: id.Explain, HTTP2: http2.Config{Pillion: true}})})
}

func call(s task.Shard, p *pool.Pool, ep *proxy.Endpoint, path string) (status int, err error) {
	req := &proxy.Request{Method: "GET", Scheme: "http", Authority: "api", Path: path, Version: proxy.HTTP11, Shard: s, Cancel: new(proxy.Cancel),
		Service: proxy.Service{Name: "api"}}
	var resp proxy.Response
	if err = p.RoundTrip(ep, req, &resp); err == nil {
		status = resp.Status
		resp.Close()
	}
	return status, err
}

func TestCallerIsKnown(t *testing.T) {
	ids := tlstest.Identities(t)
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		f := start(t, rt, ids("api"), nil)
		p := newPool(s, ids("web"))
		proxytest.Do(t, s, func() {
			if status, err := call(s, p, f.ep, "/"); status != 204 || err != nil {
				t.Errorf("got %d, %v", status, err)
			}
		})
		if got, want := f.in.caller.Load(), "spiffe://example.org/web from 127.0.0.1"; got != want {
			t.Errorf("the caller is %q, want %q", got, want)
		}
		links := f.Links(t.Context())
		if f.Open() != 1 || len(links) != 1 || links[0].Peer.Identity != "spiffe://example.org/web" || links[0].Stats.Opened != 1 {
			t.Errorf("%d links are open, described as %+v", f.Open(), links)
		}
		proxytest.Do(t, s, p.Shutdown)
		proxytest.Eventually(t, "the link is gone", func() bool { return f.Open() == 0 })
		f.stop(t)
		if lines := f.log.lines(); len(lines) > 0 {
			t.Errorf("logged %q, want nothing", lines)
		}
	})
}

// What runs ends in order, what comes later is refused, and Run returns.
func TestDrain(t *testing.T) {
	ids := tlstest.Identities(t)
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		f := start(t, rt, ids("api"), nil)
		p := newPool(s, ids("web"))
		running := proxytest.Go(s, func() {
			if status, err := call(s, p, f.ep, "/slow"); status != 204 || err != nil {
				t.Errorf("the running request: %d, %v", status, err)
			}
		})
		proxytest.Eventually(t, "the request runs", func() bool { return f.in.slow.Load() == 1 })
		f.stop(t)
		proxytest.Eventually(t, "the peer is told", func() bool {
			leaving := false
			proxytest.Do(t, s, func() {
				p.Each(func(_ *proxy.Endpoint, l pool.Link) {
					s.Lock()
					leaving = l.LeavingLocked()
					s.Unlock()
				})
			})
			return leaving
		})
		proxytest.Do(t, s, func() {
			var e *proxy.Error
			if _, err := call(s, p, f.ep, "/"); !errors.As(err, &e) || e.Code != proxy.ConnectFailed || !e.Unsent {
				t.Errorf("a request after GOAWAY: got %v, want connect_failed, unsent", err)
			}
		})
		if f.Open() != 1 {
			t.Errorf("%d links while a request runs, want 1", f.Open())
		}
		f.in.release.Store(true)
		proxytest.Wait(t, running)
		proxytest.Eventually(t, "the link is gone", func() bool { return f.Open() == 0 && rt.Stats().Conns == 0 })
	})
}

func TestRefusedPeers(t *testing.T) {
	ids := tlstest.Identities(t)
	api, web, stranger := ids("api"), ids("web"), tlstest.Identities(t)("web")
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		f := start(t, rt, api, nil)
		for _, c := range []struct {
			what   string
			change func(*tls.Config)
			id     *mtls.Source
			logged string
		}{
			{"another authority", func(c *tls.Config) {
				c.InsecureSkipVerify, c.VerifyConnection, c.VerifyPeerCertificate = true, nil, nil
			}, stranger, "none of our roots"},
			{"no certificate", func(c *tls.Config) { c.Certificates, c.GetClientCertificate = nil, nil }, web, "no certificate"},
			{"another protocol", func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }, web, "ALPN"},
			{"no protocol", func(c *tls.Config) { c.NextProtos = nil }, web, "ALPN"},
			{"no TLS", nil, web, "TLS"},
		} {
			before := len(f.log.lines())
			raw, err := net.Dial("tcp", f.ep.Addr.String())
			if err != nil {
				t.Fatal(err)
			}
			raw.SetDeadline(time.Now().Add(5 * time.Second))
			if c.change == nil {
				_, _ = raw.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
			} else {
				cfg := c.id.ClientConfig(f.ep.Identity)
				c.change(cfg)
				tc := tls.Client(raw, cfg)
				if tc.Handshake() == nil {
					_, _ = tc.Read(make([]byte, 1)) // the refusal comes after the handshake in TLS 1.3
				}
			}
			raw.Close()
			proxytest.Eventually(t, c.what+" is refused", func() bool { return len(f.log.lines()) > before })
			if lines := f.log.lines()[before:]; len(lines) != 1 || !strings.Contains(lines[0], c.logged) {
				t.Errorf("%s: logged %q, want one line with %q", c.what, lines, c.logged)
			}
		}
		before := len(f.log.lines())
		for range 3 { // a port check is nothing to talk about
			raw, err := net.Dial("tcp", f.ep.Addr.String())
			if err != nil {
				t.Fatal(err)
			}
			raw.(*net.TCPConn).SetLinger(0)
			raw.Close()
		}
		f.stop(t)
		if lines := f.log.lines()[before:]; len(lines) > 0 {
			t.Errorf("port checks: logged %q", lines)
		}
		if f.Open() != 0 {
			t.Errorf("%d links", f.Open())
		}
	})
}

// Connections that say nothing, or no more than a ClientHello, keep nobody out, and are bounded.
func TestHandshakesAreBounded(t *testing.T) {
	ids := tlstest.Identities(t)
	const slots = 2
	for _, attack := range []struct {
		name  string
		conns int
		hello bool
	}{{"silent", 20 * slots, false}, {"nothing after the ClientHello", slots, true}} {
		t.Run(attack.name, func(t *testing.T) {
			proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
				s := rt.Shards()[0]
				f := start(t, rt, ids("api"), func(c *Config) { c.MaxHandshakes, c.HandshakeTimeout = slots, time.Hour })
				for range attack.conns {
					raw, err := net.Dial("tcp", f.ep.Addr.String())
					if err != nil {
						t.Fatal(err)
					}
					defer raw.Close()
					if attack.hello {
						if _, err := raw.Write(clientHello(t)); err != nil {
							t.Fatal(err)
						}
					}
				}
				proxytest.Eventually(t, "the attack stands", func() bool {
					return !attack.hello || len(f.door.slots) == slots
				})
				p := newPool(s, ids("web"))
				proxytest.Do(t, s, func() {
					if status, err := call(s, p, f.ep, "/"); status != 204 || err != nil {
						t.Errorf("behind silent connections: got %d, %v", status, err)
					}
					p.Shutdown()
				})
				if n := f.door.handshaking(); n > slots+silentFactor*slots {
					t.Errorf("%d handshakes at once, want at most %d", n, slots+silentFactor*slots)
				}
				if lines := f.log.lines(); len(lines) != 1 || !strings.Contains(lines[0], "closed to let others in") {
					t.Errorf("logged %q, want one line", lines)
				}
				f.stop(t)
				proxytest.Eventually(t, "the link is gone", func() bool { return f.Open() == 0 })
			})
		})
	}
}

// clientHello is what a TLS client says first.
func clientHello(t *testing.T) []byte {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	go tls.Client(b, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}).Handshake()
	p := make([]byte, 16<<10)
	n, err := a.Read(p)
	if err != nil {
		t.Fatal(err)
	}
	return p[:n]
}

// A Server that is told to stop ends the handshakes that are under way.
func TestStopDuringHandshakes(t *testing.T) {
	ids := tlstest.Identities(t)
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		id := ids("api")
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		log := &records{}
		srv := New(Config{Listener: ln, Runtime: rt, TLS: id.ServerConfig, Identity: id.Identity, Self: id.Self,
			HTTP2: http2.Config{Handler: &inbound{}}, Logger: slog.New(log), MaxHandshakes: 1})
		raw, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = srv.Run(ctx)
		}()
		proxytest.Eventually(t, "a handshake is under way", func() bool { return srv.door.handshaking() == 1 })
		cancel()
		proxytest.Wait(t, done)
		if lines := log.lines(); len(lines) > 0 {
			t.Errorf("logged %q, want nothing", lines)
		}
	})
}

// failing is a Listener for which descriptors run out for a while.
type failing struct {
	net.Listener
	left atomic.Int32
}

func (l *failing) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

func TestDescriptorsRunOut(t *testing.T) {
	ids := tlstest.Identities(t)
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		f := start(t, rt, ids("api"), func(c *Config) {
			ln := &failing{Listener: c.Listener}
			ln.left.Store(2)
			c.Listener = ln
		})
		p := newPool(s, ids("web"))
		proxytest.Do(t, s, func() {
			if status, err := call(s, p, f.ep, "/"); status != 204 || err != nil {
				t.Errorf("after the shortage: got %d, %v", status, err)
			}
			p.Shutdown()
		})
		if lines := f.log.lines(); len(lines) != 1 || !strings.Contains(lines[0], "too many open files") {
			t.Errorf("logged %q, want the shortage once", lines)
		}
		f.stop(t)
		proxytest.Eventually(t, "the link is gone", func() bool { return f.Open() == 0 })
	})
}
