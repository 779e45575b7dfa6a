package quiclink

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/http3"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/upstream/pool"
)

// Config says how Links are made.
type Config struct {
	// TLS gives the configuration for a peer that must be expect. The protocol that is asked for is set here.
	TLS func(expect proxy.Identity) *tls.Config
	// Explain makes a clearer error of one by which a peer refused our certificate. May be nil.
	Explain func(error) error
	// HTTP3 is the template of each Link: windows, limits. OnClose and OnChange are set here.
	HTTP3 http3.Config
	// Idle, if not nil, is what HTTP3.IdleTimeout is for the Links to one Endpoint.
	Idle func(ep *proxy.Endpoint) time.Duration
	// Far is the shard, of goroutines, on which the Links of a shard live; the same one if that is of goroutines itself.
	Far func(near task.Shard) task.Shard
	// Socket opens a UDP socket with a port of its own: one for all Links, and up to three that they go over to when their path dies.
	Socket func() (*net.UDPConn, error)
	// DialTimeout bounds a handshake. If zero, 5 s.
	DialTimeout time.Duration
	// PingIdle is the silence after which a PING is sent. If zero, 10 s.
	PingIdle time.Duration
	// SuspectAfter is how long packets may go unanswered before requests go elsewhere and another path is tried. If zero, 2 s.
	SuspectAfter time.Duration
	// DeadAfter is the silence, in spite of PINGs, after which the peer counts as dead. If zero, 20 s.
	DeadAfter time.Duration
	// Suspect is told when the path to ep stops answering, on any goroutine. May be nil.
	Suspect func(ep *proxy.Endpoint, why error)
	// EarlyData allows 0-RTT: see the package comment.
	EarlyData bool
	// Trace, if not nil, gives every connection a qlog.
	Trace http3.Tracer
	// Logger gets one line for each dial that ended because of a certificate, and each change of path. If nil, nothing is logged.
	Logger *slog.Logger
}

func (cfg Config) withDefaults() Config {
	for v, d := range map[*time.Duration]time.Duration{
		&cfg.DialTimeout: 5 * time.Second, &cfg.PingIdle: 10 * time.Second,
		&cfg.SuspectAfter: 2 * time.Second, &cfg.DeadAfter: 20 * time.Second,
	} {
		if *v == 0 {
			*v = d
		}
	}
	if cfg.Explain == nil {
		cfg.Explain = func(err error) error { return err }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Suspect == nil {
		cfg.Suspect = func(*proxy.Endpoint, error) {}
	}
	return cfg
}

// firstPacket is the size in bytes of packets until the path is known to take larger ones: what every path takes (RFC 9000 section 14), such
// as one of 1280 bytes with the headers of IPv6 and UDP.
const firstPacket = 1200

// Dialer makes Links. Make it with New. It is safe for concurrent use, on ordinary goroutines and in tasks.
type Dialer struct {
	cfg      Config
	quic     *quic.Config
	sessions sessions // for 0-RTT

	mu      sync.Mutex             // of ordinary goroutines
	sockets [maxSockets]*transport // nil until needed
	closed  bool
}

// New returns a Dialer that holds nothing yet.
func New(cfg Config) *Dialer {
	cfg = cfg.withDefaults()
	q := cfg.HTTP3.QUIC()
	q.HandshakeIdleTimeout = cfg.DialTimeout
	q.MaxIdleTimeout = cfg.DeadAfter
	q.KeepAlivePeriod = cfg.PingIdle
	q.Tracer = cfg.Trace
	q.InitialPacketSize = firstPacket
	d := &Dialer{cfg: cfg, quic: q}
	if cfg.EarlyData {
		d.sessions = newSessions()
		q.TokenStore = quic.NewLRUTokenStore(maxSessions, 4)
	}
	return d
}

// Dial makes a Link to ep, as pool.Config wants it. It is called by a task of s.
func (d *Dialer) Dial(s task.Shard, ep *proxy.Endpoint, closed, changed func(pool.Link)) (pool.Link, error) {
	return d.DialContext(context.Background(), s, ep, closed, changed)
}

// DialContext is Dial, which ends without a Link when ctx does.
func (d *Dialer) DialContext(ctx context.Context, s task.Shard, ep *proxy.Endpoint, closed, changed func(pool.Link)) (pool.Link, error) {
	var l *Link
	var err error
	s.Offload(func() { l, err = d.dial(ctx, s, ep, closed, changed) })
	if err == nil {
		return l, nil
	}
	var e *proxy.Error
	if errors.As(err, &e) && e.Code == proxy.BadIdentity {
		d.cfg.Logger.Warn("no link to the peer", "peer", ep, "expected", ep.Identity, "transport", "quic", "why", e.Err)
	}
	return nil, err // not a nil *Link in an interface
}

// Close ends every Link and closes the sockets.
func (d *Dialer) Close() {
	d.mu.Lock()
	d.closed = true
	all := d.sockets
	d.sockets = [maxSockets]*transport{}
	d.mu.Unlock()
	for _, t := range all {
		if t != nil {
			t.Close()
		}
	}
}
