// Package peer accepts the Links of other sidecars: TLS 1.3 with both sides authenticated, handshakes on ordinary
// goroutines and bounded in number, then one HTTP/2 connection per Link on a shard, or, over QUIC, one HTTP/3 connection on a shard of goroutines. Who the peer is, is known before its first request; what it
// may do is decided by proxy/inbound.
package peer

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/http2"
	"github.com/pillion-proxy/pillion/proxy/http3"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/proxy/task/tlsconn"
)

// Config says how Links are accepted.
type Config struct {
	// Listener is taken over.
	Listener net.Listener
	Runtime  task.Runtime
	// TLS gives the configuration for one handshake, without GetConfigForClient.
	TLS func() *tls.Config
	// Identity reads who the peer is from a finished handshake.
	Identity func(tls.ConnectionState) (proxy.Identity, error)
	// Explain makes a clearer error of one by which a peer refused our certificate. May be nil.
	Explain func(error) error
	// Self is this sidecar's own identity, as told to apps.
	Self func() proxy.Identity
	// HTTP2 is the template of each Link: handler, tunnel, limits. Prepare is set here.
	HTTP2  http2.Config
	Logger *slog.Logger
	// MaxHandshakes bounds the handshakes that a peer has begun; four times as many may wait for theirs to begin. Those that do not go on
	// make room for others. If zero, 256.
	MaxHandshakes int
	// HandshakeTimeout bounds one. If zero, 10 s.
	HandshakeTimeout time.Duration
	// QUIC, if not nil, accepts Links over QUIC too. MaxHandshakes and HandshakeTimeout hold for them as well.
	QUIC *QUIC
}

// Server accepts Links. Make it with New.
type Server struct {
	cfg   Config
	door  *door
	hands sync.WaitGroup
	quic  *quicServer // nil if there is none

	mu       sync.Mutex
	links    map[*link]struct{}
	draining bool
}

// link is one accepted Link.
type link struct {
	shard task.Shard
	conn  *http2.Conn // set on the shard before the link is listed; nil over QUIC
	h3    *http3.Conn // the same over QUIC
	peer  *proxy.Peer
	since time.Time
}

// New returns a Server that accepts nothing until Run.
func New(cfg Config) *Server {
	if cfg.MaxHandshakes == 0 {
		cfg.MaxHandshakes = 256
	}
	if cfg.HandshakeTimeout == 0 {
		cfg.HandshakeTimeout = 10 * time.Second
	}
	if cfg.Explain == nil {
		cfg.Explain = func(err error) error { return err }
	}
	p := &Server{cfg: cfg, door: newDoor(cfg.MaxHandshakes, cfg.Logger), links: make(map[*link]struct{})}
	if cfg.QUIC != nil {
		p.quic = newQUIC(p, *cfg.QUIC)
	}
	return p
}

// Run accepts until ctx ends or Drain is called, and returns when no handshake is under way. Links live on.
func (p *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer p.hands.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, p.stopAccepting)
	defer stop()
	if p.quic != nil {
		if err := p.quic.listen(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			p.stopAccepting()
		}
	}
	paused := false
	for {
		raw, err := p.cfg.Listener.Accept()
		if err == nil {
			paused = false
			h := p.door.knock(raw)
			p.hands.Go(func() { p.handshake(ctx, raw, h) })
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if !paused { // said once, not ten times a second
			p.cfg.Logger.Warn("accepting peers paused", "err", err)
		}
		paused = true
		select { // out of descriptors, most likely: let some close
		case <-time.After(acceptPause):
		case <-ctx.Done():
			return nil
		}
	}
}

// stopAccepting closes the listeners. The socket of QUIC goes on: Links live on it.
func (p *Server) stopAccepting() {
	p.cfg.Listener.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.quic != nil {
		p.quic.refuse()
	}
}

func (p *Server) isDraining() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.draining
}

const acceptPause = 100 * time.Millisecond

