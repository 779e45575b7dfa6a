package main

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// setBuffers asks for buffers of size bytes, by privilege if there is one, and returns what there is.
func setBuffers(c *net.UDPConn, size int) (receive, send int) {
	_, _ = c.SetReadBuffer(size), c.SetWriteBuffer(size)
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, 0
	}
	err = raw.Control(func(fd uintptr) {
		receive = setBuffer(int(fd), unix.SO_RCVBUF, unix.SO_RCVBUFFORCE, size)
		send = setBuffer(int(fd), unix.SO_SNDBUF, unix.SO_SNDBUFFORCE, size)
	})
	if err != nil {
		return 0, 0
	}
	return receive, send
}

// setBuffer returns how many bytes of the buffer are for what is received or sent.
func setBuffer(fd, option, force, size int) int {
	n := usable(fd, option)
	if n < size {
		_ = unix.SetsockoptInt(fd, syscall.SOL_SOCKET, force, size) // works only with CAP_NET_ADMIN
		n = usable(fd, option)
	}
	return n
}

// usable is what a buffer was set to. socket(7): "The kernel doubles this value (to allow space for bookkeeping overhead) when it is set [...], and
// this doubled value is returned by getsockopt(2)."
func usable(fd, option int) int {
	n, err := unix.GetsockoptInt(fd, syscall.SOL_SOCKET, option)
	if err != nil {
		return 0
	}
	return n / 2
}
