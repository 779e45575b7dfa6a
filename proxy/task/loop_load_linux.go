package task

import (
	"sync/atomic"
	"time"
)

// load measures how much of its time a loop is awake.
type load struct {
	// Owned by the loop.
	start Instant       // of the window
	awake time.Duration // in the window

	// Any goroutine.
	permille atomic.Int32 // of the last window
	at       atomic.Int64 // the Instant of its end
	longest  atomic.Int64 // nanoseconds awake at a time, ever
}

const (
	loadWindow   = 100 * time.Millisecond
	loadStale    = time.Second // older than this, the loop sleeps
	busyPermille = 700
)

// busy notes a turn.
func (m *load) busy(d time.Duration) {
	m.awake += d
	if int64(d) > m.longest.Load() {
		m.longest.Store(int64(d))
	}
}

// publish ends the window if it is over, and reports whether it was.
func (m *load) publish(now Instant) bool {
	d := now.Sub(m.start)
	if d < loadWindow {
		return false
	}
	m.permille.Store(int32(min(1000, m.awake*1000/d)))
	m.at.Store(int64(now))
	m.start, m.awake = now, 0
	return true
}

// value is 0 to 1000.
func (m *load) value(now Instant) int32 {
	if now.Sub(Instant(m.at.Load())) > loadStale {
		return 0
	}
	return m.permille.Load()
}
