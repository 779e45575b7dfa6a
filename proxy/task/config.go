package task

import (
	"log/slog"
	"runtime"
	"time"
)

// Config says how a Runtime runs. The zero value is usable.
type Config struct {
	// Loops is the number of shards. If zero, as many as the CPU limit of the process allows; connections
	// fill the first shard until it is busy, so idle shards cost nothing.
	Loops int
	// First is the index of the first shard: what another runtime of the same process has already. Zero on loops.
	First int
	// Logger gets panics and stalls of tasks. If nil, slog.Default().
	Logger *slog.Logger
	// StallAfter is how long a task may hold its loop before the watchdog reports it, which it does within a quarter of a second
	// of a stall that lasts, or of the next one after a turn that took as long. If zero, 10 ms; if negative, there is no
	// watchdog. Goroutines have none.
	StallAfter time.Duration
	// Linger bounds how long a closed Conn goes on sending what was queued. If zero, 5 s.
	Linger time.Duration
	// Grace bounds how long Run waits for tasks once its context has ended. A task that then still waits at a
	// Gate is logged by function and unwound. If zero, 1 s.
	Grace time.Duration
}

// withDefaults returns c with every zero field replaced.
func (c Config) withDefaults() Config {
	if c.Loops <= 0 {
		c.Loops = max(1, min(runtime.GOMAXPROCS(0), runtime.NumCPU(), cpuLimit()))
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.StallAfter == 0 {
		c.StallAfter = 10 * time.Millisecond
	}
	if c.Linger <= 0 {
		c.Linger = 5 * time.Second
	}
	if c.Grace <= 0 {
		c.Grace = time.Second
	}
	return c
}
