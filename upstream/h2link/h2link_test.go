package h2link

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/http2"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/proxy/task/tlsconn"
	"github.com/pillion-proxy/pillion/tls/mtls"
	"github.com/pillion-proxy/pillion/tls/tlstest"
	"github.com/pillion-proxy/pillion/upstream/pool"
)

// peer accepts TLS connections and hands each to serve, until stop.
type peer struct {
	addr    netip.AddrPort
	ln      net.Listener
	running sync.WaitGroup
	accepts atomic.Int32
}

func startPeer(t *testing.T, cfg *tls.Config, serve func(h *tlsconn.Handshaked)) *peer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{ln: ln, addr: netip.MustParseAddrPort(ln.Addr().String())}
	p.running.Go(func() {
		for {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			p.accepts.Add(1)
			p.running.Go(func() {
				if h, err := tlsconn.Server(t.Context(), raw, cfg); err == nil {
					serve(h)
				}
			})
		}
	})
	return p
}

func (p *peer) stop() {
	p.ln.Close()
	p.running.Wait()
}

func (p *peer) endpoint(name string) *proxy.Endpoint {
	return &proxy.Endpoint{Addr: p.addr, Identity: proxy.NewIdentity("example.org", name), Mesh: true}
}

// h2peer is a peer that speaks HTTP/2 on shard s and answers 204.
type h2peer struct {
	*peer
	mu    sync.Mutex
	conns []*http2.Conn
	s     task.Shard
	seen  atomic.Value // the last request's fields
	quiet bool         // do not keep them
}

func startH2(t *testing.T, s task.Shard, cfg *tls.Config) *h2peer {
	p := &h2peer{s: s}
	h2 := http2.Config{Pillion: true, Handler: proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
		if !p.quiet {
			p.seen.Store(fmt.Sprint(req.Fields))
		}
		resp.Status = 204
		return nil
	})}
	p.peer = startPeer(t, cfg, func(h *tlsconn.Handshaked) {
		_ = task.Call(t.Context(), s, func() {
			c, err := h.Attach(s)
			if err != nil {
				t.Error(err)
				return
			}
			conn := http2.NewServer(s, c, h2)
			p.mu.Lock()
			p.conns = append(p.conns, conn)
			p.mu.Unlock()
			s.Go(func() { _ = conn.Serve(nil) })
		})
	})
	return p
}

// goAway ends each connection that there is now, in order.
func (p *h2peer) goAway() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		p.s.Post(c.Shutdown)
	}
	n := len(p.conns)
	p.conns = nil
	return n
}

func newPool(s task.Shard, id *mtls.Source, c Config) *pool.Pool {
	c.TLS, c.Explain, c.HTTP2.Pillion = id.ClientConfig, id.Explain, true
	return pool.New(pool.Config{Shard: s, Dial: Dialer(c)})
}

func request(s task.Shard) *proxy.Request {
	return &proxy.Request{Method: "GET", Scheme: "http", Authority: "api", Path: "/", Version: proxy.HTTP11,
		Service: proxy.Service{Name: "api", Port: 80}, Shard: s, Cancel: new(proxy.Cancel)}
}

// once carries out one request in a task.
func once(t *testing.T, s task.Shard, p *pool.Pool, ep *proxy.Endpoint) (status int, err error) {
	t.Helper()
	proxytest.Do(t, s, func() {
		var resp proxy.Response
		if err = p.RoundTrip(ep, request(s), &resp); err == nil {
			status = resp.Status
			resp.Close()
		}
	})
	return status, err
}

func shutdown(t *testing.T, s task.Shard, p *pool.Pool) { proxytest.Do(t, s, p.Shutdown) }

