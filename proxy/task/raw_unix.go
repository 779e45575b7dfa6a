//go:build unix

package task

import (
	"io"
	"net"
	"syscall"
)

// rawConn is the descriptor of a net.Conn, for what package net does not offer: to wait without reading and
// to send without waiting.
type rawConn struct{ c syscall.RawConn }

// newRawConn returns nil for anything but a TCP or Unix connection.
func newRawConn(nc net.Conn) *rawConn {
	switch nc := nc.(type) {
	case *net.TCPConn:
		if rc, err := nc.SyscallConn(); err == nil {
			return &rawConn{rc}
		}
	case *net.UnixConn:
		if rc, err := nc.SyscallConn(); err == nil {
			return &rawConn{rc}
		}
	}
	return nil
}

// awaitReadable waits until a read would not: nil for bytes, io.EOF at the end, or the error of the connection.
func (r *rawConn) awaitReadable() error {
	var one [1]byte
	var n int
	var recvErr error
	err := r.c.Read(func(fd uintptr) bool {
		for {
			n, _, recvErr = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK)
			if recvErr != syscall.EINTR {
				return recvErr != syscall.EAGAIN
			}
		}
	})
	switch {
	case err != nil:
		return err
	case recvErr != nil:
		return recvErr
	case n == 0:
		return io.EOF
	}
	return nil
}

// send writes what the kernel takes now.
func (r *rawConn) send(p []byte) (int, error) {
	var n int
	var sendErr error
	err := r.c.Write(func(fd uintptr) bool {
		for n < len(p) {
			var m int
			m, sendErr = syscall.Write(int(fd), p[n:])
			if sendErr == syscall.EINTR {
				continue
			}
			if sendErr != nil {
				break
			}
			n += m
		}
		return true
	})
	if err != nil {
		return n, err
	}
	if sendErr == syscall.EAGAIN {
		sendErr = nil
	}
	return n, sendErr
}
