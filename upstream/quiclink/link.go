package quiclink

import (
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/bridge"
	"github.com/pillion-proxy/pillion/proxy/http3"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/upstream/pool"
)

var _ pool.Link = (*Link)(nil)

// Link is one Link over QUIC.
type Link struct {
	// Static after construction.
	d         *Dialer
	ep        proxy.Endpoint
	near, far task.Shard
	q         *quic.Conn
	conn      *http3.Conn
	bridge    *bridge.Bridge // nil if near is far
	since     time.Time
	addresser pool.Addresser // fixed before the first request, as the peer's SETTINGS said
	changed   func()

	suspect atomic.Bool
	lazy    atomic.Bool  // the next look is late
	moves   atomic.Int32 // times that another path was taken

	path path // owned by callbacks of far

	// Owned by the task that has to do with other paths.
	spare *quic.Path // validated; nil if there is none
	at    int        // the socket that is in use
}

func (l *Link) serve() { _ = l.conn.Serve() }

// RoundTrip implements proxy.RoundTripper.
func (l *Link) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	return l.addresser.RoundTrip((*addressed)(l), req, resp)
}

// addressed is a Link for requests that say whom they are for.
type addressed Link

// RoundTrip implements proxy.RoundTripper.
func (a *addressed) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	l := (*Link)(a)
	l.hurry()
	if l.bridge == nil {
		return l.sender().RoundTrip(req, resp)
	}
	return l.bridge.RoundTrip(req, resp)
}

// AvailableLocked implements pool.Link. A suspect Link takes nothing for the moment.
func (l *Link) AvailableLocked() int {
	if l.suspect.Load() {
		return 0
	}
	return l.conn.AvailableLocked()
}

// LeavingLocked implements pool.Link.
func (l *Link) LeavingLocked() bool { return l.conn.LeavingLocked() }

// DoubtfulLocked implements pool.Doubtful.
func (l *Link) DoubtfulLocked() bool { return l.suspect.Load() }

// Shutdown implements pool.Link.
func (l *Link) Shutdown() { l.conn.Shutdown() }

// Close implements pool.Link.
func (l *Link) Close() { l.conn.Close() }

// Stats describes a Link, for status.
type Stats struct {
	http3.Stats
	Since   time.Time
	Suspect bool // the path does not answer at present
	Moves   int  // times that it went on over another path
	Waiting int  // exchanges that cross
}

// Stats describes the Link. It is safe for concurrent use.
func (l *Link) Stats() Stats {
	st := Stats{Stats: l.conn.Stats(), Since: l.since, Suspect: l.suspect.Load(), Moves: int(l.moves.Load())}
	if l.bridge != nil {
		st.Waiting = l.bridge.Running()
	}
	return st
}
