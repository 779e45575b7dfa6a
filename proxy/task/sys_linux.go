package task

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below never wait, so they skip the scheduler's bookkeeping, and they allocate nothing.

// maxSend bounds one send, in bytes, so that no call holds its thread for long.
const maxSend = 256 << 10

func sysRecv(fd int, p []byte, flags int) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))),
		uintptr(len(p)), uintptr(flags|unix.MSG_DONTWAIT), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

func sysSend(fd int, p []byte) (int, unix.Errno) {
	p = p[:min(len(p), maxSend)]
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))),
		uintptr(len(p)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// sendChunks sends what is unread in several buffers, at most maxChunks, with one call.
func (l *loop) sendChunks(fd int, chunks []*Buffer) (int, unix.Errno) {
	for i, b := range chunks {
		p := b.Unread()
		l.iovecs[i].Base = unsafe.SliceData(p)
		l.iovecs[i].SetLen(len(p))
	}
	l.msg.Iov = &l.iovecs[0]
	l.msg.SetIovlen(len(chunks))
	n, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&l.msg)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	clear(l.iovecs[:len(chunks)])
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// setTCP sets what package net sets by default: no delay, and probes of a silent peer from 15 s on.
func setTCP(fd int) {
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9)
}
