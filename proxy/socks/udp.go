package socks

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

var errFragment = errors.New("a fragment of a datagram")

// ParseDatagram reads the header that a client puts before each datagram of an association, RFC 1928 section 7. Fragments are
// refused, as is allowed there: "Implementation of fragmentation is optional; an implementation that does not support
// fragmentation MUST drop any datagram whose FRAG field is other than X'00'."
func ParseDatagram(b []byte) (to Addr, payload []byte, err error) {
	if len(b) < 4 || b[0] != 0 || b[1] != 0 {
		return to, nil, errors.New("a datagram without a header")
	}
	if b[2] != 0 {
		return to, nil, errFragment
	}
	to, n, err := parseAddr(b[3:])
	if err == nil && n == 0 {
		err = errors.New("a datagram shorter than its header")
	}
	if err != nil {
		return to, nil, err
	}
	return to, b[3+n:], nil
}

// MaxHeader is the most bytes that AppendHeader appends.
const MaxHeader = 3 + 1 + 1 + maxName + 2

// AppendHeader appends the header of a datagram that came from there.
func AppendHeader(b []byte, from Addr) []byte {
	b = append(b, 0, 0, 0)
	if from.Name == "" {
		return appendAddr(b, netip.AddrPortFrom(from.IP, from.Port))
	}
	b = append(b, typeName, byte(len(from.Name)))
	b = append(b, from.Name...)
	return binary.BigEndian.AppendUint16(b, from.Port)
}
