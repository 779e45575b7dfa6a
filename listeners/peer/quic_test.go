package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/http3"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/tls/mtls"
	"github.com/pillion-proxy/pillion/tls/tlstest"
	"github.com/pillion-proxy/pillion/upstream/pool"
	"github.com/pillion-proxy/pillion/upstream/quiclink"
)

// quicFixture is a fixture that accepts Links over QUIC too, on shards of goroutines.
type quicFixture struct {
	*fixture
	far    task.Runtime
	finish func() // ends far
}

// startQUIC runs a Server with QUIC until the test ends; change may alter its configuration.
func startQUIC(t *testing.T, rt task.Runtime, id *mtls.Source, change func(*Config)) *quicFixture {
	t.Helper()
	far := task.NewGoroutines(task.Config{Loops: 2, First: 2, Logger: proxytest.Logger(t)})
	stop := proxytest.Start(t, far)
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	q := &quicFixture{far: far, finish: stop}
	q.fixture = start(t, rt, id, func(c *Config) {
		c.QUIC = &QUIC{Conn: conn, Shards: far.Shards(), HTTP3: http3.Config{Handler: c.HTTP2.Handler, Pillion: true}}
		if change != nil {
			change(c)
		}
	})
	q.ep = &proxy.Endpoint{Addr: conn.LocalAddr().(*net.UDPAddr).AddrPort(), Identity: id.Self(), Mesh: true}
	t.Cleanup(func() {
		q.Drain()
		q.Close()
		stop()
	})
	return q
}

// links returns a Dialer and a pool over it.
func (q *quicFixture) links(s task.Shard, id *mtls.Source) (*quiclink.Dialer, *pool.Pool) {
	d := quiclink.New(quiclink.Config{
		TLS: id.ClientConfig, Explain: id.Explain, HTTP3: http3.Config{Pillion: true},
		Far:    func(task.Shard) task.Shard { return q.far.Shards()[0] },
		Socket: func() (*net.UDPConn, error) { return net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}) },
	})
	return d, pool.New(pool.Config{Shard: s, Dial: d.Dial})
}

// end ends everything of a subtest, so that nothing is left over when its runtime stops.
func (q *quicFixture) end(t *testing.T, s task.Shard, d *quiclink.Dialer, p *pool.Pool) {
	t.Helper()
	proxytest.Do(t, s, p.Shutdown)
	proxytest.Eventually(t, "the links are gone", func() bool { return q.Open() == 0 })
	d.Close()
	q.stop(t)
	q.Close()
	proxytest.Eventually(t, "the far tasks have ended", func() bool { return q.far.Stats().Tasks == 0 })
	q.finish()
}

func TestCallerOverQUICIsKnown(t *testing.T) {
	ids := tlstest.Identities(t)
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		q := startQUIC(t, rt, ids("api"), nil)
		d, p := q.links(s, ids("web"))
		proxytest.Do(t, s, func() {
			if status, err := call(s, p, q.ep, "/"); status != 204 || err != nil {
				t.Errorf("got %d, %v", status, err)
			}
		})
		if got, want := q.in.caller.Load(), "spiffe://example.org/web from 127.0.0.1"; got != want {
			t.Errorf("the caller is %q, want %q", got, want)
		}
		links := q.Links(t.Context())
		if q.Open() != 1 || len(links) != 1 || links[0].Peer.Identity != "spiffe://example.org/web" || links[0].QUIC == nil || links[0].QUIC.Opened != 1 {
			t.Errorf("%d links are open, described as %+v", q.Open(), links)
		}
		q.end(t, s, d, p)
		if lines := q.log.lines(); len(lines) > 0 {
			t.Errorf("logged %q, want nothing", lines)
		}
	})
}

// What runs ends in order, what comes later is refused.
func TestDrainOverQUIC(t *testing.T) {
	ids := tlstest.Identities(t)
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		q := startQUIC(t, rt, ids("api"), nil)
		d, p := q.links(s, ids("web"))
		running := proxytest.Go(s, func() {
			if status, err := call(s, p, q.ep, "/slow"); status != 204 || err != nil {
				t.Errorf("the running request: %d, %v", status, err)
			}
		})
		proxytest.Eventually(t, "the request runs", func() bool { return q.in.slow.Load() == 1 })
		q.stop(t)
		cfg := ids("web").ClientConfig(q.ep.Identity)
		cfg.NextProtos = []string{http3.ALPN}
		var refused *quic.TransportError
		if _, err := quic.DialAddr(t.Context(), q.ep.Addr.String(), cfg, nil); !errors.As(err, &refused) || refused.ErrorCode != quic.ConnectionRefused {
			t.Errorf("a new link: %v, want it to be refused", err)
		}
		q.in.release.Store(true)
		proxytest.Wait(t, running)
		q.end(t, s, d, p)
	})
}

