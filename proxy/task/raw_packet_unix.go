//go:build unix

package task

import (
	"net"
	"net/netip"
	"syscall"
)

const msgTrunc = syscall.MSG_TRUNC

// rawPacket is the descriptor of a UDP socket, for what package net does not offer: to wait without reading and to send without waiting.
type rawPacket struct{ c syscall.RawConn }

func newRawPacket(nc *net.UDPConn) *rawPacket {
	c, err := nc.SyscallConn()
	if err != nil {
		return &rawPacket{}
	}
	return &rawPacket{c}
}

func (r *rawPacket) control(f func(fd int)) {
	if r.c != nil {
		_ = r.c.Control(func(fd uintptr) { f(int(fd)) })
	}
}

func (r *rawPacket) isIPv6() (six bool) {
	r.control(func(fd int) {
		sa, _ := syscall.Getsockname(fd)
		_, six = sa.(*syscall.SockaddrInet6)
	})
	return six
}

func (r *rawPacket) wantInfo(local netip.Addr) (ok bool) {
	r.control(func(fd int) { ok = wantInfo(fd, local) })
	return ok
}

func (r *rawPacket) lost() (n uint64) {
	r.control(func(fd int) { n = kernelLost(fd) })
	return n
}

// awaitReadable waits until a datagram, or an error, is there. An error is taken.
func (r *rawPacket) awaitReadable() error {
	var one [1]byte
	var recvErr error
	err := r.c.Read(func(fd uintptr) bool {
		for {
			_, _, recvErr = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK)
			if recvErr != syscall.EINTR {
				return recvErr != syscall.EAGAIN
			}
		}
	})
	if err != nil {
		return err
	}
	return recvErr
}

// send sends p, or loses it if the kernel has no room. to is not valid on a connected socket.
func (r *rawPacket) send(p, oob []byte, to netip.AddrPort, six bool) error {
	var sa syscall.Sockaddr
	switch {
	case !to.IsValid():
	case six:
		zone, _ := net.InterfaceByName(to.Addr().Zone())
		s := &syscall.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}
		if zone != nil {
			s.ZoneId = uint32(zone.Index)
		}
		sa = s
	default:
		sa = &syscall.SockaddrInet4{Addr: to.Addr().Unmap().As4(), Port: int(to.Port())}
	}
	var sendErr error
	err := r.c.Write(func(fd uintptr) bool {
		for {
			_, sendErr = syscall.SendmsgN(int(fd), p, oob, sa, syscall.MSG_DONTWAIT)
			if sendErr != syscall.EINTR {
				return true
			}
		}
	})
	if err != nil {
		return err
	}
	if sendErr == syscall.EAGAIN || sendErr == syscall.ENOBUFS {
		return ErrNoRoom
	}
	return sendErr
}
