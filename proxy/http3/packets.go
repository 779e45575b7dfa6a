package http3

import (
	"errors"
	"net"
	"syscall"
)

// packets is a UDP socket on which a packet that cannot be sent is a packet that was lost. QUIC would end a connection for it, and
// with it every stream, although the next packet may find a route again, an address, or room.
type packets struct{ *net.UDPConn }

// Packets returns c as QUIC is to use it. Everything that QUIC can do with a *net.UDPConn it can do with that.
func Packets(c *net.UDPConn) net.PacketConn { return packets{c} }

// WriteMsgUDP sends one packet, or several of the same size.
func (s packets) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	n, oobn, err = s.UDPConn.WriteMsgUDP(b, oob, addr)
	if err != nil && passing(err) {
		return len(b), len(oob), nil
	}
	return n, oobn, err
}

// passing reports whether err may be gone for the next packet. What QUIC itself has an answer to, such as EMSGSIZE and EIO, is not.
func passing(err error) bool {
	for _, e := range []syscall.Errno{
		syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EHOSTDOWN, syscall.EADDRNOTAVAIL,
		syscall.ENOBUFS, syscall.ENOMEM, syscall.EPERM, syscall.EACCES, syscall.EINVAL, syscall.ECONNREFUSED,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
