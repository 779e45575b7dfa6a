package task

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// DatagramSize is the capacity in bytes of a Buffer of Shard.Datagram: it holds any UDP payload.
const DatagramSize = 64 << 10

// ErrNoRoom is what PacketConn.Send returns while the kernel's send queue is full: the datagram is lost.
var ErrNoRoom = errors.New("no room in the send queue")

// Route says where a datagram came from, or goes to.
type Route struct {
	// Remote is the other end. On a connected socket it is always the same, and Send ignores it.
	Remote netip.AddrPort
	// Local is the address of this machine that the datagram came to, and that an answer comes from: only on a
	// socket that is bound to every address, else it is not valid and not needed.
	Local netip.Addr
}

// PacketConn is a UDP socket owned by one shard. One task may receive while another sends. All methods must be called on the
// PacketConn's shard, by a task or (those that do not wait) by a callback.
type PacketConn interface {
	// Receive waits for a datagram, copies it to p and returns its length, which may be 0. One longer than p is lost. On a connected
	// socket an error for which Unreachable is true says that an earlier datagram was not taken; the socket goes on.
	Receive(p []byte) (int, Route, error)
	// WaitReadable waits until Receive would not wait. Like Receive it returns errors for which Unreachable is true.
	WaitReadable() error
	// Send sends one datagram without waiting. ErrNoRoom, and an error for which Unreachable is true, are about that or an earlier
	// datagram, of which the last is lost, and the socket goes on.
	Send(p []byte, to Route) error
	// SetDeadline bounds the waits in Receive and WaitReadable; 0 means none.
	SetDeadline(t Instant)
	// Close closes the socket and wakes who waits with ErrClosed. Idempotent.
	Close() error
	// LocalAddr and RemoteAddr are the two ends; RemoteAddr is not valid unless the socket is connected.
	LocalAddr() netip.AddrPort
	RemoteAddr() netip.AddrPort
	// Lost is how many datagrams the kernel has dropped since its receive queue was full; 0 where it does not tell.
	Lost() uint64
}

// Unreachable reports whether err says that a datagram found nobody: that the port is closed, or no route leads there, or
// that it is too long for the path, or that a firewall refuses it. What is sent later may well arrive.
func Unreachable(err error) bool {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return false
	}
	switch errno {
	case syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN, syscall.ENOPROTOOPT,
		syscall.EMSGSIZE, syscall.EPERM, syscall.EACCES, syscall.EPROTO, syscall.EADDRNOTAVAIL:
		return true
	}
	return false
}

func addrPort(a net.Addr) netip.AddrPort {
	u, ok := a.(*net.UDPAddr)
	if !ok || u == nil {
		return netip.AddrPort{}
	}
	ap := u.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
