package main

import (
	"bufio"
	"bytes"
	"io"
	"strconv"
	"time"
)

// pages gives back what of the program itself, its code and constants, is in memory without being needed: a start, or a burst, runs through much that
// an idle sidecar does not. Such pages are clean and the system's own: they stay in its cache as long as it likes, other processes of the same file keep theirs, and
// whatever is needed again comes back from there 64 KiB at a time, for about a microsecond each.
//
// It happens once everything is ready, and after each busy time. Busy is who uses the processor: a sidecar carries requests without allocating.
type pages struct {
	look func() usedPages
	drop func()

	low   uint64        // resident after the last drop, or less: what is needed
	cpu   time.Duration // at the last step
	quiet int           // steps in a row
	after bool          // the step after a drop, which says what came back at once
}

// usedPages is what the system says of this process; zero where it says nothing.
type usedPages struct {
	resident uint64        // bytes of files
	cpu      time.Duration // used so far, user and system
}

const (
	quietCPU       = memoryStep / 200 // half a percent of one processor
	worthwhileCode = 2 << 20          // bytes; for less, nothing is done
)

// start drops what only the start has needed.
func (p *pages) start() {
	p.drop()
	p.low, p.cpu = p.look().resident, p.look().cpu
}

// step drops once after a busy time.
func (p *pages) step() {
	now := p.look()
	busy := now.cpu-p.cpu > quietCPU
	p.cpu = now.cpu
	if p.after {
		p.after, p.low = false, now.resident
	}
	p.low = min(p.low, now.resident) // the system has taken some
	if busy {
		p.quiet = 0
		return
	}
	if p.quiet++; p.quiet < quietSteps || now.resident < p.low+worthwhileCode {
		return
	}
	p.drop()
	p.quiet, p.after = 0, true
}

// mapping is a range of this process's memory.
type mapping struct{ from, to uintptr }

// codeIn finds, in /proc/self/smaps, what was mapped from the file exe and never written to. A page that was written to, as those with
// relocations and those that a debugger or a uprobe has changed, has no other copy: a range with such pages is left out whole.
func codeIn(smaps io.Reader, exe string) []mapping {
	var found []mapping
	candidate := false
	for lines := bufio.NewScanner(smaps); lines.Scan(); {
		name, value, _ := bytes.Cut(lines.Bytes(), []byte(" "))
		switch {
		case !bytes.HasSuffix(name, []byte(":")):
			var m mapping
			if m, candidate = codeAt(name, value, exe); candidate {
				found = append(found, m)
			}
		case !candidate:
		case bytes.Equal(name, []byte("Anonymous:")), bytes.Equal(name, []byte("Swap:")):
			if string(bytes.TrimSpace(value)) != "0 kB" {
				candidate = false
				found = found[:len(found)-1]
			}
		}
	}
	return found
}

// codeAt reads the first line of a mapping, as in "00400000-00a9a000 r-xp 00000000 fe:00 1234   /usr/bin/pillion".
func codeAt(addrs, rest []byte, exe string) (mapping, bool) {
	perms, rest, _ := bytes.Cut(rest, []byte(" "))
	for range 3 { // offset, device, inode
		_, rest, _ = bytes.Cut(rest, []byte(" "))
	}
	if len(perms) != 4 || perms[0] != 'r' || perms[1] != '-' || perms[3] != 'p' || string(bytes.TrimLeft(rest, " ")) != exe {
		return mapping{}, false
	}
	from, to, _ := bytes.Cut(addrs, []byte("-"))
	start, err1 := strconv.ParseUint(string(from), 16, strconv.IntSize)
	end, err2 := strconv.ParseUint(string(to), 16, strconv.IntSize)
	return mapping{uintptr(start), uintptr(end)}, err1 == nil && err2 == nil && start < end
}