func TestRefusedPeersOverQUIC(t *testing.T) {
	ids := tlstest.Identities(t)
	api, web, stranger := ids("api"), ids("web"), tlstest.Identities(t)("web")
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		q := startQUIC(t, rt, api, nil)
		for _, c := range []struct {
			what   string
			change func(*tls.Config)
			id     *mtls.Source
			logged string
		}{
			{"another authority", func(c *tls.Config) { c.VerifyConnection = nil }, stranger, "none of our roots"},
			{"no certificate", func(c *tls.Config) { c.Certificates, c.GetClientCertificate = nil, nil }, web, "no certificate"},
			{"another protocol", func(c *tls.Config) { c.NextProtos = []string{"doq"} }, web, "application protocol"},
		} {
			before := len(q.log.lines())
			cfg := c.id.ClientConfig(q.ep.Identity)
			cfg.NextProtos = []string{http3.ALPN}
			c.change(cfg)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			conn, err := quic.DialAddr(ctx, q.ep.Addr.String(), cfg, nil)
			if err == nil {
				<-conn.Context().Done() // the refusal comes after the client's handshake
			}
			cancel()
			proxytest.Eventually(t, c.what+" is refused", func() bool { return len(q.log.lines()) > before })
			if lines := q.log.lines()[before:]; len(lines) != 1 || !strings.Contains(lines[0], c.logged) || !strings.HasPrefix(lines[0], "peer refused from=127.0.0.1") {
				t.Errorf("%s: logged %q, want one line with %q", c.what, lines, c.logged)
			}
		}
		d, p := q.links(s, web)
		q.end(t, s, d, p)
	})
}

// TestStrayPackets: what is no QUIC is no connection, and nothing to talk about.
func TestStrayPackets(t *testing.T) {
	ids := tlstest.Identities(t)
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		q := startQUIC(t, rt, ids("api"), nil)
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(q.ep.Addr))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, packet := range []string{"", "\x00", "GET / HTTP/1.1\r\n\r\n", "\xc0\x00\x00\x00\x01" + strings.Repeat("x", 1300), strings.Repeat("\xff", 1400)} {
			if _, err := c.Write([]byte(packet)); err != nil {
				t.Fatal(err)
			}
		}
		d, p := q.links(s, ids("web"))
		proxytest.Do(t, s, func() {
			if status, err := call(s, p, q.ep, "/"); status != 204 || err != nil {
				t.Errorf("got %d, %v", status, err)
			}
		})
		q.end(t, s, d, p)
		if lines := q.log.lines(); len(lines) > 0 {
			t.Errorf("logged %q, want nothing", lines)
		}
	})
}

// Links beyond the bound are refused, at the price of one packet; when one ends there is room again.
func TestLinksOverQUICAreBounded(t *testing.T) {
	ids := tlstest.Identities(t)
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		q := startQUIC(t, rt, ids("api"), func(c *Config) { c.QUIC.MaxLinks = 1 })
		first, p := q.links(s, ids("web"))
		second, p2 := q.links(s, ids("web"))
		proxytest.Do(t, s, func() {
			if status, err := call(s, p, q.ep, "/"); status != 204 || err != nil {
				t.Errorf("got %d, %v", status, err)
			}
			if _, err := call(s, p2, q.ep, "/"); err == nil || !strings.Contains(err.Error(), "CONNECTION_REFUSED") {
				t.Errorf("the second link: %v, want that it is refused", err)
			}
			p.Shutdown()
		})
		proxytest.Eventually(t, "there is room again", func() bool { return q.quic.open.Load() == 0 })
		first.Close()
		q.end(t, s, second, p2)
	})
}

// While many handshakes are under way an address has to prove itself; those that are silent do not stay for ever.
func TestAddressesAreDoubted(t *testing.T) {
	ids := tlstest.Identities(t)
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		q := startQUIC(t, rt, ids("api"), nil)
		if q.quic.doubted(net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:1"))) {
			t.Error("an address is doubted although nothing is under way")
		}
		q.quic.shaking.Add(1000)
		if !q.quic.doubted(nil) {
			t.Error("no address is doubted although very many handshakes are under way")
		}
		if _, err := q.quic.admit(t.Context(), &quic.ClientInfo{}); err == nil {
			t.Error("another handshake was admitted")
		}
		q.quic.shaking.Add(-1000)
		d, p := q.links(s, ids("web"))
		q.end(t, s, d, p)
	})
}
