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

// TestPace: garbage is collected less often while much is allocated and little is in use, and as ever otherwise.
func TestPace(t *testing.T) {
	const mib = 1 << 20
	var now usage
	var set []int
	m := &memory{look: func() usage { return now }, free: func() {}, percent: usualPace, setPace: func(percent int) { set = append(set, percent) }}
	for _, c := range []struct {
		what            string
		allocated, live uint64
		want            int // 0: as before
	}{
		{"a quiet start", 1 * mib, 4 * mib, 0},
		{"much is allocated", 200 * mib, 4 * mib, widestPace},
		{"it goes on", 300 * mib, 4 * mib, 0},
		{"more is in use", 300 * mib, 12 * mib, 200},
		{"less is allocated", 30 * mib, 12 * mib, 0},
		{"much is in use", 300 * mib, 100 * mib, usualPace},
		{"much is allocated again", 300 * mib, 0, widestPace},
		{"quiet again", 1 * mib, 4 * mib, usualPace},
		{"little is in use", 1 * mib, 2 * mib, smallPace},
		{"much is allocated where little is in use", 200 * mib, 2 * mib, widestPace},
		{"quiet, and little in use", 1 * mib, 2 * mib, smallPace},
		{"more is in use than little", 1 * mib, 5 * mib, usualPace},
	} {
		now.allocated += c.allocated
		now.live, set = c.live, nil
		m.step()
		if c.want == 0 && len(set) > 0 || c.want != 0 && (len(set) != 1 || set[0] != c.want) {
			t.Errorf("%s: set to %v, want %d", c.what, set, c.want)
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
	after := lookAtMemory()
	if after.live == 0 {
		t.Error("nothing is in use")
	}
	if after.held+size/2 > full.held {
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
