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
