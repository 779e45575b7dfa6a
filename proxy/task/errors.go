package task

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// plainError strips what package net wraps around the few errors on which callers branch.
func plainError(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	var errno syscall.Errno
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ErrDeadline
	case errors.Is(err, net.ErrClosed):
		return ErrClosed
	case errors.Is(err, io.ErrClosedPipe):
		return syscall.EPIPE
	case errors.As(err, &errno):
		return errno
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return ErrDeadline
	}
	return err
}

// isReset reports whether err says that the peer has reset the connection.
func isReset(err error) bool { return err == syscall.ECONNRESET || err == syscall.EPIPE }
