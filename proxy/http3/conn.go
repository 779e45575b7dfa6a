package http3

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/quic-go/quic-go"
)

// Conn is one HTTP/3 connection, of either role. All methods are safe for concurrent use, from any goroutine; those that wait block it.
type Conn struct {
	// Static after construction.

	s       task.Shard
	q       *quic.Conn
	cfg     Config
	server  bool
	client  netip.AddrPort // the peer's address; of an IPv4 one, not mapped
	settled chan struct{}  // closed once the peer's SETTINGS have been seen, or the connection has ended
	helpers sync.WaitGroup // tasks that Serve waits for
	pillion atomic.Bool    // both ends have said so

	sending sync.Mutex       // held while control is written to
	control *quic.SendStream // nil if it could not be opened

	mu      sync.Mutex
	streams map[quic.StreamID]*stream
	opened  uint64
	running int           // server: handlers that have not returned
	next    quic.StreamID // server: after the highest stream that the peer has opened
	spare   *quic.Stream  // client: opened while a request waited for credit
	full    bool          // client: the peer gives no credit
	since   task.Instant  // when the last stream ended
	idle    task.Timer

	// What the peer has said.

	ready       bool // its SETTINGS have been seen
	peerMaxHead uint64
	peerConnect bool // extended CONNECT
	datagrams   bool // both ends take datagrams
	peerGoAway  uint64

	// Ends.

	warned       bool          // the first GOAWAY of a graceful end has been sent
	goingAway    bool          // no new streams: ours or the peer's GOAWAY
	lastAccepted quic.StreamID // server: no stream from it on is taken
	shutdown     task.Timer
	saidLast     task.Instant // when a stream ended last with our half; 0: never
	err          error        // why, if the end is not an orderly one
	failed       bool         // every stream has been ended

	// For unlock to do.

	canceled []*stream
	changed  bool
	closing  *ConnError // close QUIC with this

	limits limits

	stalls stalls

	encoders sync.Pool // of *encoder
	heads    sync.Pool // of *[readAhead]byte

	outbox      chan *outgoing // nil before the first flow
	outboxBytes atomic.Int64   // of payloads in outbox; any goroutine
	outs        sync.Pool      // of *outgoing
}

// NewServer makes the server's end of a connection whose handshake q has complete, or has begun. Serve does the rest. s belongs to a runtime of goroutines.
func NewServer(s task.Shard, q *quic.Conn, cfg Config) *Conn {
	return newConn(s, q, cfg, true)
}

// NewClient makes the client's end. RoundTrip may be called at once; somebody must run Serve.
func NewClient(s task.Shard, q *quic.Conn, cfg Config) *Conn {
	return newConn(s, q, cfg, false)
}

