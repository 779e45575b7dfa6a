package peer

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/http3"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// QUIC says how Links over QUIC are accepted.
type QUIC struct {
	// Conn is taken over.
	Conn *net.UDPConn
	// Shards are of goroutines. Links are dealt to them.
	Shards []task.Shard
	// HTTP3 is the template of each Link: handler, tunnel, limits. Prepare is set here.
	HTTP3 http3.Config
	// PingIdle is the silence after which a PING is sent. If zero, 10 s.
	PingIdle time.Duration
	// DeadAfter is the silence, in spite of PINGs, after which the peer counts as dead. If zero, 20 s.
	DeadAfter time.Duration
	// MaxLinks bounds the Links over QUIC; more are refused. If zero, 10,000.
	MaxLinks int
	// Key is secret, and the same after a restart, so that peers learn at once that their Links are gone (RFC 9000 section 10.3), and that tokens
	// stay valid (section 8.1). If zero, a random one.
	Key [32]byte
	// EarlyData takes requests before the handshake is complete (0-RTT): only those that do no harm if they run twice. The app is told, by Early-Data: 1.
	EarlyData bool
	// Trace, if not nil, gives every connection a qlog.
	Trace http3.Tracer
}

// quicServer accepts Links over QUIC.
type quicServer struct {
	p    *Server
	cfg  QUIC
	tr   quic.Transport
	ln   *quic.EarlyListener // nil until Run; guarded by p.mu
	next atomic.Uint64       // shard

	shaking atomic.Int32 // handshakes under way
	open    atomic.Int32 // connections, those under way included

	refusing atomic.Bool // no new connections
}

func newQUIC(p *Server, cfg QUIC) *quicServer {
	if cfg.MaxLinks == 0 {
		cfg.MaxLinks = 10_000
	}
	if cfg.PingIdle == 0 {
		cfg.PingIdle = 10 * time.Second
	}
	if cfg.DeadAfter == 0 {
		cfg.DeadAfter = 20 * time.Second
	}
	q := &quicServer{p: p, cfg: cfg}
	q.tr.Conn = http3.Packets(cfg.Conn)
	q.tr.ConnContext = q.admit
	q.tr.VerifySourceAddress = q.doubted
	if cfg.Key != ([32]byte{}) {
		reset := quic.StatelessResetKey(sha256.Sum256(append(cfg.Key[:], "stateless reset"...)))
		token := quic.TokenGeneratorKey(sha256.Sum256(append(cfg.Key[:], "token"...)))
		q.tr.StatelessResetKey, q.tr.TokenGeneratorKey = &reset, &token
	}
	return q
}

// listen opens the door. Packets that came before have waited.
func (q *quicServer) listen() error {
	c := q.cfg.HTTP3.QUIC()
	c.HandshakeIdleTimeout = q.p.cfg.HandshakeTimeout
	c.MaxIdleTimeout, c.KeepAlivePeriod = q.cfg.DeadAfter, q.cfg.PingIdle
	c.InitialPacketSize = 1200 // every path takes that; see upstream/quiclink
	c.Allow0RTT = q.cfg.EarlyData
	c.Tracer = q.cfg.Trace
	ln, err := q.tr.ListenEarly(q.tls(), c)
	if err != nil {
		return fmt.Errorf("accept links over QUIC: %w", err)
	}
	q.p.mu.Lock()
	defer q.p.mu.Unlock()
	q.ln = ln
	if q.p.draining {
		q.refuse()
	}
	q.p.hands.Go(func() { q.run(ln) })
	return nil
}

func (q *quicServer) tls() *tls.Config {
	c := q.p.cfg.TLS()
	c.NextProtos = []string{http3.ALPN}
	c.SessionTicketsDisabled = !q.cfg.EarlyData
	return c
}

// hand is one handshake. It is known to whoever has the connection's context.
type hand struct {
	addr net.Addr
	done atomic.Bool // it is complete, or has been said to have failed
}

type handKey struct{}

var (
	errBusy  = errors.New("too many links")
	errEnded = errors.New("no more links are accepted")
)

// refuse closes the door, but goes on to say so to whoever comes: without a listener they would wait in vain. p.mu is held.
func (q *quicServer) refuse() {
	if q.ln == nil || q.refusing.Swap(true) {
		return
	}
	q.ln.Close()
	if _, err := q.tr.ListenEarly(q.tls(), q.cfg.HTTP3.QUIC()); err != nil {
		q.p.cfg.Logger.Debug("new links over QUIC wait in vain", "err", err)
	}
}

// admit is called by QUIC for each new connection, before anything of it is done. What it refuses costs one packet.
func (q *quicServer) admit(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	if q.refusing.Load() {
		return nil, errEnded
	}
	if int(q.shaking.Load()) >= q.p.cfg.MaxHandshakes || int(q.open.Load()) >= q.cfg.MaxLinks {
		return nil, errBusy
	}
	h := &hand{addr: info.RemoteAddr}
	q.shaking.Add(1)
	q.open.Add(1)
	context.AfterFunc(ctx, func() {
		q.open.Add(-1)
		if h.done.CompareAndSwap(false, true) {
			q.shaking.Add(-1)
			q.failed(h, context.Cause(ctx))
		}
	})
	return context.WithValue(ctx, handKey{}, h), nil
}

