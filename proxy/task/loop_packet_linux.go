package task

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// loopPacket is a PacketConn on a loop.
type loopPacket struct {
	// Static after construction.
	l             *loop
	six           bool // the socket is one of IPv6
	info          bool // the kernel tells each datagram's local address
	local, remote netip.AddrPort

	fd       int32 // -1 once closed
	readable bool  // recvmsg may have something: an event since it last had nothing
	fresh    bool  // and nothing has been received since that event, which told of no error
	deadline Instant
	reader   *loopTask // parked in Receive or WaitReadable
	lost     uint64    // once closed
}

// packetScratch is what one system call needs; a loop has one.
type packetScratch struct {
	msg  unix.Msghdr
	iov  unix.Iovec
	name unix.RawSockaddrAny
	oob  [infoSize]byte
}

const packetEvents = unix.EPOLLIN | unix.EPOLLET

// AdoptPacket takes the descriptor out of Go's netpoller.
func (l *loop) AdoptPacket(nc *net.UDPConn) (PacketConn, error) {
	defer nc.Close()
	fd, err := dupFd(nc)
	if err != nil {
		return nil, fmt.Errorf("adopt: %w", err)
	}
	local, remote := addrPort(nc.LocalAddr()), addrPort(nc.RemoteAddr())
	c, err := l.newPacket(fd, local, remote)
	if err != nil {
		return nil, fmt.Errorf("adopt: %w", err)
	}
	return c, nil
}

func (l *loop) DialPacket(to netip.AddrPort) (PacketConn, error) {
	c, err := l.dialPacket(netip.AddrPortFrom(to.Addr().Unmap(), to.Port()))
	if err != nil {
		return nil, fmt.Errorf("dial %v: %w", to, err)
	}
	return c, nil
}

func (l *loop) dialPacket(to netip.AddrPort) (*loopPacket, error) {
	sa, family, err := sockaddr("udp", to.String())
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, sa); err != nil { // it only notes the address
		unix.Close(fd)
		return nil, err
	}
	return l.newPacket(fd, netip.AddrPort{}, to)
}

// newPacket takes over fd.
func (l *loop) newPacket(fd int, local, remote netip.AddrPort) (*loopPacket, error) {
	c := &loopPacket{l: l, fd: int32(fd), local: local, remote: remote}
	if l.stopping {
		unix.Close(fd)
		return nil, ErrClosed
	}
	family, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	c.six = family == unix.AF_INET6
	c.info = !remote.IsValid() && wantInfo(fd, local.Addr())
	if err := l.watch(fd, c, packetEvents); err != nil {
		unix.Close(fd)
		return nil, err
	}
	l.count.conns++
	return c, nil
}

// event is called by the poller.
func (c *loopPacket) event(ev uint32) {
	c.readable, c.fresh = true, ev&unix.EPOLLERR == 0
	if c.reader != nil {
		c.l.wake(c.reader)
	}
}

// bytesPerBudget is how many received bytes cost as much of a task's budget as a call: a burst of large datagrams gives way too.
const bytesPerBudget = 1 << 10

func (c *loopPacket) Receive(p []byte) (int, Route, error) {
	t := c.l.current("PacketConn.Receive")
	for {
		if err := c.awaitEvent(t); err != nil {
			return 0, Route{}, err
		}
		c.fresh = false
		n, from, errno := c.recv(p)
		switch {
		case errno == 0 && n <= len(p):
			t.budget -= int16(n / bytesPerBudget)
			return n, from, nil
		case errno == 0, errno == unix.EINTR: // the former was longer than p
		case errno == unix.EAGAIN:
			c.readable = false
		default:
			return 0, Route{}, errno
		}
	}
}

