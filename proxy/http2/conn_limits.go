package http2

import "github.com/pillion-proxy/pillion/proxy/task"

// What a peer may do how often. An honest peer stays far below; one that does not gets
// GOAWAY(ENHANCE_YOUR_CALM), and the connection ends.
const (
	// Frames that cost us work and the peer nothing: PING, SETTINGS, PRIORITY, GOAWAY, empty DATA and HEADERS, unknown types.
	// DATA and HEADERS that carry something give one back.
	cheapBurst     = 1000
	cheapPerSecond = 500
	// Streams that the peer resets (CVE-2023-44487), opens beyond what it may, or makes us reset (CVE-2025-8671). A stream
	// that ends in order gives one back.
	resetBurst     = 1000
	resetPerSecond = 33
	// WINDOW_UPDATE frames follow the data that we send.
	windowBurst   = 1000
	windowPerData = 10
	// Handlers that still run after their stream has gone count too, up to this many times MaxStreams.
	runningFactor = 2
)

// limits counts against them.
type limits struct {
	cheap, resets bucket
	windows       uint64 // WINDOW_UPDATE frames
	sent          uint64 // DATA frames sent

	maxStreamsSeen bool
}

func (l *limits) init(now task.Instant) {
	l.cheap = bucket{tokens: cheapBurst, burst: cheapBurst, rate: cheapPerSecond, last: now}
	l.resets = bucket{tokens: resetBurst, burst: resetBurst, rate: resetPerSecond, last: now}
}

func (l *limits) reward()      { l.cheap.give() }
func (l *limits) rewardReset() { l.resets.give() }

// charge takes for one cheap frame.
func (c *Conn) charge(what string) error {
	if c.limits.cheap.take(c.s.Now()) {
		return nil
	}
	return calm("too many " + what)
}

// chargeReset takes for one stream that came to nothing. A client is not bounded: it opens the streams.
func (c *Conn) chargeReset(what string) error {
	if !c.server || c.limits.resets.take(c.s.Now()) {
		return nil
	}
	return calm("too many " + what)
}

// chargeWindow takes for one WINDOW_UPDATE.
func (c *Conn) chargeWindow() error {
	c.limits.windows++
	if c.limits.windows <= windowBurst+windowPerData*(c.limits.sent+c.opened) {
		return nil
	}
	return calm("too many WINDOW_UPDATE frames")
}

// bucket is a token bucket.
type bucket struct {
	tokens, burst, rate float64
	last                task.Instant
}

func (b *bucket) take(now task.Instant) bool {
	b.tokens = min(b.burst, b.tokens+now.Sub(b.last).Seconds()*b.rate)
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func (b *bucket) give() {
	if b.tokens < b.burst {
		b.tokens++
	}
}