// handshake makes a Link of raw, or logs one line that says why not.
func (p *Server) handshake(ctx context.Context, raw net.Conn, at *knocking) {
	from := raw.RemoteAddr()
	limited, cancel := context.WithTimeout(ctx, p.cfg.HandshakeTimeout)
	defer cancel()
	h, err := tlsconn.Server(limited, raw, p.door.watched(limited, p.cfg.TLS(), at))
	shed := p.door.leave(at)
	switch {
	case err == nil:
	case ctx.Err() != nil, shed: // this sidecar is stopping
		return
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET): // a port check opens and closes
		return
	default:
		p.cfg.Logger.Warn("peer refused", "from", from, "why", p.cfg.Explain(err))
		return
	}
	state := h.State()
	id, err := p.cfg.Identity(state)
	if err == nil && len(state.PeerCertificates) == 0 {
		err = errors.New("it showed no certificate")
	}
	if err != nil {
		p.cfg.Logger.Warn("peer refused", "from", from, "why", err)
		h.Close()
		return
	}
	if alpn := state.NegotiatedProtocol; alpn != "h2" {
		p.cfg.Logger.Warn("peer refused", "from", from, "identity", id, "why", fmt.Sprintf("it offers no ALPN h2 (got %q)", alpn))
		h.Close()
		return
	}
	sum := sha256.Sum256(state.PeerCertificates[0].Raw)
	l := &link{peer: proxy.NewPeer(p.cfg.Self(), id, task.AddrPort(from), hex.EncodeToString(sum[:])), since: time.Now()}
	l.shard = p.cfg.Runtime.Pick()
	l.shard.Post(func() { p.attach(l, h) })
}

// attach is a callback on the link's shard.
func (p *Server) attach(l *link, h *tlsconn.Handshaked) {
	conn, err := h.Attach(l.shard)
	if err != nil {
		p.cfg.Logger.Warn("peer refused", "from", l.peer.Addr, "identity", l.peer.Identity, "why", err)
		return
	}
	cfg := p.cfg.HTTP2
	cfg.Prepare = func(req *proxy.Request) {
		req.Peer = l.peer
		req.Client = l.peer.Addr
	}
	l.conn = http2.NewServer(l.shard, conn, cfg)
	p.mu.Lock()
	p.links[l] = struct{}{}
	draining := p.draining
	p.mu.Unlock()
	if draining {
		l.conn.Shutdown()
	}
	l.shard.Go(func() { p.serve(l) })
}

func (p *Server) serve(l *link) {
	defer func() {
		p.mu.Lock()
		delete(p.links, l)
		p.mu.Unlock()
	}()
	p.cfg.Logger.Debug("link accepted", "from", l.peer.Addr, "identity", l.peer.Identity)
	err := l.run()
	p.cfg.Logger.Debug("link ended", "from", l.peer.Addr, "identity", l.peer.Identity, "err", err)
}

func (l *link) run() error {
	if l.h3 != nil {
		return l.h3.Serve()
	}
	return l.conn.Serve(nil)
}

// shutdown tells the peer to open no more streams.
func (l *link) shutdown() {
	if l.h3 != nil {
		l.shard.Post(l.h3.Shutdown)
		return
	}
	l.shard.Post(l.conn.Shutdown)
}

// Drain stops accepting and tells each peer to open no more streams; Links end with their last stream.
func (p *Server) Drain() {
	p.mu.Lock()
	p.draining = true
	for l := range p.links {
		l.shutdown()
	}
	p.mu.Unlock()
	p.stopAccepting()
}

// Close ends what is left of the Links over QUIC, and closes their socket. It is called last; where there is no QUIC it does nothing.
func (p *Server) Close() {
	if p.quic != nil {
		p.quic.close()
	}
}

// Open is the number of Links.
func (p *Server) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Link describes one Link, for status.
type Link struct {
	Peer  *proxy.Peer
	Since time.Time
	Stats http2.Stats
	Path  task.Path
	// QUIC is set instead of Stats for a Link over QUIC.
	QUIC *http3.Stats
}

// Links returns what is known of each Link now, asking each shard once.
func (p *Server) Links(ctx context.Context) []Link {
	p.mu.Lock()
	byShard := make(map[task.Shard][]*link)
	var all []Link
	for l := range p.links {
		if l.h3 != nil {
			st := l.h3.Stats()
			all = append(all, Link{Peer: l.peer, Since: l.since, QUIC: &st})
			continue
		}
		byShard[l.shard] = append(byShard[l.shard], l)
	}
	p.mu.Unlock()
	for shard, links := range byShard {
		stats := make([]Link, len(links))
		err := task.Call(ctx, shard, func() {
			for i, l := range links {
				stats[i] = Link{Peer: l.peer, Since: l.since, Stats: l.conn.Stats(), Path: task.PathOf(l.conn.Transport())}
			}
		})
		if err == nil {
			all = append(all, stats...)
		}
	}
	return all
}
