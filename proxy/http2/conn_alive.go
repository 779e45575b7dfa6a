package http2

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/pillion-proxy/pillion/proxy/task"
)

// alive is how a connection knows that its peer is there. All times are the shard's.
type alive struct {
	every     time.Duration // between ticks
	timer     task.Timer
	shutdown  task.Timer
	ticked    task.Instant
	started   task.Instant
	lastHeard task.Instant
	idleSince task.Instant // when the last stream ended
	pingAt    task.Instant // when the PING that is not answered yet was sent, or 0
	lastPing  task.Instant // when the last PING was sent; under load one is sent now and then for its round trip
	askedAt   task.Instant // client: when a request was sent, after which neither a head nor an answer to PING has come; or 0
	suspect   bool         // client: the peer is silent in spite of a request and a PING; new streams go elsewhere
	payload   uint64
	lost      int // PINGs without an answer, in a row
	rtt       time.Duration
	least     [2]time.Duration // the least round trip of this epoch and of the one before, or 0
	epoch     task.Instant     // when this one began
}

const (
	pingShutdown = 1 << 63          // payload of Shutdown's PING
	settleWithin = 10 * time.Second // for the peer's first SETTINGS
	maxLostPings = 2
	slimAfter    = 4 * time.Second // of idleness
	doubtAfter   = 2 * time.Second // of silence since a request
	leastEpoch   = 10 * time.Second
)

func (a *alive) heard(now task.Instant) { a.lastHeard = now }

// asked notes that the peer has a reason to speak.
func (a *alive) asked(now task.Instant) {
	if a.askedAt == 0 {
		a.askedAt = now
	}
}

// silent reports whether nothing has been heard for d, nor since then.
func (a *alive) silent(now, since task.Instant, d time.Duration) bool {
	return since != 0 && now.Sub(max(since, a.lastHeard)) >= d
}

func (a *alive) stop() {
	for _, t := range []task.Timer{a.timer, a.shutdown} {
		if t != nil {
			t.Stop()
		}
	}
	a.timer, a.shutdown = nil, nil
}

// sample adds a measurement, RFC 6298 style.
func (a *alive) sample(now task.Instant, d time.Duration) {
	d = max(d, 1)
	if now.Sub(a.epoch) >= leastEpoch {
		a.least[1], a.least[0], a.epoch = a.least[0], 0, now
	}
	if a.least[0] == 0 || d < a.least[0] {
		a.least[0] = d
	}
	if a.rtt == 0 {
		a.rtt = d
		return
	}
	a.rtt += (d - a.rtt) / 8
}

// leastRTT is the least round trip measured in this epoch or the one before; 0 while unknown.
func (a *alive) leastRTT() time.Duration {
	if a.least[1] != 0 && a.least[1] < a.least[0] {
		return a.least[1]
	}
	return a.least[0]
}

func (c *Conn) startClock() {
	a := &c.alive
	now := c.s.Now()
	a.started, a.lastHeard, a.idleSince, a.ticked, a.lastPing = now, now, now, now, now
	a.every = 5 * time.Second
	for _, d := range []time.Duration{c.cfg.PingIdle / 2, c.cfg.DeadAfter / 8, c.cfg.IdleTimeout / 2} {
		if d > 0 {
			a.every = min(a.every, d)
		}
	}
	a.every = max(a.every, 4*time.Millisecond)
	a.timer = c.s.After(a.every, c.tickFn)
}

// tick looks after the connection every few seconds.
func (c *Conn) tick() {
	c.s.Lock()
	defer c.unlock()
	if c.failed {
		return
	}
	a := &c.alive
	now := c.s.Now()
	every := a.every
	if a.askedAt != 0 || !c.server && c.pushes != c.pushesTick {
		every = min(every, doubtAfter/2) // a connection in use is looked after more often
	}
	c.slim(now)
	c.restore()
	late := now.Sub(a.ticked) > 2*a.every+time.Second
	a.ticked = now
	a.timer = c.s.After(every, c.tickFn)
	if late {
		// This process was stopped: what the peer has sent meanwhile waits to be read. Judge next time.
		return
	}
	if reason := c.dead(now); reason != "" {
		c.fail(fmt.Errorf("%s: %w", reason, task.ErrDeadline))
		return
	}
	if c.cfg.PingIdle > 0 && a.pingAt == 0 && c.settled &&
		(now.Sub(a.lastHeard) >= c.cfg.PingIdle || now.Sub(a.lastPing) >= 3*c.cfg.PingIdle || a.silent(now, a.askedAt, doubtAfter)) {
		c.ping(now)
	}
	if !a.suspect && a.askedAt != 0 && c.cfg.DeadAfter > 0 && a.silent(now, a.pingAt, c.cfg.DeadAfter/8) {
		a.suspect, c.changed = true, true
	}
	if c.cfg.IdleTimeout > 0 && c.streams.len() == 0 && !c.goingAway && now.Sub(a.idleSince) >= c.cfg.IdleTimeout {
		c.goingAway, c.changed = true, true
		c.lastAccepted = c.lastPeer
		c.ready()
		c.out = appendGoAway(c.out, c.lastPeer, ErrNo, "idle")
		c.closeIfDone()
	}
}

