package http3

import "github.com/pillion-proxy/pillion/proxy/task"

// What a peer may do how often. An honest peer stays far below; one that does not gets H3_EXCESSIVE_LOAD, and the connection ends.
const (
	// What costs us work and the peer little: unknown frames, settings and streams, empty DATA, 1xx answers, GOAWAY. A request gives one back.
	cheapBurst     = 1000
	cheapPerSecond = 500
	// maxUnknown bounds the payload of a frame of an unknown type, in bytes.
	maxUnknown = 64 << 10
	// Streams that the peer resets, opens beyond what it may, or makes us reset. One that ends in order gives one back.
	resetBurst     = 1000
	resetPerSecond = 33
	// Handlers that still run after their stream has gone count too, up to this many times MaxStreams.
	runningFactor = 2
	// maxInforms bounds the 1xx answers to one request.
	maxInforms = 100
)

// limits counts against them.
type limits struct{ cheap, resets bucket }

func (l *limits) init(now task.Instant) {
	l.cheap = bucket{tokens: cheapBurst, burst: cheapBurst, rate: cheapPerSecond, last: now}
	l.resets = bucket{tokens: resetBurst, burst: resetBurst, rate: resetPerSecond, last: now}
}

// charge takes for something cheap. mu is not held.
func (c *Conn) charge(what string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.limits.cheap.take(c.s.Now()) {
		return nil
	}
	return &ConnError{Code: ErrExcessiveLoad, Reason: "too many " + what}
}

// chargeReset takes for one stream that came to nothing. A client is not bounded: it opens the streams. mu is held.
func (c *Conn) chargeReset(what string) {
	if c.server && !c.failed && !c.limits.resets.take(c.s.Now()) {
		c.breakOffLocked(&ConnError{Code: ErrExcessiveLoad, Reason: "too many " + what})
	}
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
