package http2

import (
	"time"

	"github.com/pillion-proxy/pillion/proxy/task"
)

// windows is how much the peer may send: of the connection and of its streams, grown by measurement and made small where
// readers stall. Guarded by the shard's lock. With base for Config.ConnWindow, what is unread and what the peer may still
// send are together never more than
//
//	size + base/4            in general
//	size + base + extra      once the peer knows of the smallest windows
//
// and grow keeps the second below Config.MaxHeld. In between lie the smallest windows of all streams that there may be
// (base/4 for MaxStreams, and as much for those that have ended and are unread) and base/4 for the streams whose readers
// go on. So however many streams stall, the others get connection window.
type windows struct {
	size     int64        // the connection's receive window, ConnWindow at first
	extra    int64        // by how much the streams' windows have grown, all together
	creditAt task.Instant // when connection window was last returned
	learned  int64        // to what a stream's window has grown lately

	announced int64 // SETTINGS_INITIAL_WINDOW_SIZE as last sent
	initial   int64 // as the peer has last acknowledged it
	level     int   // of announced: 0 StreamWindow, 1 levelOneWindow, 2 the smallest
}

const (
	levelOneWindow = 64 << 10 // bytes
	leastWindow    = 1 << 10  // bytes, however many streams there may be
	// leastRTT is the round trip below which a window of 1 MiB is never what bounds a stream.
	leastRTT = time.Millisecond
	// probeEvery is the least distance of PINGs that measure the round trip of a connection under load.
	probeEvery = time.Second
)

func (w *windows) init(cfg *Config) {
	w.size = int64(cfg.ConnWindow)
	w.announced, w.initial = int64(cfg.StreamWindow), int64(cfg.StreamWindow)
}

// slim forgets what has been learnt, while no stream is open.
func (w *windows) slim(cfg *Config) { w.size, w.learned = int64(cfg.ConnWindow), 0 }

// startWindow gives a new stream the receive window that the peer takes it to have. A server's stream was opened by a peer
// that knows what it has acknowledged, a client's will be by one that knows all that was sent before.
func (c *Conn) startWindow(st *stream) {
	st.initial = c.win.initial
	if !c.server {
		st.initial = c.win.announced
	}
	st.recvWin, st.window = st.initial, st.initial
}

// endWindow gives back by how much st's window has grown, once nothing of st is unread.
func (c *Conn) endWindow(st *stream) {
	c.win.extra -= st.window - st.initial
	st.window = st.initial
}

// connTarget is how much the peer may send on the connection from now on.
func (c *Conn) connTarget() int64 {
	w, base := &c.win, int64(c.cfg.ConnWindow)
	room := base / 4
	if w.level == 2 && w.initial == w.announced {
		room = base + w.extra
	}
	return w.size + min(0, room-c.unread)
}

// topUp returns connection window once half of it is due.
func (c *Conn) topUp() {
	target := c.connTarget()
	due := target - c.recvWin
	if c.unread > int64(c.cfg.ConnWindow)/2 {
		c.shrink()
	}
	if c.failed || due <= 0 || due < max(target/2, int64(c.cfg.ConnWindow)/16) && !(c.recvWin == initialWindow && c.bytesIn == 0) {
		return
	}
	if c.unread <= int64(c.cfg.ConnWindow)/8 {
		due += c.growConn()
	}
	c.recvWin += due
	c.ready()
	c.out = appendWindowUpdate(c.out, 0, uint32(due))
	c.kick()
}

// topUpStream returns stream window once half of it is due: what is neither unread nor granted. After shrink a stream may
// have been granted less than nothing; then its reader first catches up.
func (c *Conn) topUpStream(st *stream) {
	if st.window-int64(st.buffered)-max(0, st.recvWin) < st.window/2 || st.inEnd || st.over || st.discard {
		return
	}
	c.growStream(st)
	due := st.window - int64(st.buffered) - st.recvWin
	st.recvWin += due
	c.ready()
	c.out = appendWindowUpdate(c.out, st.id, uint32(due))
	c.kick()
}

