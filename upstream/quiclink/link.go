package quiclink

import (
	"fmt"
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
	pillion   bool // what the peer's SETTINGS said; fixed before the first request
	changed   func()

	suspect atomic.Bool
	lazy    atomic.Bool  // the next look is late
	moves   atomic.Int32 // times that another path was taken

	path path // owned by callbacks of far

	// Owned by the task that has to do with other paths.
	spare *quic.Path // validated; nil if there is none
	at    int        // the socket that is in use

	// Guarded by near's lock.
	names map[proxy.Service]string // values of ToField
}

// maxNames bounds Link.names; a further name is made anew each time.
const maxNames = 256

func (l *Link) serve() { _ = l.conn.Serve() }

// RoundTrip implements proxy.RoundTripper.
func (l *Link) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	req.Fields.Del(ToField) // what an app says there is not for the peer
	n, authority := len(req.Fields), req.Authority
	if req.IsConnect() {
		// RFC 9114 section 4.4: ":authority" is host and port. Port 0 asks a pillion for its first app entry.
		req.Authority = fmt.Sprintf("%s:%d", req.Service.Name, req.Service.Port)
	} else if l.pillion {
		req.Fields = append(req.Fields, proxy.Field{Name: ToField, Value: l.name(req.Service)})
	}
	err := l.send(req, resp)
	req.Fields, req.Authority = req.Fields[:n], authority // the slice may have grown, and stays so for its next use
	return err
}

func (l *Link) send(req *proxy.Request, resp *proxy.Response) error {
	l.hurry()
	if l.bridge == nil {
		return l.sender().RoundTrip(req, resp)
	}
	return l.bridge.RoundTrip(req, resp)
}

// name returns s as text without making it each time.
func (l *Link) name(s proxy.Service) string {
	if s.Port == 0 {
		return s.Name
	}
	l.near.Lock()
	defer l.near.Unlock()
	text, ok := l.names[s]
	if !ok {
		text = s.String()
		if len(l.names) < maxNames {
			l.names[s] = text
		}
	}
	return text
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