// WaitReadable looks at the queue unless an event has just told: a socket that waits must not make its task hold a buffer.
func (c *loopPacket) WaitReadable() error {
	t := c.l.current("PacketConn.WaitReadable")
	for {
		if err := c.awaitEvent(t); err != nil {
			return err
		}
		if c.fresh {
			return nil
		}
		switch _, errno := sysPeek(c.fd, nil); errno {
		case 0:
			return nil
		case unix.EAGAIN:
			c.readable = false
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// awaitEvent waits until recvmsg may have something.
func (c *loopPacket) awaitEvent(t *loopTask) error {
	for {
		switch {
		case c.fd < 0:
			return ErrClosed
		case c.deadline != 0 && c.l.now >= c.deadline:
			return ErrDeadline
		case c.readable:
			if t.budget > 0 {
				t.budget--
				return nil
			}
			t.yieldTurn()
		default:
			if c.reader != nil {
				panic("task: two tasks read one PacketConn")
			}
			c.reader = t
			t.awaitIO(c.deadline)
			c.reader = nil
		}
	}
}

// recv receives once. It returns the datagram's whole length, which may be more than that of p.
func (c *loopPacket) recv(p []byte) (int, Route, unix.Errno) {
	x := &c.l.packet
	x.iov.Base = unsafe.SliceData(p)
	x.iov.SetLen(len(p))
	x.msg = unix.Msghdr{Iov: &x.iov}
	x.msg.SetIovlen(1)
	if !c.remote.IsValid() {
		x.msg.Name, x.msg.Namelen = (*byte)(unsafe.Pointer(&x.name)), unix.SizeofSockaddrAny
	}
	if c.info {
		x.msg.Control = &x.oob[0]
		x.msg.SetControllen(len(x.oob))
	}
	n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(c.fd), uintptr(unsafe.Pointer(&x.msg)), unix.MSG_DONTWAIT|unix.MSG_TRUNC)
	x.iov.Base = nil
	if errno != 0 {
		return 0, Route{}, errno
	}
	from := Route{Remote: c.remote}
	if !c.remote.IsValid() {
		from.Remote = remoteOf(&x.name)
	}
	if c.info {
		from.Local = parseInfo(x.oob[:x.msg.Controllen])
	}
	return int(n), from, 0
}

func (c *loopPacket) Send(p []byte, to Route) error {
	if c.fd < 0 {
		return ErrClosed
	}
	x := &c.l.packet
	x.iov.Base = unsafe.SliceData(p)
	x.iov.SetLen(len(p))
	x.msg = unix.Msghdr{Iov: &x.iov}
	x.msg.SetIovlen(1)
	if !c.remote.IsValid() {
		n := c.putName(&x.name, to.Remote)
		x.msg.Name, x.msg.Namelen = (*byte)(unsafe.Pointer(&x.name)), n
		if c.info {
			if oob := appendInfo(x.oob[:0], to.Local, c.six); len(oob) > 0 {
				x.msg.Control = &x.oob[0]
				x.msg.SetControllen(cmsgAlign(len(oob)))
			}
		}
	}
	for {
		_, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(c.fd), uintptr(unsafe.Pointer(&x.msg)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch errno {
		case unix.EINTR:
			continue
		case 0:
			x.iov.Base = nil
			return nil
		}
		x.iov.Base = nil
		return sendError(errno)
	}
}

func sendError(err error) error {
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOBUFS) {
		return ErrNoRoom
	}
	return err
}

// SetDeadline stores t, and tells the wait that is under way.
func (c *loopPacket) SetDeadline(t Instant) {
	c.deadline = t
	if c.reader != nil {
		c.reader.setDeadline(t)
	}
}

func (c *loopPacket) Close() error {
	if c.fd < 0 {
		return nil
	}
	fd := int(c.fd)
	c.lost = kernelLost(fd)
	c.fd = -1
	c.l.unwatch(fd)
	unix.Close(fd)
	c.l.count.conns--
	if c.reader != nil {
		c.l.wake(c.reader)
	}
	return nil
}

func (c *loopPacket) LocalAddr() netip.AddrPort {
	if !c.local.IsValid() && c.fd >= 0 {
		sa, _ := unix.Getsockname(int(c.fd))
		switch sa := sa.(type) {
		case *unix.SockaddrInet4:
			c.local = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
		case *unix.SockaddrInet6:
			c.local = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap().WithZone(zoneName(sa.ZoneId)), uint16(sa.Port))
		}
	}
	return c.local
}

func (c *loopPacket) RemoteAddr() netip.AddrPort { return c.remote }

func (c *loopPacket) Lost() uint64 {
	if c.fd < 0 {
		return c.lost
	}
	return kernelLost(int(c.fd))
}

// zoneName writes an interface's number as a zone, which needs no look-up.
func zoneName(id uint32) string {
	if id == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(id), 10)
}

// remoteOf reads an address that the kernel has written.
func remoteOf(a *unix.RawSockaddrAny) netip.AddrPort {
	switch a.Addr.Family {
	case unix.AF_INET:
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(a))
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), netOrder(sa.Port))
	case unix.AF_INET6:
		sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(a))
		ip := netip.AddrFrom16(sa.Addr).Unmap()
		if sa.Scope_id != 0 && ip.Is6() {
			ip = ip.WithZone(zoneName(sa.Scope_id))
		}
		return netip.AddrPortFrom(ip, netOrder(sa.Port))
	}
	return netip.AddrPort{}
}

// putName writes an address for the kernel, in the form of the socket's family, and returns its length.
func (c *loopPacket) putName(a *unix.RawSockaddrAny, to netip.AddrPort) uint32 {
	if !c.six {
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(a))
		*sa = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: netOrder(to.Port())}
		if ip := to.Addr().Unmap(); ip.Is4() {
			sa.Addr = ip.As4()
		}
		return unix.SizeofSockaddrInet4
	}
	sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(a))
	*sa = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: netOrder(to.Port()), Addr: to.Addr().As16()}
	if zone := to.Addr().Zone(); zone != "" {
		sa.Scope_id, _ = zoneID(zone)
	}
	return unix.SizeofSockaddrInet6
}

// netOrder turns a port from network order into the machine's, and back.
func netOrder(p uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(&p))
	return uint16(b[0])<<8 | uint16(b[1])
}
