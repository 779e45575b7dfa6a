package main

import (
	"os"
	"runtime/debug"
	"testing"
)

// TestMemoryIsFreedOnce: after a busy time, when it has been quiet for a while, and not again for what is in use.
func TestMemoryIsFreedOnce(t *testing.T) {
	const mib = 1 << 20
	now := usage{held: 3 * mib}
	needed, frees := uint64(2*mib), 0
	m := &memory{look: func() usage { return now }, free: func() { frees++; now.held = needed }, low: now.held}
	steps := func(n int) {
		for range n {
			m.step()
		}
	}
	expect := func(when string, want int) {
		t.Helper()
		if frees != want {
			t.Errorf("%s: freed %d times, want %d", when, frees, want)
		}
	}
	steps(10)
	expect("after the start", 0)

	for range 10 { // a burst
		now.held += 10 * mib
		now.allocated += 20 * mib
		m.step()
	}
	expect("in the burst", 0)
	steps(quietSteps - 1)
	expect("too early after the burst", 0)
	needed = 30 * mib
	steps(10)
	expect("after the burst", 1)
	steps(100)
	expect("in use, not garbage", 1)

	now.held = 3 * mib // by Go's own doing
	m.step()
	now.held = 10 * mib // a small burst
	steps(quietSteps)
	expect("after the small burst", 2)
}

// TestMemoryAfterTheStart: what a start with many services has left is freed, and nothing otherwise.
func TestMemoryAfterTheStart(t *testing.T) {
	for _, c := range []struct {
		held uint64
		want int
	}{{largeStart - 1, 0}, {largeStart, 1}} {
		frees := 0
		m := &memory{look: func() usage { return usage{held: c.held} }, free: func() { frees++ }}
		if m.begin(); frees != c.want || m.low != c.held {
			t.Errorf("with %d bytes held after the start: freed %d times, want %d; needed are %d", c.held, frees, c.want, m.low)
		}
	}
}

// TestMemoryIsRead: garbage of some size is seen, and seen to go.
func TestMemoryIsRead(t *testing.T) {
	const size = 64 << 20
	before := lookAtMemory()
	garbage := make([]byte, size)
	for i := 0; i < len(garbage); i += 4096 {
		garbage[i] = 1
	}
	full := lookAtMemory()
	if grown := full.allocated - before.allocated; grown < size {
		t.Errorf("allocated %d bytes, but see %d", size, grown)
	}
	debug.FreeOSMemory()
	if after := lookAtMemory(); after.held+size/2 > full.held {
		t.Errorf("held %d bytes, after the end of %d bytes of garbage %d", full.held, size, after.held)
	}
}

func TestMemoryLimit(t *testing.T) {
	const v2, v1 = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"
	tests := []struct {
		file, text string
		want       int64
	}{
		{v2, "67108864\n", 64 << 20},
		{v1, "67108864\n", 64 << 20},
		{v2, "max\n", 0},
		{v1, "9223372036854771712\n", 0},
		{v2, "", 0},
		{v2, "0\n", 0},
		{"/none", "1", 0},
	}
	for _, tt := range tests {
		read := func(name string) ([]byte, error) {
			if name != tt.file {
				return nil, os.ErrNotExist
			}
			return []byte(tt.text), nil
		}
		if got := memoryLimit(read); got != tt.want {
			t.Errorf("%s says %q: got %d, want %d", tt.file, tt.text, got, tt.want)
		}
	}
}
