package task

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// infoSize is the room for the control message that tells, or sets, the local address of a datagram.
const infoSize = 64 // bytes

// wantInfo asks for the local address of each datagram, where fd is bound to every address of the machine.
func wantInfo(fd int, local netip.Addr) bool {
	if !local.IsUnspecified() {
		return false
	}
	if family, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); family == unix.AF_INET {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1) == nil
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1) == nil
}

// parseInfo finds the local address in what a receive has told.
func parseInfo(oob []byte) netip.Addr {
	for len(oob) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(oob)))
		n := int(h.Len)
		if n < unix.SizeofCmsghdr || n > len(oob) {
			break
		}
		data := oob[unix.CmsgLen(0):n]
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			// spec_dst is where an answer comes from, also if the datagram was a broadcast.
			return netip.AddrFrom4([4]byte(data[4:8]))
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			a := netip.AddrFrom16([16]byte(data[:16])).Unmap()
			if a.Is6() && a.IsLinkLocalUnicast() {
				a = a.WithZone(zoneName(binary.NativeEndian.Uint32(data[16:])))
			}
			return a
		}
		oob = oob[min(len(oob), cmsgAlign(n)):]
	}
	return netip.Addr{}
}

func cmsgAlign(n int) int { return (n + unix.SizeofPtr - 1) &^ (unix.SizeofPtr - 1) }

// appendInfo appends the control message that makes a datagram come from local. six is whether the socket is one of IPv6.
func appendInfo(b []byte, local netip.Addr, six bool) []byte {
	if !local.IsValid() || local.IsMulticast() {
		return b
	}
	var h unix.Cmsghdr
	if !six {
		h.Level, h.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
		h.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
		b = appendHeader(b, h)
		a := local.As4()
		b = append(append(b, 0, 0, 0, 0), a[:]...)
		return append(b, 0, 0, 0, 0)
	}
	h.Level, h.Type = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO
	h.SetLen(unix.CmsgLen(unix.SizeofInet6Pktinfo))
	b = appendHeader(b, h)
	a := local.As16()
	b = append(b, a[:]...)
	zone, _ := zoneID(local.Zone())
	return binary.NativeEndian.AppendUint32(b, zone)
}

func appendHeader(b []byte, h unix.Cmsghdr) []byte {
	b = append(b, unsafe.Slice((*byte)(unsafe.Pointer(&h)), unix.SizeofCmsghdr)...)
	for len(b) < unix.CmsgLen(0) {
		b = append(b, 0)
	}
	return b
}

// kernelLost reads the socket's count of datagrams that its receive queue had no room for.
func kernelLost(fd int) uint64 {
	var info [9]uint32 // SO_MEMINFO: the last is SK_MEMINFO_DROPS
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := syscall.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 || size < uint32(unsafe.Sizeof(info)) {
		return 0
	}
	return uint64(info[8])
}
