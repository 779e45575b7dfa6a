package http2

import (
	"log/slog"
	"net"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Transport is what a connection runs over: a task.Conn (h2c) or a TLS connection on one. If it has a
// method WaitReadable() error, an idle connection holds no buffer. The Conn closes it.
type Transport interface {
	Read(p []byte) (int, error)
	Push(p []byte) error
	Queued() int
	OnDrain(f func())
	Close() error
	Reset() error
	SetDeadline(t task.Instant)
	LocalAddr() net.Addr
	RemoteAddr() net.Addr
}

// Config says how a Conn behaves. It is copied and never changed. The zero value is a usable client.
type Config struct {
	// Handler carries out the requests of a server Conn, each in a task of its own. Required there.
	Handler proxy.RoundTripper
	// Prepare, if not nil, completes a request before Handler sees it: who called, deadlines. It must not wait.
	Prepare func(req *proxy.Request)
	// Tunnel relays a Stream to whoever asked for it, and returns when both directions have ended. If nil, a
	// server answers 501 where Handler returns a Stream.
	Tunnel func(s task.Shard, client, upstream proxy.Stream)
	// Answer fills resp where Handler has returned err. If nil, the answer is the status of err's code, without a body.
	Answer func(req *proxy.Request, resp *proxy.Response, err error)

	// MaxStreams bounds the concurrent streams: of a server those it takes, of a client those it opens. If zero, 1000.
	MaxStreams int
	// StreamWindow is the receive window of a stream in bytes. If zero, 1 MiB.
	StreamWindow int
	// ConnWindow is the receive window of the connection in bytes. If zero, 16 MiB; at most 256 MiB.
	ConnWindow int
	// MaxStreamWindow bounds a stream's window, which grows while it, and not the reader, bounds what arrives. If zero,
	// 16 times StreamWindow; if negative, neither the windows of streams nor that of the connection grow.
	MaxStreamWindow int
	// MaxHeld bounds what the connection holds of unread data and what the peer may still send, together, in bytes. If zero,
	// four times ConnWindow; less than 2 1/8 times counts as that.
	MaxHeld int
	// MaxHead bounds a header list in bytes, as RFC 9113 section 6.5.2 counts them. If zero, 64 KiB.
	MaxHead int
	// MaxFrame is the largest frame payload that is received. If zero, 16 KiB, the least there is.
	MaxFrame int

	// PingIdle is the silence after which a PING is sent. If zero, 10 s; if negative, never.
	PingIdle time.Duration
	// DeadAfter is the silence, in spite of a PING, after which the peer counts as dead; half of it is the
	// time that an answer to a PING may take before that PING counts as lost. A client whose peer is silent for an eighth of it, in
	// spite of a request and a PING, offers no streams until the peer is heard. If zero, 20 s; if negative, never.
	DeadAfter time.Duration
	// IdleTimeout shuts a connection down that has had no stream for so long. If zero, never.
	IdleTimeout time.Duration
	// Pillion offers and accepts what the package comment has under "Between two pillions".
	Pillion bool

	// OnClose is called once, as the last act of Serve, with the reason; nil after an orderly end.
	OnClose func(c *Conn, err error)
	// OnChange is called, as a callback, when Available has risen from 0 or fallen to 0 for good, and once the
	// peer's first SETTINGS have come.
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
	set(&cfg.MaxFrame, minMaxFrame)
	cfg.StreamWindow = min(cfg.StreamWindow, maxWindow)
	cfg.ConnWindow = min(max(cfg.ConnWindow, initialWindow), maxConnWindow)
	if cfg.MaxStreamWindow == 0 {
		cfg.MaxStreamWindow = int(min(16*int64(cfg.StreamWindow), maxConnWindow))
	}
	if cfg.MaxHeld == 0 {
		cfg.MaxHeld = 4 * cfg.ConnWindow
	}
	cfg.MaxHeld = max(cfg.MaxHeld, 2*cfg.ConnWindow+cfg.ConnWindow/8)
	cfg.MaxFrame = min(max(cfg.MaxFrame, minMaxFrame), maxMaxFrame)
	if cfg.PingIdle == 0 {
		cfg.PingIdle = 10 * time.Second
	}
	if cfg.DeadAfter == 0 {
		cfg.DeadAfter = 20 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}

// Stats is a snapshot of a Conn.
type Stats struct {
	Streams   int           // open now
	Running   int           // server: handlers that have not returned
	Opened    uint64        // since the start
	In, Out   uint64        // bytes of the connection, frames included
	Unread    int64         // bytes received and not yet read
	RTT       time.Duration // smoothed, from PING; 0 while unknown
	Peer      int           // streams that the peer allows
	Pillion   bool          // the peer is a pillion
	Ready     bool          // the peer's SETTINGS have been seen
	GoingAway bool          // no new streams
	Suspect   bool          // the peer is silent in spite of a request and a PING: no new streams for now
	Closed    bool
	Stalls    Stalls
}
