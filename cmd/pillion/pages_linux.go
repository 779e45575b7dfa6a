package main

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

func newPages() *pages { return &pages{look: lookAtPages, drop: dropPages} }

// dropPages takes the program's own pages out of this process. Where it cannot it does nothing.
func dropPages() {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	smaps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer smaps.Close()
	for _, m := range codeIn(smaps, exe) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED) // no memory of Go's, so no slice either
	}
}

// lookAtPages costs microseconds.
func lookAtPages() usedPages {
	var u usedPages
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) == nil {
		u.cpu = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	statm, err := os.ReadFile("/proc/self/statm") // size, resident, and resident of files, in pages
	if fields := bytes.Fields(statm); err == nil && len(fields) > 2 {
		n, _ := strconv.ParseUint(string(fields[2]), 10, 64)
		u.resident = n * uint64(os.Getpagesize())
	}
	return u
}
