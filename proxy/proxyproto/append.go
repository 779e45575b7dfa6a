package proxyproto

import (
	"encoding/binary"
	"net/netip"
	"strconv"
)

// Append appends h in version v. Addresses of two families become IPv6. In version 1, a Header for UDP names no client.
func Append(b []byte, v Version, h Header) []byte {
	src, dst := oneFamily(h.Src, h.Dst)
	switch v {
	case V1:
		return append1(b, src, dst, h.Datagram)
	case V2:
		return append2(b, src, dst, h)
	}
	return b
}

// oneFamily makes IPv6 of both unless both are IPv4. The zero values stay.
func oneFamily(src, dst netip.AddrPort) (netip.AddrPort, netip.AddrPort) {
	if !src.IsValid() {
		return netip.AddrPort{}, netip.AddrPort{}
	}
	from := src.Addr().Unmap().WithZone("")
	to := dst.Addr().Unmap().WithZone("")
	if !to.IsValid() {
		to = netip.IPv4Unspecified()
		if from.Is6() {
			to = netip.IPv6Unspecified()
		}
	}
	if from.Is4() != to.Is4() {
		from, to = netip.AddrFrom16(from.As16()), netip.AddrFrom16(to.As16())
	}
	return netip.AddrPortFrom(from, src.Port()), netip.AddrPortFrom(to, dst.Port())
}

func append1(b []byte, src, dst netip.AddrPort, datagram bool) []byte {
	if !src.IsValid() || datagram {
		return append(b, "PROXY UNKNOWN\r\n"...)
	}
	family := "PROXY TCP4 "
	if src.Addr().Is6() {
		family = "PROXY TCP6 "
	}
	b = append(b, family...)
	b = src.Addr().AppendTo(b)
	b = append(b, ' ')
	b = dst.Addr().AppendTo(b)
	b = append(b, ' ')
	b = strconv.AppendUint(b, uint64(src.Port()), 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, uint64(dst.Port()), 10)
	return append(b, "\r\n"...)
}

func append2(b []byte, src, dst netip.AddrPort, h Header) []byte {
	b = append(b, signature...)
	if !src.IsValid() {
		return append(b, 0x20, 0, 0, 0) // LOCAL
	}
	family, size := byte(0x11), 2*(4+2)
	if src.Addr().Is6() {
		family, size = 0x21, 2*(16+2)
	}
	if h.Datagram {
		family++
	}
	id := h.Identity
	if len(id) > maxHeader2/2 {
		id = ""
	}
	if id != "" {
		size += 3 + len(id)
	}
	b = append(b, 0x21, family)
	b = binary.BigEndian.AppendUint16(b, uint16(size))
	b = append(b, src.Addr().AsSlice()...)
	b = append(b, dst.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, src.Port())
	b = binary.BigEndian.AppendUint16(b, dst.Port())
	if id != "" {
		b = append(b, typeIdentity)
		b = binary.BigEndian.AppendUint16(b, uint16(len(id)))
		b = append(b, id...)
	}
	return b
}
