package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// isTerminal reports whether f, which may be anything that is written to or read from, is a terminal.
func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	if !ok || file == nil {
		return false
	}
	_, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	return err == nil
}
