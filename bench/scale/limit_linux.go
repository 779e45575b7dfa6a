package main

import "syscall"

// descriptors is what the largest values need in this process: client and app sides of 10,000 connections.
const descriptors = 25_000

// raiseLimit raises the limit of open files of this process, and so of those that it starts, as far as it may.
func raiseLimit() {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil || l.Cur >= descriptors {
		return
	}
	high := syscall.Rlimit{Cur: descriptors, Max: max(l.Max, descriptors)}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &high) != nil { // only root may raise the upper limit
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: l.Max, Max: l.Max})
	}
}
