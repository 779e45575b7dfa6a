package task

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below never wait, so they skip the scheduler's bookkeeping, and they allocate nothing. They are small enough to be inlined, and use
// package syscall, since what package unix has is two more functions around the same: after a system call, as after a switch of coroutines, the
// processor has forgotten where its functions return to, and each of those that it was called through costs some 5 ns.

const sendFlags = unix.MSG_NOSIGNAL | unix.MSG_DONTWAIT

// sysRecv returns -1 with an error.
func sysRecv(fd int32, p []byte) (n int, errno unix.Errno) {
	r, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_DONTWAIT, 0, 0)
	return int(r), errno
}

// sysPeek is sysRecv that leaves everything where it is.
func sysPeek(fd int32, p []byte) (n int, errno unix.Errno) {
	r, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_DONTWAIT|unix.MSG_PEEK, 0, 0)
	return int(r), errno
}

// sysSend returns -1 with an error.
func sysSend(fd int32, p []byte) (n int, errno unix.Errno) {
	r, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), sendFlags, 0, 0)
	return int(r), errno
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
	n, _, errno := syscall.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&l.msg)), sendFlags)
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