func TestExchangeAndIdleEnd(t *testing.T) {
	ids := tlstest.Identities(t)
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		peer := startH2(t, rt.Shards()[1], ids("api").ServerConfig())
		defer peer.stop()
		p := newPool(s, ids("web"), Config{})
		for range 10 {
			if status, err := once(t, s, p, peer.endpoint("api")); status != 204 || err != nil {
				t.Fatalf("got %d, %v", status, err)
			}
		}
		if n := peer.accepts.Load(); n != 1 {
			t.Errorf("%d links for 10 requests, want 1", n)
		}
		if got := fmt.Sprint(peer.seen.Load()); !strings.Contains(got, "Pillion-To api:80") {
			t.Errorf("the peer saw %s, want it told the service", got)
		}
		shutdown(t, s, p)
		proxytest.Eventually(t, "the link ends with its pool", func() bool { return rt.Stats().Conns == 0 })
		p = newPool(s, ids("web"), Config{HTTP2: http2.Config{IdleTimeout: 50 * time.Millisecond}})
		for range 2 { // the second time on another link
			if status, err := once(t, s, p, peer.endpoint("api")); status != 204 || err != nil {
				t.Errorf("with a bound to idling: got %d, %v", status, err)
			}
			proxytest.Eventually(t, "the idle link ends", func() bool { return rt.Stats().Conns == 0 })
		}
		shutdown(t, s, p)
	})
}

func TestAppCannotSayWhereTo(t *testing.T) {
	ids := tlstest.Identities(t)
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		peer := startH2(t, rt.Shards()[1], ids("api").ServerConfig())
		defer peer.stop()
		p := newPool(s, ids("web"), Config{})
		proxytest.Do(t, s, func() {
			req := request(s)
			req.Fields = proxy.Fields{{Name: "pillion-to", Value: "api:9999"}, {Name: "A", Value: "b"}}
			var resp proxy.Response
			if err := p.RoundTrip(peer.endpoint("api"), req, &resp); err != nil {
				t.Error(err)
				return
			}
			resp.Close()
			if len(req.Fields) != 1 || req.Authority != "api" {
				t.Errorf("the request is left with %v and %q", req.Fields, req.Authority)
			}
		})
		if got, want := peer.seen.Load(), "[{A b} {Pillion-To api:80}]"; got != want {
			t.Errorf("the peer saw %v, want %v", got, want)
		}
		shutdown(t, s, p)
	})
}

func TestFailures(t *testing.T) {
	ids := tlstest.Identities(t)
	api, web, strangers := ids("api"), ids("web"), tlstest.Identities(t)("web")
	noALPN := api.ServerConfig()
	noALPN.NextProtos = nil
	held := make(chan *tlsconn.Handshaked, 8)
	closes := func(h *tlsconn.Handshaked) { h.Close() }
	hangs := func(h *tlsconn.Handshaked) { held <- h }
	for _, c := range []struct {
		what   string
		server *tls.Config
		serve  func(*tlsconn.Handshaked)
		client *mtls.Source
		expect string
		code   proxy.Code
		text   string
		within time.Duration // 0: the default
	}{
		{"closes after the handshake", api.ServerConfig(), closes, web, "api", proxy.ConnectFailed, "", 0},
		{"never sends SETTINGS", api.ServerConfig(), hangs, web, "api", proxy.ConnectFailed, "", 200 * time.Millisecond},
		{"is somebody else", api.ServerConfig(), closes, web, "billing", proxy.BadIdentity, "example.org/api", 0},
		{"does not trust us", api.ServerConfig(), closes, strangers, "api", proxy.BadIdentity, "", 0},
		{"speaks no HTTP/2", noALPN, closes, web, "api", proxy.ConnectFailed, "ALPN", 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			peer := startPeer(t, c.server, c.serve)
			proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
				s := rt.Shards()[0]
				p := newPool(s, c.client, Config{DialTimeout: c.within})
				_, err := once(t, s, p, peer.endpoint(c.expect))
				var e *proxy.Error
				if !errors.As(err, &e) || e.Code != c.code || !e.Unsent || !strings.Contains(err.Error(), c.text) {
					t.Errorf("got %v, want %s, unsent, that names %q", err, c.code, c.text)
				}
			})
			peer.stop()
		})
	}
	for len(held) > 0 {
		(<-held).Close()
	}
}

func TestNobodyListens(t *testing.T) {
	ids := tlstest.Identities(t)
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		peer := startPeer(t, ids("api").ServerConfig(), func(*tlsconn.Handshaked) {})
		peer.stop()
		_, err := once(t, s, newPool(s, ids("web"), Config{}), peer.endpoint("api"))
		var e *proxy.Error
		if !errors.As(err, &e) || e.Code != proxy.ConnectFailed || !e.Unsent {
			t.Errorf("got %v, want connect_failed, unsent", err)
		}
	})
}

