package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestCodeIsDroppedOnce: when all is ready, and when it is quiet after a busy time, but not again for what is needed.
func TestCodeIsDroppedOnce(t *testing.T) {
	const mib = 1 << 20
	var now usedPages
	needed, drops := uint64(2*mib), 0
	p := &pages{look: func() usedPages { return now }, drop: func() { drops++; now.resident = 0 }}
	steps := func(n int, cpu time.Duration) {
		for range n {
			now.resident = max(now.resident, needed)
			now.cpu += cpu
			p.step()
		}
	}
	expect := func(when string, want int) {
		t.Helper()
		if drops != want {
			t.Errorf("%s: dropped %d times, want %d", when, drops, want)
		}
	}
	now = usedPages{resident: 12 * mib, cpu: time.Second}
	p.start()
	expect("at the start", 1)
	needed = 1 * mib
	steps(10, 0)
	expect("idle", 1)

	needed = 9 * mib
	steps(10, 10*quietCPU)
	expect("in the burst", 1)
	needed = 5 * mib
	steps(quietSteps-1, 0)
	expect("too early after the burst", 1)
	steps(1, 0)
	expect("after the burst", 2)
	steps(100, quietCPU)
	expect("what has come back is needed", 2)

	needed = 6 * mib
	steps(100, quietCPU)
	expect("a little more", 2)
	now.resident, needed = 1*mib, 1*mib // the system has taken it
	steps(1, 0)
	needed = 4 * mib
	steps(quietSteps, 0)
	expect("more again", 3)
}

const someMaps = `00400000-00a9a000 r-xp 00000000 fe:00 1234   /opt/my pillion
Size:               6760 kB
Rss:                6248 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd ex mr mw me
00a9a000-011b2000 r--p 0069a000 fe:00 1234                       /opt/my pillion
Rss:                6752 kB
Anonymous:             0 kB
Swap:                  0 kB
011b2000-0121a000 rw-p 00db2000 fe:00 1234                       /opt/my pillion
Anonymous:             0 kB
Swap:                  0 kB
0121a000-0121b000 r--p 00db2000 fe:00 1234                       /opt/my pillion
Anonymous:             4 kB
Swap:                  0 kB
0121b000-0121c000 r--p 00db2000 fe:00 1234                       /opt/my pillion
Anonymous:             0 kB
Swap:                  8 kB
0121c000-0121d000 r--p 00db2000 fe:00 99                         /opt/pillion
Anonymous:             0 kB
0121d000-0325e000 r--p 00000000 00:00 0 
Anonymous:             0 kB
7fd1c43a2000-7fd1c43a4000 r-xp 00000000 00:00 0                  [vdso]
Anonymous:             0 kB
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0          [vsyscall]
Anonymous:             0 kB
`

// Only pages of which the file is another copy may go: not data, not relocated or patched code, not others' memory.
func TestCodeIsWhatWasNeverWritten(t *testing.T) {
	got := codeIn(strings.NewReader(someMaps), "/opt/my pillion")
	want := []mapping{{0x400000, 0xa9a000}, {0xa9a000, 0x11b2000}}
	if !slices.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	for _, broken := range []string{"", "\n", "x", "1-2", "1-2 r-xp", "2-1 r-xp 0 0 0 /x", "z-1 r-xp 0 0 0 /x", "1 r-xp 0 0 0 /x"} {
		if got := codeIn(strings.NewReader(broken), "/x"); len(got) != 0 {
			t.Errorf("%q: got %x, want none", broken, got)
		}
	}
}
