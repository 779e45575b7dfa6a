package peer

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"

	"github.com/quic-go/quic-go"

	"github.com/pillion-proxy/pillion/proxy/http3"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/tls/tlstest"
)

// RFC 9000 section 10.3: "A stateless reset is provided as an option of last resort for an endpoint that does not have access to the state of a connection." A peer
// that was killed, and started again with the same key, says to its Links that they are gone; with another key it could not.
func TestStatelessReset(t *testing.T) {
	ids := tlstest.Identities(t)
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		key := [32]byte{1, 2, 3}
		before := startQUIC(t, rt, ids("api"), func(c *Config) { c.QUIC.Key = key })
		cfg := ids("web").ClientConfig(before.ep.Identity)
		cfg.NextProtos = []string{http3.ALPN}
		conn, err := quic.DialAddr(t.Context(), before.ep.Addr.String(), cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		proxytest.Eventually(t, "the server has the link", func() bool { return before.Open() == 1 })
		before.quic.cfg.Conn.Close() // nothing can be said any more
		d, p := before.links(s, ids("web"))
		before.end(t, s, d, p)

		again, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(before.ep.Addr))
		if err != nil {
			t.Fatal(err)
		}
		after := startQUIC(t, rt, ids("api"), func(c *Config) {
			c.QUIC.Conn.Close()
			c.QUIC.Conn, c.QUIC.Key = again, key
		})
		st, err := conn.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		<-conn.Context().Done() // for want of a reset it is silence that ends it
		var reset *quic.StatelessResetError
		if err := context.Cause(conn.Context()); !errors.As(err, &reset) {
			t.Errorf("the link ended with %v, want a stateless reset", err)
		}
		d, p = after.links(s, ids("web"))
		after.end(t, s, d, p)
	})
}

// retries is a socket that counts the Retry packets that come.
type retries struct {
	net.PacketConn
	n atomic.Int32
}

func (r *retries) ReadFrom(p []byte) (int, net.Addr, error) {
	n, from, err := r.PacketConn.ReadFrom(p)
	if n > 0 && p[0]&0xf0 == 0xf0 { // RFC 9000 section 17.2.5
		r.n.Add(1)
	}
	return n, from, err
}

// RFC 9000 section 8.1.2: an address that is doubted gets a token with a Retry, and is believed with it.
func TestAddressesAreProven(t *testing.T) {
	ids := tlstest.Identities(t)
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		q := startQUIC(t, rt, ids("api"), nil)
		cfg := ids("web").ClientConfig(q.ep.Identity)
		cfg.NextProtos = []string{http3.ALPN}
		for _, busy := range []int32{0, int32(q.cfg.MaxHandshakes / 4)} {
			udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			seen := &retries{PacketConn: udp}
			tr := &quic.Transport{Conn: seen}
			q.quic.shaking.Add(busy)
			conn, err := tr.Dial(t.Context(), net.UDPAddrFromAddrPort(q.ep.Addr), cfg, nil)
			if err != nil {
				t.Fatalf("with %d handshakes under way: %v", busy, err)
			}
			proxytest.Eventually(t, "the link is there", func() bool { return q.Open() == 1 })
			q.quic.shaking.Add(-busy)
			if n := seen.n.Load(); (n > 0) != (busy > 0) {
				t.Errorf("with %d handshakes under way: %d Retry packets", busy, n)
			}
			conn.CloseWithError(0, "")
			proxytest.Eventually(t, "the link is gone", func() bool { return q.Open() == 0 })
			tr.Close()
			udp.Close()
		}
		d, p := q.links(s, ids("web"))
		q.end(t, s, d, p)
	})
}
