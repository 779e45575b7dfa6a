package task

import (
	"net"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sockName is where the kernel writes an address.
type sockName struct {
	addr unix.RawSockaddrAny
	size uint32
}

// LocalAddr is hardly ever asked for, so it is not kept.
func (c *loopConn) LocalAddr() net.Addr {
	if c.fd < 0 {
		return orNoAddr(nil)
	}
	return orNoAddr(addrOf(unix.SYS_GETSOCKNAME, c.fd))
}

func (c *loopConn) RemoteAddr() net.Addr {
	switch {
	case c.fd >= 0:
		return orNoAddr(addrOf(unix.SYS_GETPEERNAME, c.fd))
	case c.remote.IsValid():
		return net.TCPAddrFromAddrPort(c.remote)
	}
	return orNoAddr(nil)
}

// remoteAddrPort is asked for with every request, so it is kept.
func (c *loopConn) remoteAddrPort() netip.AddrPort {
	if !c.asked && c.fd >= 0 {
		c.remote, c.asked = AddrPort(c.RemoteAddr()), true
	}
	return c.remote
}

// orNoAddr stands in for the address of a connection that was closed, or reset, before anybody asked.
func orNoAddr(a net.Addr) net.Addr {
	if a == nil {
		return &net.TCPAddr{}
	}
	return a
}

// addrOf asks the kernel for one end of fd; nil if there is no such end, or if it is of no known kind. It leaves no garbage, as package unix does: every
// connection asks once.
func addrOf(call uintptr, fd int32) net.Addr {
	n := sockName{size: unix.SizeofSockaddrAny}
	if _, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&n.addr)), uintptr(unsafe.Pointer(&n.size))); errno != 0 {
		return nil
	}
	switch n.addr.Addr.Family {
	case unix.AF_INET:
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&n.addr))
		return &net.TCPAddr{IP: append(net.IP(nil), sa.Addr[:]...), Port: port(&sa.Port)}
	case unix.AF_INET6:
		sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(&n.addr))
		a := &net.TCPAddr{IP: append(net.IP(nil), sa.Addr[:]...), Port: port(&sa.Port)}
		if sa.Scope_id != 0 {
			if i, err := net.InterfaceByIndex(int(sa.Scope_id)); err == nil {
				a.Zone = i.Name
			}
		}
		return a
	case unix.AF_UNIX:
		return &net.UnixAddr{Name: n.path(), Net: "unix"}
	}
	return nil
}

// port reads what is in the network's order.
func port(p *uint16) int {
	b := (*[2]byte)(unsafe.Pointer(p))
	return int(b[0])<<8 | int(b[1])
}

// path is the name of a Unix socket: "" for one that is not bound, and @ for the zero byte of one in the abstract namespace.
func (n *sockName) path() string {
	sa := (*unix.RawSockaddrUnix)(unsafe.Pointer(&n.addr))
	size := int(n.size) - int(unsafe.Offsetof(sa.Path))
	if size <= 0 {
		return ""
	}
	name := make([]byte, 0, len(sa.Path))
	for i, c := range sa.Path[:min(size, len(sa.Path))] {
		if c == 0 && i > 0 {
			break
		}
		name = append(name, byte(c))
	}
	if name[0] == 0 {
		name[0] = '@'
	}
	return string(name)
}
