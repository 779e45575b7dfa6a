// Package h2link makes Links over TCP: HTTP/2 inside TLS 1.3, both sides authenticated. An Exchange travels as a
// request, a Stream as classic CONNECT (RFC 9113 section 8.5), so that HBONE peers and any HTTP/2 server of the mesh can be at the other end.
package h2link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/http2"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/proxy/task/tlsconn"
	"github.com/pillion-proxy/pillion/tls/mtls"
	"github.com/pillion-proxy/pillion/upstream/pool"
)

// Config says how Links are made.
type Config struct {
	// TLS gives the configuration for a peer that must be expect.
	TLS func(expect proxy.Identity) *tls.Config
	// Explain makes a clearer error of one by which a peer refused our certificate. May be nil.
	Explain func(error) error
	// HTTP2 is the template of each Link: windows, limits, PING. OnClose and OnChange are set here.
	HTTP2 http2.Config
	// Idle, if not nil, is what HTTP2.IdleTimeout is for the Links to one Endpoint.
	Idle func(ep *proxy.Endpoint) time.Duration
	// DialTimeout bounds TCP and TLS together. If zero, 5 s.
	DialTimeout time.Duration
	// Logger gets one line for each dial that ended because of a certificate, theirs or ours. If nil, nothing is logged.
	Logger *slog.Logger
}

// Link is one Link over TCP.
type Link struct {
	conn  *http2.Conn // guarded by the shard's lock until Dial has returned
	shard task.Shard
	since time.Time
	// addresser is fixed before the first request, as the peer's SETTINGS said.
	addresser pool.Addresser
}

// Dialer returns the function that a pool.Config wants.
func Dialer(cfg Config) func(s task.Shard, ep *proxy.Endpoint, closed, changed func(pool.Link)) (pool.Link, error) {
	if cfg.DialTimeout == 0 {
		cfg.DialTimeout = 5 * time.Second
	}
	if cfg.Explain == nil {
		cfg.Explain = func(err error) error { return err }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return func(s task.Shard, ep *proxy.Endpoint, closed, changed func(pool.Link)) (pool.Link, error) {
		l, err := dial(s, ep, cfg, closed, changed)
		if err != nil {
			var e *proxy.Error
			if errors.As(err, &e) && e.Code == proxy.BadIdentity {
				cfg.Logger.Warn("no link to the peer", "peer", ep, "expected", ep.Identity, "why", e.Err)
			}
			return nil, err // not a nil *Link in an interface
		}
		return l, nil
	}
}

func dial(s task.Shard, ep *proxy.Endpoint, cfg Config, closed, changed func(pool.Link)) (*Link, error) {
	var h *tlsconn.Handshaked
	var err error
	deadline := s.Now().Add(cfg.DialTimeout)
	ctx, cancel := context.WithTimeout(context.Background(), cfg.DialTimeout)
	defer cancel()
	s.Go(func() { cancelAtStop(s, ctx, cancel) })
	s.Offload(func() { h, err = handshake(ctx, ep, cfg) })
	cancel()
	if err != nil {
		return nil, err
	}
	conn, err := h.Attach(s)
	if err != nil {
		return nil, err
	}
	l := &Link{shard: s, since: time.Now(), addresser: pool.Addresser{Shard: s}}
	h2 := cfg.HTTP2
	if cfg.Idle != nil {
		h2.IdleTimeout = cfg.Idle(ep)
	}
	h2.OnClose = func(*http2.Conn, error) { closed(l) }
	h2.OnChange = func(*http2.Conn) { changed(l) }
	client := http2.NewClient(s, conn, h2)
	s.Lock()
	l.conn = client
	s.Unlock()
	s.Go(l.serve)
	// The peer's SETTINGS say whether it is a pillion; and only now is it sure that it accepts our certificate.
	if err := client.WaitReady(deadline); err != nil {
		client.Close()
		return nil, refused(ep, cfg.Explain(err))
	}
	l.addresser.Pillion = l.conn.Stats().Pillion
	return l, nil
}

// stopGrain is how long cancelAtStop outlives what it watches.
const stopGrain = 50 * time.Millisecond

// cancelAtStop ends ctx when the runtime stops, which unwinds tasks that sleep: the end of the program does not wait for a handshake.
func cancelAtStop(s task.Shard, ctx context.Context, cancel context.CancelFunc) {
	defer cancel()
	for ctx.Err() == nil {
		s.Sleep(stopGrain)
	}
}

// handshake connects and authenticates, on an ordinary goroutine.
func handshake(ctx context.Context, ep *proxy.Endpoint, cfg Config) (*tlsconn.Handshaked, error) {
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", ep.Addr.String())
	if err != nil {
		return nil, &proxy.Error{Code: proxy.ConnectFailed, Detail: "connect to the sidecar of " + string(ep.Identity), Unsent: true, Err: err}
	}
	h, err := tlsconn.Client(ctx, raw, cfg.TLS(ep.Identity))
	if err != nil {
		return nil, refused(ep, cfg.Explain(err))
	}
	if alpn := h.State().NegotiatedProtocol; alpn != "h2" {
		h.Close()
		return nil, refused(ep, fmt.Errorf("it did not agree to ALPN h2 (but to %q)", alpn))
	}
	return h, nil
}

// refused tells a handshake that ended because of a certificate from one that broke off, as when the peer was killed.
func refused(ep *proxy.Endpoint, err error) error {
	var theirs *mtls.CertificateError
	var ours *mtls.RefusedError
	e := &proxy.Error{Code: proxy.ConnectFailed, Unsent: true, Err: err}
	if errors.As(err, &theirs) || errors.As(err, &ours) {
		e.Code = proxy.BadIdentity
	}
	e.Detail = fmt.Sprintf("the handshake with %v, expected to be %s", ep, ep.Identity)
	return e
}

func (l *Link) serve() { _ = l.conn.Serve(nil) }

// RoundTrip implements proxy.RoundTripper.
func (l *Link) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	before, err := l.addresser.Address(req)
	if err != nil {
		return err
	}
	err = l.conn.RoundTrip(req, resp)
	l.addresser.Sent(before, err, req, resp)
	return err
}

// AvailableLocked implements pool.Link.
func (l *Link) AvailableLocked() int {
	if l.conn == nil { // a connection that broke while it was being set up
		return 0
	}
	return l.conn.AvailableLocked()
}

// LeavingLocked implements pool.Link.
func (l *Link) LeavingLocked() bool { return l.conn == nil || l.conn.LeavingLocked() }

// DoubtfulLocked implements pool.Doubtful.
func (l *Link) DoubtfulLocked() bool { return l.conn != nil && l.conn.DoubtfulLocked() }

// Shutdown implements pool.Link.
func (l *Link) Shutdown() { l.conn.Shutdown() }

// Close implements pool.Link.
func (l *Link) Close() { l.conn.Close() }

// Path is what the kernel knows of the way that the Link takes. It is for tasks and callbacks of the Link's shard.
func (l *Link) Path() task.Path { return task.PathOf(l.conn.Transport()) }

// Stats describes the Link, for status. It is for tasks and callbacks of the Link's shard.
func (l *Link) Stats() (http2.Stats, time.Time) { return l.conn.Stats(), l.since }
