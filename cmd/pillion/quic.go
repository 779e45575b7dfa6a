package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/listeners/peer"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/answer"
	"github.com/pillion-proxy/pillion/proxy/http3"
	"github.com/pillion-proxy/pillion/proxy/relay"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/tls/mtls"
	"github.com/pillion-proxy/pillion/upstream/auto"
	"github.com/pillion-proxy/pillion/upstream/quiclink"
)

// goroutines is the runtime on which QUIC lives: its shards come after those of the loops. The zero value has none.
type goroutines struct{ task.Runtime }

// newGoroutines returns none where nothing is to use QUIC, and the only runtime again where that is one of goroutines already.
func newGoroutines(rt task.Runtime, cfg *config.Config, log *slog.Logger) goroutines {
	if !usesQUIC(cfg) {
		return goroutines{}
	}
	n := len(rt.Shards())
	return goroutines{task.NewGoroutines(task.Config{Loops: n, First: n, Logger: log})}
}

// usesQUIC reports whether a Link over QUIC may be made or accepted, or the app speaks HTTP/3.
func usesQUIC(cfg *config.Config) bool {
	return acceptsQUIC(cfg) || appsSpeakHTTP3(cfg) || slices.ContainsFunc(cfg.Services, func(s config.Service) bool { return s.Mesh && s.Transport != config.OverTCP })
}

func acceptsQUIC(cfg *config.Config) bool {
	return cfg.Peer.Listen.On && cfg.Peer.Transport != config.OverTCP
}

// shards are those of the loops, and then those of the goroutines: Shard.Index is the place here.
type shards []task.Shard

func newShards(rt task.Runtime, g goroutines) shards {
	all := slices.Clone(rt.Shards())
	if g.Runtime != nil {
		all = append(all, g.Shards()...)
	}
	return all
}

// far is the shard of goroutines beside a loop's.
func (g goroutines) far(near task.Shard) task.Shard { return g.Shards()[near.Index()%len(g.Shards())] }

// newQUIC returns what makes Links over QUIC, nil where there are none.
func newQUIC(g goroutines, id *mtls.Source, u *udp, m *auto.Memory, now *present, cfg *config.Config, log *slog.Logger) *quiclink.Dialer {
	if g.Runtime == nil {
		return nil
	}
	return quiclink.New(quiclink.Config{
		TLS: id.ClientConfig, Explain: id.Explain, Far: g.far, Socket: u.open, Logger: log,
		HTTP3:     http3.Config{Pillion: true, MaxStreams: maxLinkStreams, MaxHead: int(cfg.Limits.Head), Logger: log},
		Idle:      now.linkIdle,
		Suspect:   func(ep *proxy.Endpoint, why error) { m.Broken(ep.Addr, proxy.QUIC, why) },
		EarlyData: cfg.Peer.EarlyData, Trace: trace(cfg, log),
	})
}

func trace(cfg *config.Config, log *slog.Logger) http3.Tracer {
	if cfg.Peer.QLog == "" {
		return nil
	}
	return http3.QLog(cfg.Peer.QLog, log)
}

// acceptQUIC is how Links over QUIC are accepted, nil where they are not.
func acceptQUIC(g goroutines, socks *sockets, u *udp, id *mtls.Source, stack inboundStack, f *flows, cfg *config.Config, log *slog.Logger) (*peer.QUIC, error) {
	if socks.udp == nil {
		return nil, nil
	}
	key, err := id.Derive("pillion QUIC")
	if err != nil {
		return nil, err
	}
	u.tune(socks.udp)
	return &peer.QUIC{
		Conn: socks.udp, Shards: g.Shards(), Key: key, MaxLinks: cfg.Limits.Connections,
		EarlyData: cfg.Peer.EarlyData, Trace: trace(cfg, log),
		HTTP3: http3.Config{
			Handler: stack, Tunnel: relay.Copy, Flows: f.relay, Answer: answer.Fill, Pillion: true,
			MaxStreams: maxLinkStreams, MaxHead: int(cfg.Limits.Head), Logger: log,
		},
	}, nil
}

// udp makes the sockets of QUIC.
type udp struct {
	log  *slog.Logger
	warn sync.Once
}

func newUDP(log *slog.Logger) *udp { return &udp{log: log} }

// open makes a socket with a port of its own.
func (u *udp) open() (*net.UDPConn, error) {
	c, err := net.ListenUDP("udp", nil)
	if err == nil {
		u.tune(c)
	}
	return c, err
}

// udpBuffer is the size in bytes that QUIC wants the buffers of a socket to have, so that a burst is not lost while another process runs.
const udpBuffer = 7 << 20

// tune makes c's buffers as large as QUIC wants them, and says once if the kernel does not let it.
func (u *udp) tune(c *net.UDPConn) { u.judge(setBuffers(c, udpBuffer)) }

// judge warns of buffers, in bytes, that are smaller than what was asked for.
func (u *udp) judge(receive, send int) {
	if receive >= udpBuffer && send >= udpBuffer {
		return
	}
	u.warn.Do(func() {
		u.log.Warn("the kernel clips the buffers of UDP sockets, so that QUIC links lose packets under load; as root: "+
			fmt.Sprintf("sysctl -w net.core.rmem_max=%d net.core.wmem_max=%d", udpBuffer, udpBuffer),
			"receive", receive, "send", send, "wanted", udpBuffer)
	})
}

// listenUDP binds the port that tcp has already.
func listenUDP(tcp net.Listener) (*net.UDPConn, error) {
	a := tcp.Addr().(*net.TCPAddr)
	ap := a.AddrPort()
	if a.IP.IsUnspecified() {
		return net.ListenUDP("udp", &net.UDPAddr{Port: a.Port})
	}
	return net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())))
}
