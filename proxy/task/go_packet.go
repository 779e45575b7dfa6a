package task

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// goPacket is a PacketConn on goroutines.
type goPacket struct {
	// Static after construction.
	s         *goShard
	nc        *net.UDPConn
	raw       *rawPacket
	connected bool
	info      bool // the kernel tells each datagram's local address
	six       bool // the socket is one of IPv6

	deadline atomic.Int64 // an Instant
	closed   atomic.Bool
	once     sync.Once
	lost     atomic.Uint64 // once closed

	// Owned by the receiving task.
	oob [infoSize]byte
}

func (s *goShard) AdoptPacket(nc *net.UDPConn) (PacketConn, error) {
	c := &goPacket{s: s, nc: nc, raw: newRawPacket(nc), connected: nc.RemoteAddr() != nil}
	local := addrPort(nc.LocalAddr())
	c.six = c.raw.isIPv6()
	c.info = !c.connected && c.raw.wantInfo(local.Addr())
	if err := s.rt.addPacket(c); err != nil {
		nc.Close()
		return nil, fmt.Errorf("adopt: %w", err)
	}
	return c, nil
}

func (s *goShard) DialPacket(to netip.AddrPort) (PacketConn, error) {
	var d net.Dialer
	nc, err := d.DialContext(context.Background(), "udp", netip.AddrPortFrom(to.Addr().Unmap(), to.Port()).String())
	if err != nil {
		return nil, fmt.Errorf("dial %v: %w", to, plainError(err))
	}
	return s.AdoptPacket(nc.(*net.UDPConn))
}

func (c *goPacket) Receive(p []byte) (int, Route, error) {
	for {
		if c.expired() {
			return 0, Route{}, ErrDeadline
		}
		n, oobn, flags, from, err := c.nc.ReadMsgUDPAddrPort(p, c.oob[:])
		if err != nil {
			return 0, Route{}, plainError(err)
		}
		if flags&msgTrunc != 0 { // longer than p
			continue
		}
		r := Route{Remote: netip.AddrPortFrom(from.Addr().Unmap(), from.Port())}
		if c.connected {
			r.Remote = c.RemoteAddr()
		}
		if c.info {
			r.Local = parseInfo(c.oob[:oobn])
		}
		return n, r, nil
	}
}

func (c *goPacket) WaitReadable() error {
	if c.expired() {
		return ErrDeadline
	}
	return plainError(c.raw.awaitReadable())
}

func (c *goPacket) Send(p []byte, to Route) error {
	if c.closed.Load() {
		return ErrClosed
	}
	var oob []byte
	if c.info {
		oob = appendInfo(make([]byte, 0, infoSize), to.Local, c.six)
	}
	if c.connected {
		to.Remote = netip.AddrPort{}
	}
	return plainError(c.raw.send(p, oob, to.Remote, c.six))
}

func (c *goPacket) SetDeadline(t Instant) {
	c.deadline.Store(int64(t))
	c.nc.SetReadDeadline(t.wall())
}

func (c *goPacket) expired() bool {
	t := Instant(c.deadline.Load())
	return t != 0 && Now() >= t
}

func (c *goPacket) Close() error {
	c.once.Do(func() {
		c.lost.Store(c.raw.lost())
		c.closed.Store(true)
		c.nc.Close()
		c.s.rt.removePacket(c)
	})
	return nil
}

func (c *goPacket) LocalAddr() netip.AddrPort  { return addrPort(c.nc.LocalAddr()) }
func (c *goPacket) RemoteAddr() netip.AddrPort { return addrPort(c.nc.RemoteAddr()) }

func (c *goPacket) Lost() uint64 {
	if c.closed.Load() {
		return c.lost.Load()
	}
	return c.raw.lost()
}

func (rt *goRuntime) addPacket(c *goPacket) error {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.stopped {
		return ErrClosed
	}
	if rt.packets == nil {
		rt.packets = make(map[*goPacket]struct{})
	}
	rt.packets[c] = struct{}{}
	c.s.conns.Add(1)
	return nil
}

func (rt *goRuntime) removePacket(c *goPacket) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if _, ok := rt.packets[c]; ok {
		delete(rt.packets, c)
		c.s.conns.Add(-1)
	}
}