// doubted asks an address to prove itself, at the price of a round trip, while many handshakes are under way. RFC 9000 section 8.1.2.
func (q *quicServer) doubted(net.Addr) bool { return int(q.shaking.Load()) >= q.p.cfg.MaxHandshakes/4 }

// failed logs a handshake that did not complete, if that is of interest to an operator.
func (q *quicServer) failed(h *hand, cause error) {
	err := http3.HandshakeError(cause)
	switch {
	case cause == nil, q.p.isDraining(), err == http3.ErrSilence, errors.Is(err, context.Canceled): // a stray packet, or the end
	default:
		var app *quic.ApplicationError
		if errors.As(cause, &app) { // it went away by itself: another path was quicker
			return
		}
		q.p.cfg.Logger.Warn("peer refused", "from", h.addr, "why", q.p.cfg.Explain(err))
	}
}

// run accepts until the listener is closed. It is an ordinary goroutine.
func (q *quicServer) run(ln *quic.EarlyListener) {
	for {
		c, err := ln.Accept(context.Background())
		if err != nil {
			return
		}
		q.p.hands.Go(func() { q.handshake(c) })
	}
}

// handshake makes a Link of c, on an ordinary goroutine.
func (q *quicServer) handshake(c *quic.Conn) {
	h, _ := c.Context().Value(handKey{}).(*hand)
	early := q.cfg.EarlyData && c.ConnectionState().Used0RTT
	if !early {
		select {
		case <-c.HandshakeComplete():
		case <-c.Context().Done():
			return // admit's function logs it
		}
	}
	if !h.done.CompareAndSwap(false, true) {
		return
	}
	q.shaking.Add(-1)
	state := c.ConnectionState().TLS
	id, err := q.identity(state)
	if err != nil {
		q.p.cfg.Logger.Warn("peer refused", "from", c.RemoteAddr(), "why", err)
		c.CloseWithError(quic.ApplicationErrorCode(http3.ErrNo), "")
		return
	}
	sum := sha256.Sum256(state.PeerCertificates[0].Raw)
	from := udpAddrPort(c.RemoteAddr())
	l := &link{peer: proxy.NewPeer(q.p.cfg.Self(), id, from, hex.EncodeToString(sum[:])), since: time.Now()}
	l.shard = q.cfg.Shards[q.next.Add(1)%uint64(len(q.cfg.Shards))]
	q.attach(l, c)
}

// identity says who the peer is. Of early data it is who it was when it got its session, judged by the roots of today.
func (q *quicServer) identity(state tls.ConnectionState) (proxy.Identity, error) {
	if !state.HandshakeComplete {
		if err := q.p.cfg.TLS().VerifyConnection(state); err != nil {
			return "", err
		}
		state.HandshakeComplete = true
	}
	id, err := q.p.cfg.Identity(state)
	if err == nil && len(state.PeerCertificates) == 0 {
		err = errors.New("it showed no certificate")
	}
	return id, err
}

func (q *quicServer) attach(l *link, c *quic.Conn) {
	cfg := q.cfg.HTTP3
	cfg.Prepare = func(req *proxy.Request) {
		req.Peer = l.peer
		req.Client = l.peer.Addr
	}
	if q.cfg.EarlyData {
		cfg.Handler = &early{conn: c, next: cfg.Handler}
	}
	h3 := http3.NewServer(l.shard, c, cfg)
	l.h3 = h3
	q.p.mu.Lock()
	q.p.links[l] = struct{}{}
	draining := q.p.draining
	q.p.mu.Unlock()
	if draining {
		h3.Shutdown()
	}
	task.Start(l.shard, func() { q.p.serve(l) })
}

// close ends every Link over QUIC, and closes the socket.
func (q *quicServer) close() {
	q.p.mu.Lock()
	var all []*link
	for l := range q.p.links {
		if l.h3 != nil {
			all = append(all, l)
		}
	}
	q.p.mu.Unlock()
	for _, l := range all {
		l.h3.Close()
	}
	_ = q.tr.Close()
	_ = q.cfg.Conn.Close()
}

// early is a Link's handler while its handshake may still be under way.
type early struct {
	conn *quic.Conn
	next proxy.RoundTripper
}

const statusTooEarly = 425

// RoundTrip implements proxy.RoundTripper.
//
// RFC 8470 section 5.1: "An intermediary that forwards a request prior to the completion of the TLS handshake with its client MUST send it with
// the Early-Data header field set to '1'"; section 5.2: 425 "indicates that the server is unwilling to risk processing a request that might be replayed".
func (e *early) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	if handshakeComplete(e.conn) {
		return e.next.RoundTrip(req, resp)
	}
	if !http3.Replayable(req) {
		resp.Status, resp.Length = statusTooEarly, 0
		return nil
	}
	req.Fields.Set(http3.EarlyDataField, "1")
	return e.next.RoundTrip(req, resp)
}

// handshakeComplete does not wait; it runs on an ordinary goroutine.
func handshakeComplete(c *quic.Conn) bool {
	select {
	case <-c.HandshakeComplete():
		return true
	default:
		return false
	}
}

func udpAddrPort(a net.Addr) netip.AddrPort {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := u.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
