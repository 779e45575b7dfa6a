package http2

import (
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Conn is one HTTP/2 connection, of either role. All methods must be called on its shard, without the shard's lock.
type Conn struct {
	// Static after construction.

	s      task.Shard
	batch  task.Batch
	server bool

	// Guarded by the shard's lock. What every exchange looks at stands together: between two of them the system has filled the caches.

	failed    bool // every stream has been ended; only a GOAWAY may still be on its way
	goingAway bool // no new streams: ours or the peer's GOAWAY
	blocked   bool // the Transport has a queue
	changed   bool // OnChange is owed, see unlock
	pillion   bool // both ends have said so
	acked     bool // our SETTINGS have been

	nextID         uint32 // client: of the next stream
	lastPeer       uint32 // server: the highest stream that the peer has opened
	lastAccepted   uint32 // server: no stream above it is taken
	peerMaxStreams uint32 // by SETTINGS, as the following three
	peerMaxHead    uint32
	peerWindow     int64
	maxFrame       int

	canceled []*stream // callbacks for unlock to make
	free     []*stream
	streams  streamTable
	running  int // server: handlers that have not returned
	opened   uint64

	out      []byte
	headsOut int // HEADERS in out
	pushes   uint64
	sendWin  int64
	recvWin  int64     // what the peer may still send
	unread   int64     // bytes in all streams' chunks
	small    sendQueue // streams with little to send
	bulk     sendQueue
	enc      headEncoder
	win      windows
	limits   limits
	endedIDs recent // closed streams that the peer has ended or reset
	resetIDs recent // closed streams that we have reset: what was on its way is ignored

	// Owned by Serve.

	rd   reading
	in   *task.Buffer
	head headDecoder

	// Static after construction.

	t      Transport
	waiter proxy.Waiter // t, if it can wait without a buffer
	cfg    Config
	client netip.AddrPort // the peer's address, for requests
	tickFn func()

	// Guarded by the shard's lock.

	forgotten uint32 // no stream up to this one is in endedIDs and resetIDs
	alive     alive

	// Sending.

	outBuf     *task.Buffer // out's memory, unless that is the slab
	slab       []byte       // memory for more than a Buffer has, while out does not use it
	slabUsed   bool         // since the last tick
	heads      sendQueue    // streams that wait for room for a head
	called     int          // streams that have been woken because there is room, and have not run yet
	headSize   int          // bytes that are sent for a HEADERS, with what follows it: a moving average
	flushing   bool
	flushAgain bool
	pushesTick uint64 // pushes at the last tick
	bytesOut   uint64
	stalls     Stalls
	// Since when all streams wait for the connection's window, and behind what the Transport has not taken; 0 while they do not.
	stalledConn, stalledLine task.Instant

	// Receiving.

	bytesIn uint64

	// What the peer has said in SETTINGS.

	settled     bool // its first SETTINGS have been seen
	peerConnect bool // extended CONNECT
	settleWait  []*stream

	// Ends.

	warned    bool       // the first GOAWAY of a graceful end has been sent
	err       error      // why, if the end is not an orderly one
	lingering bool       // Serve waits for the peer to read GOAWAY before it closes
	closing   bool       // close the Transport once the buffer is pushed
	shut      bool       // it has been closed
	readyGate *task.Gate // of WaitReady, woken with changed
}

// tell and silent say whether end sends RST_STREAM.
type telling bool

const (
	tell   telling = true
	silent telling = false
)

var errDeadline error = &proxy.Error{Code: proxy.Timeout, Detail: "the deadline of the exchange has passed", Err: task.ErrDeadline}

// NewServer makes the server's end of a connection. It sends its SETTINGS at the end of the turn; Serve does the rest.
func NewServer(s task.Shard, t Transport, cfg Config) *Conn {
	c := newConn(s, t, cfg)
	c.server, c.head.requests = true, true
	c.rd.state = readPreface
	c.hello()
	return c
}

// NewClient makes the client's end. RoundTrip may be called at once; somebody must run Serve.
func NewClient(s task.Shard, t Transport, cfg Config) *Conn {
	c := newConn(s, t, cfg)
	c.nextID = 1
	c.hello()
	return c
}

func newConn(s task.Shard, t Transport, cfg Config) *Conn {
	c := &Conn{
		s: s, t: t, cfg: cfg.withDefaults(),
		sendWin:        initialWindow,
		recvWin:        initialWindow,
		peerMaxStreams: defaultPeerMaxStreams,
		peerWindow:     initialWindow,
		maxFrame:       minMaxFrame,
		peerMaxHead:    unlimitedPeerHeaderList,
		lastAccepted:   maxStreamID,
	}
	c.waiter, _ = t.(proxy.Waiter)
	c.client = task.AddrPort(t.RemoteAddr())
	c.head.init(c.cfg.MaxHead)
	c.win.init(&c.cfg)
	c.enc.init(&c.out)
	c.batch = s.Batch(c.flush)
	c.tickFn = c.tick
	c.limits.init(s.Now())
	t.OnDrain(c.drained)
	return c
}

// hello appends what opens the connection and starts the clock.
func (c *Conn) hello() {
	c.s.Lock()
	c.ready()
	if !c.server {
		c.out = append(c.out, preface...)
	}
	at := len(c.out)
	c.out = appendFrameHeader(c.out, 0, frameSettings, 0, 0)
	if c.server {
		c.out = appendSetting(c.out, settingMaxStreams, uint32(c.cfg.MaxStreams))
		c.out = appendSetting(c.out, settingConnectProtocol, 1)
	} else {
		c.out = appendSetting(c.out, settingEnablePush, 0)
	}
	c.out = appendSetting(c.out, settingInitialWindow, uint32(c.cfg.StreamWindow))
	c.out = appendSetting(c.out, settingMaxHeaderList, uint32(c.cfg.MaxHead))
	if c.cfg.MaxFrame > minMaxFrame {
		c.out = appendSetting(c.out, settingMaxFrame, uint32(c.cfg.MaxFrame))
	}
	if c.cfg.Pillion {
		c.out = appendSetting(c.out, settingPillion, pillionVersion)
	}
	putFrameLength(c.out[at:], len(c.out)-at-frameHeaderLen)
	c.topUp()
	c.kick()
	c.startClock()
	c.unlock()
}

// Serve reads the connection until it is over, beginning with first, which it does not keep. It returns once every
// stream has been ended: nil after an orderly end, else why it broke.
func (c *Conn) Serve(first []byte) error {
	defer c.finish()
	if err := c.feed(first); err != nil {
		return c.result(err)
	}
	for {
		if err := c.fill(); err != nil {
			return c.result(err)
		}
	}
}

// result turns the end of reading into that of the connection.
func (c *Conn) result(err error) error {
	c.s.Lock()
	var broken *ConnError
	switch {
	case errors.As(err, &broken):
		c.farewell(broken)
	case err == io.EOF && c.streams.len() == 0:
		c.closing = true
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	c.fail(err)
	err = c.err
	c.unlock()
	if broken != nil {
		c.linger()
	}
	return err
}

// finish ends what Serve has held, after a panic too.
func (c *Conn) finish() {
	c.s.Lock()
	c.fail(task.ErrClosed)
	if c.in != nil {
		c.s.Free(c.in)
		c.in = nil
	}
	c.closing = true
	err := c.err
	c.unlock()
	c.flush()
	if c.cfg.OnClose != nil {
		c.cfg.OnClose(c, err)
	}
}

// fill reads once and handles the whole frames, and pieces of frames, that there are.
func (c *Conn) fill() error {
	if c.in == nil && c.waiter != nil {
		if err := c.waiter.WaitReadable(); err != nil {
			return err
		}
	}
	if c.in == nil {
		c.in = c.s.Buffer()
		c.in.R, c.in.W = 0, 0
	}
	n, err := c.t.Read(c.in.Room())
	if n > 0 {
		c.in.W += n
		if err := c.handle(c.in, n); err != nil {
			return err
		}
		if c.in.R == c.in.W {
			c.in.R, c.in.W = 0, 0
			if c.waiter != nil {
				c.s.Free(c.in)
				c.in = nil
			}
		} else if c.in.R > 0 {
			c.in.W = copy(c.in.B, c.in.Unread())
			c.in.R = 0
		}
	}
	return err
}

// feed handles bytes that somebody else has read.
func (c *Conn) feed(p []byte) error {
	for len(p) > 0 {
		if c.in == nil {
			c.in = c.s.Buffer()
			c.in.R, c.in.W = 0, 0
		}
		n := copy(c.in.Room(), p)
		p = p[n:]
		c.in.W += n
		if err := c.handle(c.in, n); err != nil {
			return err
		}
		c.in.W = copy(c.in.B, c.in.Unread())
		c.in.R = 0
	}
	return nil
}

// handle works through what has arrived, under the lock.
func (c *Conn) handle(b *task.Buffer, n int) error {
	c.s.Lock()
	c.bytesIn += uint64(n)
	c.alive.heard(c.s.Now())
	if c.alive.suspect {
		c.alive.suspect, c.changed = false, true
	}
	var err error
	for err == nil && !c.failed && b.R < b.W {
		var used int
		used, err = c.rd.step(c, b.Unread())
		if used == 0 {
			break
		}
		b.R += used
	}
	if c.failed && err == nil {
		err = task.ErrClosed
	}
	c.unlock()
	return err
}

// wait lets the calling task wait at one of st's gates: without the lock, which it holds before and after, even if
// the task is unwound because the runtime stops. So whoever waits gives the lock back in a deferred call.
func (c *Conn) wait(st *stream, g *task.Gate, deadline task.Instant) bool {
	st.waiting++
	c.unlock()
	defer c.waited(st)
	return g.Wait(deadline)
}

func (c *Conn) waited(st *stream) {
	c.s.Lock()
	st.waiting--
}

// unlock gives the lock back and then makes the callbacks that fell due while it was held.
func (c *Conn) unlock() {
	if !c.changed && c.canceled == nil {
		c.s.Unlock()
		return
	}
	canceled, changed, waiting := c.canceled, c.changed, c.readyGate
	c.canceled, c.changed = nil, false
	c.s.Unlock()
	for _, st := range canceled {
		st.cancel.Cancel(st.err)
	}
	if changed && waiting != nil {
		waiting.Wake()
	}
	if changed && c.cfg.OnChange != nil {
		c.cfg.OnChange(c)
	}
}

// Available is the number of streams that RoundTrip may open now; 0 once the connection is going away.
func (c *Conn) Available() int {
	c.s.Lock()
	defer c.s.Unlock()
	return c.available()
}

func (c *Conn) available() int {
	if c.server || c.goingAway || c.failed || c.alive.suspect || c.nextID > maxStreamID {
		return 0
	}
	return max(0, min(c.cfg.MaxStreams, int(min(c.peerMaxStreams, maxWindow)))-c.streams.len())
}

// Stats returns a snapshot.
func (c *Conn) Stats() Stats {
	c.s.Lock()
	defer c.s.Unlock()
	return Stats{
		Streams: c.streams.len(), Running: c.running, Opened: c.opened,
		In: c.bytesIn, Out: c.bytesOut, Unread: c.unread,
		RTT: c.alive.rtt, Peer: int(min(c.peerMaxStreams, maxWindow)),
		Pillion: c.pillion, Ready: c.settled, GoingAway: c.goingAway, Suspect: c.alive.suspect, Closed: c.failed, Stalls: c.stalls,
	}
}

// RTT is the smoothed round-trip time, 0 while unknown.
func (c *Conn) RTT() time.Duration { return c.Stats().RTT }

// Transport returns what NewServer or NewClient was given.
func (c *Conn) Transport() Transport { return c.t }

func (c *Conn) log(msg string, args ...any) {
	c.cfg.Logger.Debug(msg, append(args, slog.Any("remote", c.t.RemoteAddr()))...)
}