func newConn(s task.Shard, q *quic.Conn, cfg Config, server bool) *Conn {
	c := &Conn{
		s: s, q: q, cfg: cfg.withDefaults(), server: server,
		settled:      make(chan struct{}),
		streams:      make(map[quic.StreamID]*stream),
		peerMaxHead:  maxStreamID,
		peerGoAway:   maxStreamID,
		lastAccepted: maxStreamID,
		since:        s.Now(),
	}
	if a, ok := q.RemoteAddr().(*net.UDPAddr); ok {
		ap := a.AddrPort()
		c.client = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	c.limits.init(s.Now())
	c.hello()
	c.mu.Lock()
	c.watchIdle(c.cfg.IdleTimeout)
	c.mu.Unlock()
	return c
}

// Serve runs the connection until it is over, and returns once every stream has been ended: nil after an orderly end, else why it broke.
// Only Close, Shutdown or the peer end it: not the end of the runtime.
func (c *Conn) Serve() error {
	defer c.finish()
	c.help(c.acceptUni)
	for {
		q, err := c.q.AcceptStream(context.Background())
		if err != nil {
			return c.result(err)
		}
		if !c.server {
			// RFC 9114 section 6.1: "Clients MUST treat receipt of a server-initiated bidirectional stream as a connection error
			// of type H3_STREAM_CREATION_ERROR unless such an extension has been negotiated."
			c.breakOff(&ConnError{Code: ErrStreamCreation, Reason: "a server opened a bidirectional stream"})
			continue
		}
		c.accept(q)
	}
}

// help runs f in a task that Serve waits for. It does nothing once the connection is over.
func (c *Conn) help(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed {
		return
	}
	c.helpers.Add(1)
	c.s.Go(func() {
		defer c.helpers.Done()
		f()
	})
}

// result turns the end of QUIC into that of the connection.
func (c *Conn) result(err error) error {
	c.mu.Lock()
	c.over(err)
	err = c.err
	c.unlock()
	return err
}

// over ends the connection because QUIC has ended with err. mu is held.
func (c *Conn) over(err error) {
	var app *quic.ApplicationError
	orderly := errors.As(err, &app) && ErrCode(app.ErrorCode) == ErrNo
	before := c.err
	// After a word of farewell the peer closes when it has all that it waits for, which our streams may not know yet.
	orderly = orderly && !c.failed && (len(c.streams) == 0 || c.goingAway || c.warned)
	c.fail(plain(err))
	if orderly {
		c.err = before
	}
}

// finish ends what Serve has held, after a panic too.
func (c *Conn) finish() {
	c.Close()
	c.q.CloseWithError(quic.ApplicationErrorCode(ErrNo), "") // QUIC goes on after it has refused early data
	c.helpers.Wait()
	if c.cfg.OnClose != nil {
		c.cfg.OnClose(c, c.Err())
	}
}

// Err is why the connection ended, nil before and after an orderly end.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// unlock gives mu back and then does what fell due while it was held.
func (c *Conn) unlock() {
	canceled, changed, closing := c.canceled, c.changed, c.closing
	c.canceled, c.changed, c.closing = nil, false, nil
	c.mu.Unlock()
	for _, st := range canceled {
		st.cancel.Cancel(st.err)
	}
	if closing != nil {
		c.q.CloseWithError(quic.ApplicationErrorCode(closing.Code), closing.Reason)
	}
	if changed && c.cfg.OnChange != nil {
		c.cfg.OnChange(c)
	}
}

// Available is the number of streams that RoundTrip may open now, as far as is known: what credit QUIC has is known once it is used up.
// It is 0 once the connection is going away.
func (c *Conn) Available() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.available()
}

// AvailableLocked is Available, for a caller that may hold a shard's lock.
func (c *Conn) AvailableLocked() int { return c.Available() }

// LeavingLocked reports whether the connection will never take a new stream again. The caller may hold a shard's lock.
func (c *Conn) LeavingLocked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.goingAway || c.failed
}

func (c *Conn) available() int {
	n := max(0, c.cfg.MaxStreams-len(c.streams))
	switch {
	case c.server || c.goingAway || c.failed:
		return 0
	case c.spare != nil:
		return min(n, 1)
	case c.full:
		return 0
	}
	return n
}

// Stats returns a snapshot.
func (c *Conn) Stats() Stats {
	q := c.q.ConnectionStats()
	c.mu.Lock()
	defer c.mu.Unlock()
	largest := 0
	if c.datagrams {
		largest = mtu(c.q, c.client.Addr().Is6())
	}
	return Stats{
		Streams: len(c.streams), Running: c.running, Opened: c.opened,
		In: q.BytesReceived, Out: q.BytesSent, Lost: q.PacketsLost, RTT: q.SmoothedRTT, Window: q.CongestionWindow, MTU: largest, Stalls: c.stalls.stats(),
		Pillion: c.pillion.Load(), Ready: c.ready, GoingAway: c.goingAway, Closed: c.failed,
	}
}

// RTT is the smoothed round-trip time, 0 while unknown.
func (c *Conn) RTT() time.Duration { return c.q.ConnectionStats().SmoothedRTT }

// QUIC returns what NewServer or NewClient was given.
func (c *Conn) QUIC() *quic.Conn { return c.q }

// early reports whether the handshake is not complete yet: what arrives now may have been sent before, by anybody.
func (c *Conn) early() bool {
	select {
	case <-c.q.HandshakeComplete():
		return false
	default:
		return true
	}
}

func (c *Conn) log(msg string, args ...any) {
	c.cfg.Logger.Debug(msg, append(args, slog.Any("remote", c.q.RemoteAddr()))...)
}

// lookAgain is when an idle connection is looked at again. mu is held.
func (c *Conn) watchIdle(in time.Duration) {
	if c.cfg.IdleTimeout > 0 && !c.failed {
		c.idle = c.s.After(in, c.idled)
	}
}

// idled shuts the connection down if it has been idle for long enough.
func (c *Conn) idled() {
	c.mu.Lock()
	left := c.cfg.IdleTimeout
	if len(c.streams) == 0 {
		left -= c.s.Now().Sub(c.since)
	}
	if left > 0 {
		c.watchIdle(left)
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	c.Shutdown()
}

var _ proxy.RoundTripper = (*Conn)(nil)