// growStream makes st's window larger if that, and not its reader, bounds what arrives: half of it has been read within one round
// trip, so that it is less than twice what the path holds. A reader that leaves a quarter unread never has it grow.
func (c *Conn) growStream(st *stream) {
	last := st.creditAt
	st.creditAt = c.s.Now()
	if int64(st.buffered) > st.window/4 || last == 0 {
		return
	}
	w, step := &c.win, int64(0)
	switch {
	case w.level > 0 && st.window < levelOneWindow:
		step = levelOneWindow - st.window // a reader that goes on where others stall
	case st.window >= int64(c.cfg.MaxStreamWindow) || w.level == 0 && c.unread > int64(c.cfg.ConnWindow)/4:
	case c.windowBound(st.creditAt.Sub(last)):
		step = min(max(st.window, w.learned-st.window), int64(c.cfg.MaxStreamWindow)-st.window)
	}
	step = c.allowance(step)
	st.window += step
	w.extra += step
	w.learned = max(w.learned, st.window)
}

// growConn makes the connection's window larger if that bounds what arrives, and returns by how much.
func (c *Conn) growConn() int64 {
	w := &c.win
	last := w.creditAt
	w.creditAt = c.s.Now()
	if last == 0 || w.level > 0 || c.cfg.MaxStreamWindow <= c.cfg.StreamWindow || !c.windowBound(w.creditAt.Sub(last)) {
		return 0
	}
	step := c.allowance(w.size)
	w.size += step
	return step
}

// allowance is how much of step MaxHeld leaves for growth. base/8 is kept for streams whose readers go on where others stall.
func (c *Conn) allowance(step int64) int64 {
	w, base := &c.win, int64(c.cfg.ConnWindow)
	room := int64(c.cfg.MaxHeld) - base - w.size - w.extra
	if w.level == 0 {
		room -= base / 8
	}
	return max(0, min(step, room))
}

// windowBound reports whether a window of which half has taken d to be used bounds what arrives. It goes by the least round
// trip of the last seconds: one that waited behind data says nothing of the path. A peer that answers PING late makes its
// windows grow sooner, up to the bounds, and only while they are read as fast.
func (c *Conn) windowBound(d time.Duration) bool {
	a := &c.alive
	now := c.s.Now()
	least := a.leastRTT()
	if least < leastRTT || d >= 2*least {
		return false
	}
	if a.pingAt == 0 && c.cfg.PingIdle > 0 && now.Sub(a.lastPing) >= probeEvery {
		c.ping(now)
	}
	return d < least
}

// shrink tells the peer of smaller windows, because more than half of ConnWindow is unread: those of streams whose readers
// stall, if there are many, could otherwise use up the connection's. RFC 9113 section 6.9.2: "When the value of
// SETTINGS_INITIAL_WINDOW_SIZE changes, a receiver MUST adjust the size of all stream flow-control windows that it maintains
// by the difference between the new value and the old value." They may become negative, as here those of the stalled.
func (c *Conn) shrink() {
	base := int64(c.cfg.ConnWindow)
	level := 1
	if c.unread > base/4*3 {
		level = 2
	}
	if level > c.win.level {
		c.announce(level)
	}
}

// restore gives the streams their windows back once what was unread has been read. Called by tick.
func (c *Conn) restore() {
	base := int64(c.cfg.ConnWindow)
	switch w := &c.win; {
	case w.level > 0 && c.unread <= base/4:
		c.announce(0)
	case w.level == 2 && c.unread <= base/2:
		c.announce(1)
	}
}

// announce sends the stream window of level, unless what was sent before is not acknowledged yet.
func (c *Conn) announce(level int) {
	w := &c.win
	if c.failed || !c.acked || w.initial != w.announced {
		return
	}
	window := int64(c.cfg.StreamWindow)
	if level > 0 {
		window = min(window, levelOneWindow)
	}
	if level > 1 {
		window = min(window, max(leastWindow, int64(c.cfg.ConnWindow)/4/int64(c.cfg.MaxStreams)))
	}
	w.level = level
	if window == w.announced {
		return
	}
	w.announced = window
	c.ready()
	c.out = appendFrameHeader(c.out, settingLen, frameSettings, 0, 0)
	c.out = appendSetting(c.out, settingInitialWindow, uint32(window))
	c.kick()
}

// gotAck handles the acknowledgement of SETTINGS: what follows goes by them.
func (c *Conn) gotAck() {
	w := &c.win
	if !c.acked {
		c.acked = true
		c.alive.sample(c.s.Now(), c.s.Now().Sub(c.alive.started))
		return
	}
	if w.initial == w.announced {
		return
	}
	w.initial = w.announced
	for st := range c.streams.all() {
		delta := w.initial - st.initial
		st.recvWin += delta
		st.window += delta
		st.initial = w.initial
		c.topUpStream(st)
	}
	c.topUp()
}