// slim gives memory back that only a busy connection needs. The lock is held.
func (c *Conn) slim(now task.Instant) {
	if c.pushes == c.pushesTick && len(c.out) == 0 && c.out != nil && !c.flushing {
		c.letGo(c.out, c.outBuf) // streams are open, and quiet
		c.out, c.outBuf = nil, nil
	}
	c.pushesTick = c.pushes
	if !c.slabUsed {
		c.slab = nil
	}
	c.slabUsed = false
	used := c.free != nil || cap(c.head.saved) > keptSaved || c.enc.memory != nil || c.head.memo.state != nil || c.resetIDs != nil || c.endedIDs != nil
	if used && c.streams.len() == 0 && c.running == 0 && now.Sub(c.alive.idleSince) >= slimAfter {
		c.forgotten = c.lastPeer
		c.win.slim(&c.cfg)
		c.enc.forget()
		c.head.slim()
		c.head.forget()
		c.free, c.endedIDs, c.resetIDs = nil, nil, nil
		c.streams = streamTable{}
	}
}

// dead says why the peer counts as dead, or "". A lost PING is followed by the next one.
func (c *Conn) dead(now task.Instant) string {
	a := &c.alive
	if !c.settled && now.Sub(a.started) >= settleWithin {
		return "no SETTINGS from the peer"
	}
	if c.cfg.DeadAfter <= 0 {
		return ""
	}
	if a.pingAt != 0 && now.Sub(a.lastHeard) >= c.cfg.DeadAfter {
		return "nothing from the peer in spite of PING"
	}
	if a.pingAt != 0 && now.Sub(a.pingAt) >= c.cfg.DeadAfter/2 {
		if a.lost++; a.lost >= maxLostPings {
			return "two PINGs without an answer"
		}
		c.ping(now)
	}
	return ""
}

func (c *Conn) ping(now task.Instant) {
	a := &c.alive
	a.payload++
	a.pingAt, a.lastPing = now, now
	c.ready()
	c.out = appendPing(c.out, 0, a.payload)
	c.kick()
}

// gotPong handles an answer to PING. One that nobody asked for is ignored.
func (c *Conn) gotPong(payload uint64) {
	a := &c.alive
	switch {
	case payload == pingShutdown && a.shutdown != nil:
		a.shutdown.Stop()
		a.shutdown = nil
		c.sayLast()
	case payload == a.payload && a.pingAt != 0:
		a.sample(c.s.Now(), c.s.Now().Sub(a.pingAt))
		a.pingAt, a.lost, a.askedAt = 0, 0, 0
	}
}

// gotSettings handles SETTINGS, RFC 9113 section 6.5.
func (c *Conn) gotSettings(h frameHeader, b []byte) error {
	if h.has(flagAck) {
		c.gotAck()
		return c.charge("SETTINGS acknowledgements")
	}
	if err := c.charge("SETTINGS frames"); err != nil {
		return err
	}
	before := c.available()
	for ; len(b) > 0; b = b[settingLen:] {
		if err := c.setting(settingID(binary.BigEndian.Uint16(b)), binary.BigEndian.Uint32(b[2:])); err != nil {
			return err
		}
	}
	if !c.settled {
		c.changed = true
		c.settled = true
		if c.server {
			c.peerMaxStreams = 0
		} else if !c.limits.maxStreamsSeen {
			c.peerMaxStreams = maxWindow
		}
		for _, st := range c.settleWait {
			st.recvGate.Wake()
		}
		c.settleWait = nil
	}
	if before == 0 && c.available() > 0 {
		c.changed = true
	}
	c.ready()
	c.out = appendFrameHeader(c.out, 0, frameSettings, flagAck, 0)
	c.kick()
	return nil
}

func (c *Conn) setting(id settingID, v uint32) error {
	switch id {
	case settingHeaderTableSize:
		c.enc.setTableSize(v)
	case settingEnablePush:
		if v > 1 || v == 1 && !c.server {
			return protocolError("bad SETTINGS_ENABLE_PUSH")
		}
	case settingMaxStreams:
		c.peerMaxStreams, c.limits.maxStreamsSeen = v, true
	case settingInitialWindow:
		return c.setWindow(v)
	case settingMaxFrame:
		if v < minMaxFrame || v > maxMaxFrame {
			return protocolError("bad SETTINGS_MAX_FRAME_SIZE")
		}
		c.maxFrame = int(v)
	case settingMaxHeaderList:
		c.peerMaxHead = v
	case settingConnectProtocol:
		if v > 1 || v == 0 && c.peerConnect {
			return protocolError("bad SETTINGS_ENABLE_CONNECT_PROTOCOL")
		}
		c.peerConnect = v == 1
	case settingPillion:
		c.pillion = c.cfg.Pillion && v == pillionVersion
		c.head.setVerbatim(c.pillion)
	}
	return nil
}

// setWindow changes the windows of all streams by the difference, RFC 9113 section 6.9.2.
func (c *Conn) setWindow(v uint32) error {
	if v > maxWindow {
		return &ConnError{Code: ErrFlowControl, Reason: "bad SETTINGS_INITIAL_WINDOW_SIZE"}
	}
	delta := int64(v) - c.peerWindow
	c.peerWindow = int64(v)
	for st := range c.streams.all() {
		if st.sendWin+delta > maxWindow {
			return &ConnError{Code: ErrFlowControl, Reason: "SETTINGS_INITIAL_WINDOW_SIZE makes a window too large"}
		}
		c.widen(st, delta)
	}
	return nil
}
