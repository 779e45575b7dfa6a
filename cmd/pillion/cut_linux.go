package main

import (
	"os"
	"strconv"
	"syscall"
)

// resetOnClose makes the end of every open connection a reset, also of those that the kernel closes when the process ends: what is cut must not
// look like an orderly end, by which the other side would take part of a stream for the whole. Listeners do not mind, nor do files.
func resetOnClose() {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return // then they end in the kernel's way
	}
	for _, f := range files {
		if fd, err := strconv.Atoi(f.Name()); err == nil {
			_ = syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
		}
	}
}
