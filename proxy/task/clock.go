package task

import "time"

// processStart is the origin of Instant. It never changes.
var processStart = time.Now()

// Now reads the clock. On a shard, Shard.Now is cheaper.
func Now() Instant { return Instant(time.Since(processStart)) + 1 }

// wall converts t for package net; the zero Instant becomes the zero Time, which means no deadline.
func (t Instant) wall() time.Time {
	if t == 0 {
		return time.Time{}
	}
	return processStart.Add(time.Duration(t - 1))
}
