package main

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"
)

// memory gives back to the system what a burst of traffic has left. Go collects garbage when the heap grows; a sidecar allocates next to
// nothing per request, so after a burst its heap would stay for minutes as large as it was at the worst moment.
//
// Over TCP the collector's pace is Go's own: with 64 connections it runs once in 100,000 requests, and with a new connection for each of
// them a heap four times as large made no difference to the CPU per request. Over QUIC it did: see pace.
type memory struct {
	look    func() usage
	free    func()
	setPace func(percent int) // nil leaves that to whoever has set GOGC
	code    *pages

	low       uint64 // held after the last free, or less: what is needed
	allocated uint64 // at the last step
	quiet     int    // steps in a row
	percent   int    // the pace in force
}

// usage is read from the runtime, in bytes.
type usage struct {
	held      uint64 // from the system, and not given back
	allocated uint64 // ever
	live      uint64 // in use when garbage was last collected
}

const (
	memoryStep = 4 * time.Second
	quietSteps = 3        // as many without allocation to speak of, and the burst is over: by then the loops have emptied their pools
	quietBytes = 1 << 20  // of allocation in one step
	worthwhile = 2 << 20  // bytes held in vain; for less, nothing is done
	largeStart = 48 << 20 // bytes held after a start; a usual one holds some 15 MiB
	noLimit    = 1 << 60  // bytes; control groups without a limit say such numbers, or "max"
)

func newMemory() *memory {
	m := &memory{look: lookAtMemory, free: debug.FreeOSMemory, code: newPages(), percent: usualPace}
	if os.Getenv("GOGC") == "" {
		m.setPace = func(percent int) { debug.SetGCPercent(percent) }
	}
	return m
}

// begin takes what is held by now for needed: a start leaves so little garbage that a collection would cost more memory than it gives. One with thousands
// of services leaves more than is needed, and gives it back.
func (m *memory) begin() {
	if m.setPace != nil {
		m.pace(0, m.look().live)
	}
	if m.low = m.look().held; m.low < largeStart {
		return
	}
	m.free()
	m.low = m.look().held
}

// run steps until ctx ends. It begins when everything is ready.
func (m *memory) run(ctx context.Context) error {
	m.begin()
	m.code.start()
	tick := time.NewTicker(memoryStep)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			m.step()
			m.code.step()
		}
	}
}

// step frees once after a busy time.
func (m *memory) step() {
	now := m.look()
	allocated := now.allocated - m.allocated
	busy := allocated > quietBytes
	m.allocated = now.allocated
	if m.setPace != nil {
		m.pace(allocated, now.live)
	}
	m.low = min(m.low, now.held) // Go has collected by itself
	if busy {
		m.quiet = 0
		return
	}
	if m.quiet++; m.quiet < quietSteps || now.held < m.low+worthwhile {
		return
	}
	m.free()
	m.quiet, m.low = 0, m.look().held
}

// lookAtMemory costs microseconds and stops nothing.
func lookAtMemory() usage {
	s := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/gc/heap/live:bytes"},
	}
	metrics.Read(s)
	return usage{held: s[0].Value.Uint64() - s[1].Value.Uint64(), allocated: s[2].Value.Uint64(), live: s[3].Value.Uint64()}
}

// limitMemory tells the collector what the process's control group may use, so that it works harder before the kernel ends the process.
// GOMEMLIMIT, where it is set, has been heeded already.
func limitMemory() {
	limit := memoryLimit(os.ReadFile)
	if limit == 0 || debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return
	}
	debug.SetMemoryLimit(limit / 4 * 3) // the rest is for what the kernel counts beside it: sockets' buffers, pages of the executable
}

// memoryLimit returns the bytes that the control group may use, 0 if there is no limit. It sees the files that containers see.
func memoryLimit(read func(string) ([]byte, error)) int64 {
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		text, err := read(file)
		if err != nil {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err != nil || n <= 0 || n >= noLimit {
			return 0
		}
		return n
	}
	return 0
}
