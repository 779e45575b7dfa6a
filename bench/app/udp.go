package app

import (
	"net"
	"net/netip"
	"sync"
)

// UDP is an app that answers each datagram with itself.
type UDP struct {
	Addr netip.AddrPort
	c    *net.UDPConn
	wg   sync.WaitGroup
}

// socketSize is what is asked for the queue of the socket, in bytes: a burst is not the app's to lose.
const socketSize = 4 << 20

// NewUDPEcho listens on a free port of loopback.
func NewUDPEcho() (*UDP, error) {
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	_ = c.SetReadBuffer(socketSize) // the system may give less
	u := &UDP{Addr: c.LocalAddr().(*net.UDPAddr).AddrPort(), c: c}
	u.wg.Go(u.serve)
	return u, nil
}

func (u *UDP) serve() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := u.c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		_, _ = u.c.WriteToUDPAddrPort(buf[:n], from)
	}
}

// Close waits until the app has ended.
func (u *UDP) Close() {
	u.c.Close()
	u.wg.Wait()
}
