package http3

import (
	"log/slog"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/quic-go/quic-go"
)

// ALPN is the protocol that both ends of the TLS handshake have to agree on.
const ALPN = "h3"

// Config says how a Conn behaves. It is copied and never changed. The zero value is a usable client.
type Config struct {
	// Handler carries out the requests of a server Conn, each in a task of its own. Required there.
	Handler proxy.RoundTripper
	// Prepare, if not nil, completes a request before Handler sees it: who called, deadlines. It must not wait.
	Prepare func(req *proxy.Request)
	// Tunnel relays a Stream to whoever asked for it, and returns when both directions have ended. If nil, a
	// server answers 501 where Handler returns a Stream.
	Tunnel func(s task.Shard, client, upstream proxy.Stream)
	// Flows relays a Flow to whoever asked for it, and returns when both have ended. If nil, a server answers 501 where Handler
	// returns a Flow and no Stream.
	Flows func(s task.Shard, client, upstream proxy.Flow)
	// FlowStats counts what the Flows of a client Conn lose, and datagrams for no Flow. A server counts at the Flow that Handler returned, if
	// that counts. If nil, nothing is counted.
	FlowStats *proxy.FlowStats
	// Answer fills resp where Handler has returned err. If nil, the answer is the status of err's code, without a body.
	Answer func(req *proxy.Request, resp *proxy.Response, err error)

	// MaxStreams bounds the concurrent requests: of a server those it takes, of a client those it opens. If zero, 1000.
	MaxStreams int
	// StreamWindow bounds what a stream receives beyond what was read, in bytes. If zero, 1 MiB. It takes effect through QUIC.
	StreamWindow int
	// ConnWindow is the same for all streams together. If zero, 16 MiB. It takes effect through QUIC.
	ConnWindow int
	// MaxHead bounds a field section in bytes, as RFC 9114 section 4.2.2 counts them. If zero, 64 KiB.
	MaxHead int
	// HeadTimeout bounds how long the head of a request may take to come, once its stream is open. If zero, 30 s; if negative, there is no bound.
	HeadTimeout time.Duration

	// IdleTimeout shuts a connection down that has had no stream for so long. If zero, never.
	IdleTimeout time.Duration
	// Pillion offers and accepts what the package comment has under "Between two pillions".
	Pillion bool

	// OnClose is called once, as the last act of Serve, with the reason; nil after an orderly end.
	OnClose func(c *Conn, err error)
	// OnChange is called when Available has risen from 0 or fallen to 0 for good, and once the peer's SETTINGS have
	// come. It is called on any goroutine, without a lock, and must not wait.
	OnChange func(c *Conn)
	// Logger gets what an operator should know, at Debug and Warn. If nil, nothing is logged.
	Logger *slog.Logger
}

// withDefaults returns cfg with its zero values replaced.
func (cfg Config) withDefaults() Config {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&cfg.MaxStreams, 1000)
	set(&cfg.StreamWindow, 1<<20)
	set(&cfg.ConnWindow, 16<<20)
	set(&cfg.MaxHead, 64<<10)
	if cfg.HeadTimeout == 0 {
		cfg.HeadTimeout = 30 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}

// maxUniStreams bounds the unidirectional streams that a peer may have open: control, two of QPACK, and some that we do not know.
const maxUniStreams = 16

// QUIC returns the configuration of QUIC that suits cfg, for whoever dials or accepts: limits of streams and windows, datagrams,
// and credit for a new stream only when the task of an old one has ended. Timeouts, path and tracing are the caller's to add.
func (cfg Config) QUIC() *quic.Config {
	cfg = cfg.withDefaults()
	return &quic.Config{
		InitialStreamReceiveWindow:     uint64(min(cfg.StreamWindow, 512<<10)),
		MaxStreamReceiveWindow:         uint64(cfg.StreamWindow),
		InitialConnectionReceiveWindow: uint64(min(cfg.ConnWindow, 1<<20)),
		MaxConnectionReceiveWindow:     uint64(cfg.ConnWindow),
		MaxIncomingStreams:             int64(cfg.MaxStreams),
		MaxIncomingUniStreams:          maxUniStreams,
		RequireStreamCreditRelease:     true,
		EnableDatagrams:                true,
	}
}

// Stats is a snapshot of a Conn.
type Stats struct {
	Streams   int           // open now
	Running   int           // server: handlers that have not returned
	Opened    uint64        // since the start
	In, Out   uint64        // bytes of QUIC packets
	Lost      uint64        // packets that were sent and got lost
	RTT       time.Duration // smoothed; 0 while unknown
	Window    uint64        // the congestion window, in bytes
	MTU       int           // size of the largest packet, with its headers of IP and UDP; 0 while unknown, or if not both ends take datagrams
	Stalls    Stalls
	Pillion   bool // the peer is a pillion
	Ready     bool // the peer's SETTINGS have been seen
	GoingAway bool // no new streams
	Closed    bool
}
