package local

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/socks"
	"github.com/pillion-proxy/pillion/proxy/task"
)

const (
	maxTargets    = 64               // Flows of one association; at more, the one that was used longest ago ends
	maxUnopened   = 16               // datagrams that wait until their Flow is open; more are dropped
	maxQueued     = 256 << 10        // bytes of all of them in one association; more are dropped
	flowTimeout   = 10 * time.Second // a datagram that has waited longer is of no use
	refusedFor    = time.Second      // how long a target that was refused is not asked for again
	maxTick       = time.Second      // how often idle Flows are looked for
	defaultIdle   = time.Minute      // the life of a Flow without a datagram
	controlBuffer = 512              // bytes that are read at a time of what nobody wants
)

// association is a UDP ASSOCIATE of SOCKS5: one socket for the datagrams of one client, which name their targets, and a Flow for each of those. It lives as long as
// the TCP connection that asked for it; a Flow that is idle ends before: RFC 1928 section 6: "A UDP association terminates when the TCP connection that the UDP ASSOCIATE request arrived on terminates."
type association struct {
	// Static after construction.
	p  *port
	s  task.Shard
	c  task.PacketConn
	ip netip.Addr // of the client; not valid where it came over a Unix socket

	// Guarded by the shard's lock.
	client task.Route // where answers go; not valid before the first datagram, unless the client has named its port
	flows  map[socks.Addr]*associated
	queued int        // bytes that wait for Flows to open
	timer  task.Timer // set while there are Flows
	closed bool
	warned bool
}

// associate serves a UDP ASSOCIATE until its client closes the connection. from is where the client says that its datagrams will come from.
func (x *socksSession) associate(from socks.Addr) {
	a, err := x.newAssociation(from)
	if err != nil {
		x.refuse(socks.Failed, err.Error())
		return
	}
	defer a.close()
	if err := x.c.Push(socks.AppendReply(nil, socks.Succeeded, a.c.LocalAddr())); err != nil {
		x.end(err)
		return
	}
	x.s.Free(x.first)
	x.s.Go(a.receive)
	leave := x.p.rest(x.s, x.c)
	defer leave()
	for x.c.WaitReadable() == nil {
		var b [controlBuffer]byte
		if n, err := x.c.Read(b[:]); n == 0 || err != nil {
			break
		}
	}
	x.c.Close()
}

// newAssociation binds a socket on the address to which the client has connected.
func (x *socksSession) newAssociation(from socks.Addr) (*association, error) {
	a := &association{p: x.p, s: x.s, flows: make(map[socks.Addr]*associated)}
	local := task.AddrPort(x.c.LocalAddr()).Addr()
	a.ip = task.AddrPort(x.c.RemoteAddr()).Addr()
	if w, ok := x.c.(*proxied); ok {
		a.ip = task.AddrPort(w.Conn.RemoteAddr()).Addr() // the one that is there sends the datagrams
	}
	if !local.IsValid() {
		local = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if from.Port != 0 && a.ip.IsValid() {
		a.client.Remote = netip.AddrPortFrom(a.ip, from.Port)
	}
	var conn *net.UDPConn
	var err error
	x.s.Offload(func() { conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0))) })
	if err != nil {
		return nil, err
	}
	if a.c, err = x.s.AdoptPacket(conn); err != nil {
		conn.Close()
		return nil, err
	}
	return a, nil
}

// receive is the task that reads the socket: a Send never waits, so one is enough for all Flows.
func (a *association) receive() {
	for {
		err := a.c.WaitReadable()
		if err == nil {
			err = a.one()
		}
		if err != nil && !task.Unreachable(err) {
			return
		}
	}
}

func (a *association) one() error {
	b := a.s.Datagram()
	defer a.s.Free(b)
	n, from, err := a.c.Receive(b.B)
	if err != nil || !a.mine(from) {
		return err
	}
	to, payload, err := socks.ParseDatagram(b.B[:n])
	if err != nil { // a fragment, most likely
		return nil
	}
	if !a.deliver(to, payload) { // its Flow has just ended: another one
		a.deliver(to, payload)
	}
	return nil
}

// mine reports whether a datagram is the client's: RFC 1928 section 7: "The relay server MUST drop any datagrams arriving from any source IP address other than the
// one recorded for the particular association." The first one settles the port.
func (a *association) mine(from task.Route) bool {
	a.s.Lock()
	defer a.s.Unlock()
	if ip := from.Remote.Addr(); a.ip.IsValid() && ip != a.ip || !a.ip.IsValid() && !ip.IsLoopback() {
		return false
	}
	if !a.client.Remote.IsValid() {
		a.client = from
	}
	return a.client.Remote == from.Remote
}

// deliver sends p on the Flow to its target, which it opens if there is none. It is false if that turned out to be over.
func (a *association) deliver(to socks.Addr, p []byte) bool {
	a.s.Lock()
	if a.closed {
		a.s.Unlock()
		return true
	}
	f, oldest := a.flows[to], (*associated)(nil)
	if f == nil {
		if len(a.flows) >= maxTargets {
			oldest = a.oldestLocked()
			delete(a.flows, oldest.to)
		}
		f = &associated{a: a, to: to}
		a.flows[to] = f
		if a.timer == nil {
			a.timer = a.s.After(a.p.server.tick, a.expire)
		}
		a.s.Go(f.run)
	}
	f.used = a.s.Now()
	up, stats := f.up, f.stats
	if up == nil && !f.done && len(f.waiting) < maxUnopened && a.queued+len(p) <= maxQueued {
		a.queued += len(p)
		f.waiting = append(f.waiting, slices.Clone(p))
	} else if up == nil {
		stats.Drop(proxy.DropUnopened, 1)
	}
	if up == nil && stats != nil {
		stats.Request()
	} else if up == nil {
		f.came++
	}
	a.s.Unlock()
	if oldest != nil {
		oldest.evict()
	}
	if up == nil {
		return true
	}
	if err := up.Send(p); err != nil && err != proxy.ErrDatagramTooLong {
		f.end()
		return false
	}
	stats.Request()
	return true
}

// expire is a callback, for as long as there are Flows: it ends those that are idle.
func (a *association) expire() {
	a.s.Lock()
	now := a.s.Now()
	var idle []*associated
	for _, f := range a.flows {
		if f.up != nil && now >= f.used.Add(f.idle) {
			idle = append(idle, f)
		}
	}
	a.timer = nil
	if len(a.flows) > 0 && !a.closed {
		a.timer = a.s.After(a.p.server.tick, a.expire)
	}
	a.s.Unlock()
	for _, f := range idle {
		f.end()
	}
}

func (a *association) oldestLocked() (oldest *associated) {
	for _, f := range a.flows {
		if oldest == nil || f.used < oldest.used {
			oldest = f
		}
	}
	return oldest
}

// close ends the association: it never waits.
func (a *association) close() {
	a.s.Lock()
	a.closed = true
	if a.timer != nil {
		a.timer.Stop()
	}
	all := make([]*associated, 0, len(a.flows))
	for _, f := range a.flows {
		all = append(all, f)
	}
	a.s.Unlock()
	a.c.Close()
	for _, f := range all {
		f.end()
	}
}

func (a *association) clientAddr() netip.AddrPort {
	a.s.Lock()
	defer a.s.Unlock()
	return a.client.Remote
}

var errAssociationEnded = errors.New("the association has ended")