// A peer that says GOAWAY again and again, as in a rolling restart, costs no request.
func TestGoAwayUnderLoad(t *testing.T) {
	ids := tlstest.Identities(t)
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		peer := startH2(t, rt.Shards()[1], ids("api").ServerConfig())
		defer peer.stop()
		p := newPool(s, ids("web"), Config{})
		var answered, failed atomic.Int32
		var stop atomic.Bool
		var done []<-chan struct{}
		for range 8 {
			done = append(done, proxytest.Go(s, func() {
				for !stop.Load() {
					var resp proxy.Response
					if err := p.RoundTrip(peer.endpoint("api"), request(s), &resp); err != nil {
						failed.Add(1)
						t.Error(err)
						return
					}
					answered.Add(1)
					resp.Close()
				}
			}))
		}
		told := 0
		for told < 10 && failed.Load() == 0 {
			before := answered.Load() // more than were on their way: a new link works
			proxytest.Eventually(t, "exchanges go on", func() bool { return answered.Load() >= before+20 || failed.Load() > 0 })
			told += peer.goAway()
		}
		stop.Store(true)
		for _, c := range done {
			proxytest.Wait(t, c)
		}
		if told < 5 || answered.Load() < 100 || failed.Load() > 0 {
			t.Errorf("%d GOAWAYs, %d answers, %d failures; want many, many and none", told, answered.Load(), failed.Load())
		}
		shutdown(t, s, p)
	})
}

// A peer that cuts its connections costs those requests that ran, and no other.
func TestPeerThatResets(t *testing.T) {
	ids := tlstest.Identities(t)
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		peer := startH2(t, rt.Shards()[1], ids("api").ServerConfig())
		defer peer.stop()
		p := newPool(s, ids("web"), Config{})
		for range 5 {
			if status, err := once(t, s, p, peer.endpoint("api")); status != 204 || err != nil {
				t.Fatalf("got %d, %v", status, err)
			}
			peer.mu.Lock()
			for _, c := range peer.conns {
				peer.s.Post(func() { _ = c.Transport().Reset() })
			}
			peer.conns = nil
			peer.mu.Unlock()
			proxytest.Eventually(t, "the link is given up", func() bool { return rt.Stats().Conns == 0 })
		}
	})
}

// An Exchange allocates nothing of ours at either end of a Link.
func TestExchangeAllocatesNothing(t *testing.T) {
	ids := tlstest.Identities(t)
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		peer := startH2(t, s, ids("api").ServerConfig())
		peer.quiet = true
		defer peer.stop()
		p := newPool(s, ids("web"), Config{})
		proxytest.Do(t, s, func() {
			req, resp, ep := request(s), new(proxy.Response), peer.endpoint("api")
			one := func() {
				if err := p.RoundTrip(ep, req, resp); err != nil {
					t.Error(err)
					return
				}
				resp.Close()
			}
			for range 50 {
				one()
			}
			most := 4.0 // two are crypto/tls's, one for each record that is read; the race detector adds up to two
			if strings.HasSuffix(t.Name(), "goroutines") {
				most = 14 // ten: goroutines and posted callbacks; the race detector adds up to four
			}
			if n := proxytest.Allocs(200, one); n > most {
				t.Errorf("%v allocations, want at most %v", n, most)
			}
		})
		shutdown(t, s, p)
	})
}

// The end of the program does not wait for a peer that accepts and says nothing.
func TestStopEndsHandshake(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		s := rt.Shards()[0]
		ep := &proxy.Endpoint{Addr: netip.MustParseAddrPort(ln.Addr().String()), Identity: "spiffe://example.org/a", Mesh: true}
		dial := Dialer(Config{TLS: tlstest.Identities(t)("web").ClientConfig, DialTimeout: time.Hour})
		proxytest.Go(s, func() { _, _ = dial(s, ep, func(pool.Link) {}, func(pool.Link) {}) })
		c, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := c.Read(make([]byte, 1)); err != nil { // the handshake has begun; Runtimes looks for what is left of it
			t.Fatal(err)
		}
	})
}
