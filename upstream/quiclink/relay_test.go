package quiclink

import (
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
)

// tlsOf is a Config.TLS that is always cfg.
func tlsOf(cfg *tls.Config) func(proxy.Identity) *tls.Config {
	return func(proxy.Identity) *tls.Config { return cfg.Clone() }
}

// udpRelay stands between clients and a server, as a NAT does, and loses what it is told to.
type udpRelay struct {
	t       *testing.T
	server  netip.AddrPort
	addr    netip.AddrPort
	conn    *net.UDPConn
	block   atomic.Bool // nothing passes
	blockUp atomic.Bool // nothing passes to the server
	running sync.WaitGroup

	mu      sync.Mutex
	clients map[netip.AddrPort]*relayed
	first   *relayed
}

type relayed struct {
	from    netip.AddrPort
	conn    atomic.Pointer[net.UDPConn]
	blocked atomic.Bool
}

func newRelay(t *testing.T, server netip.AddrPort) *udpRelay {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	r := &udpRelay{t: t, server: server, conn: conn, addr: conn.LocalAddr().(*net.UDPAddr).AddrPort(), clients: make(map[netip.AddrPort]*relayed)}
	r.running.Go(r.up)
	t.Cleanup(r.close)
	return r
}

// up passes on what clients send.
func (r *udpRelay) up() {
	buf := make([]byte, 65536)
	for {
		n, from, err := r.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		c := r.client(from)
		if c != nil && !r.block.Load() && !r.blockUp.Load() && !c.blocked.Load() {
			_, _ = c.conn.Load().Write(buf[:n])
		}
	}
}

func (r *udpRelay) client(from netip.AddrPort) *relayed {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.clients[from]; c != nil {
		return c
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(r.server))
	if err != nil {
		return nil
	}
	c := &relayed{from: from}
	c.conn.Store(conn)
	if r.clients[from] = c; r.first == nil {
		r.first = c
	}
	r.running.Go(func() { r.down(conn, c, from) })
	return c
}

// down passes on what the server sends to one client.
func (r *udpRelay) down(conn *net.UDPConn, c *relayed, to netip.AddrPort) {
	buf := make([]byte, 65536)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		if !r.block.Load() && !c.blocked.Load() {
			_, _ = r.conn.WriteToUDPAddrPort(buf[:n], to)
		}
	}
}

// blockFirst loses what the client that came first sends and gets, but nothing of others.
func (r *udpRelay) blockFirst() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.first.blocked.Store(true)
}

// rebind gives the client that came first another port towards the server, as a NAT does that has forgotten it.
func (r *udpRelay) rebind() {
	r.mu.Lock()
	c := r.first
	r.mu.Unlock()
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(r.server))
	if err != nil {
		r.t.Error(err)
		return
	}
	old := c.conn.Swap(conn)
	r.running.Go(func() { r.down(conn, c, c.from) })
	old.Close()
}

func (r *udpRelay) close() {
	r.conn.Close()
	r.mu.Lock()
	for _, c := range r.clients {
		c.conn.Load().Close()
	}
	r.mu.Unlock()
	r.running.Wait()
}
