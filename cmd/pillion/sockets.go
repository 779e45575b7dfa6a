package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
)

// sockets are all listening sockets, bound before anything runs: a busy port is found out while nothing has happened yet.
type sockets struct {
	peer, outbound, admin net.Listener            // nil where the configuration says none
	services              map[string]net.Listener // by service name
	udp                   *net.UDPConn            // of peer, on the same port; nil without QUIC
	http3                 *net.UDPConn            // of outbound.http3; nil where the configuration says none
	dns                   *dnsSockets             // nil where the configuration says none
	packets               map[string]*net.UDPConn // the same, of services that take datagrams

	bound  map[string]bound // what was asked for, by setting
	opened []io.Closer      // those of them that were not there before
}

// bound is a socket, and what it was asked for as: the same is not bound twice.
type bound struct {
	as any // comparable
	io.Closer
}

// bind opens every listener of cfg, or none.
func bind(cfg *config.Config) (*sockets, error) { return rebind(cfg, nil) }

// rebind opens every listener of cfg that is not one of before, or none. Those of before that cfg does not have stay open: retire closes them.
func rebind(cfg *config.Config, before *sockets) (*sockets, error) {
	s := &sockets{services: make(map[string]net.Listener), packets: make(map[string]*net.UDPConn), bound: make(map[string]bound)}
	var failed []error
	listen := func(setting string, l config.Listen, c config.Socket) net.Listener {
		if !l.On {
			return nil
		}
		x, err := s.keep(before, setting, asked{l, c}, func() (io.Closer, error) { return listenOn(l, c) })
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", setting, adviseBusy(setting, l, advise(err))))
			return nil
		}
		return x.(net.Listener)
	}
	s.admin = listen("admin.listen", cfg.Admin.Listen, config.Socket{})
	s.peer = listen("peer.listen", cfg.Peer.Listen, config.Socket{})
	if s.peer != nil && acceptsQUIC(cfg) {
		if before != nil {
			s.peer, s.udp = before.peer, before.udp // which a reload cannot change
		} else if err := s.listenUDP(cfg.Peer.Listen); err != nil {
			failed = append(failed, fmt.Errorf("peer.listen: %w", err))
		}
	}
	s.outbound = listen("outbound.listen", cfg.Outbound.Listen, cfg.Outbound.Socket)
	if l := cfg.Outbound.HTTP3; l.On {
		x, err := s.keep(before, "outbound.http3", asked{listen: l}, func() (io.Closer, error) { return listenHTTP3(l) })
		if err != nil {
			failed = append(failed, fmt.Errorf("outbound.http3: %w", advise(err)))
		} else {
			s.http3 = x.(*net.UDPConn)
		}
	}
	for _, svc := range cfg.Services {
		at := svc.Listen
		if svc.Protocol.TCP() {
			if ln := listen("services."+svc.Name+".listen", at, svc.Socket); ln != nil {
				s.services[svc.Name] = ln
				at = samePort(at, ln.Addr())
			}
		}
		if !at.On || !svc.Protocol.UDP() {
			continue
		}
		x, err := s.keep(before, "services."+svc.Name+".listen/udp", asked{listen: at}, func() (io.Closer, error) { return net.ListenPacket("udp", at.Address()) })
		if err != nil {
			failed = append(failed, fmt.Errorf("services.%s.listen: %w", svc.Name, err))
			continue
		}
		s.packets[svc.Name] = x.(*net.UDPConn)
	}
	dns, err := s.bindDNS(cfg, before)
	if err != nil {
		failed = append(failed, err)
	}
	s.dns = dns
	if len(failed) > 0 {
		s.closeOpened()
		return nil, errors.Join(failed...)
	}
	return s, nil
}

// asked is what a socket of this machine is asked for as.
type asked struct {
	listen config.Listen
	socket config.Socket
}

// keep returns the socket that before has for the setting, if it was asked for as the same, else a new one.
func (s *sockets) keep(before *sockets, setting string, as any, open func() (io.Closer, error)) (io.Closer, error) {
	if before != nil && before.bound[setting].as == as {
		s.bound[setting] = before.bound[setting]
		return s.bound[setting].Closer, nil
	}
	x, err := open()
	if err != nil {
		return nil, before.blame(err, as)
	}
	s.bound[setting] = bound{as, x}
	s.opened = append(s.opened, x)
	return x, nil
}

// blame says so where it is this sidecar itself that has what was asked for.
func (s *sockets) blame(err error, as any) error {
	want, ok := as.(asked)
	if !ok || s == nil || !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	for setting, b := range s.bound {
		if was, ok := b.as.(asked); ok && was.listen == want.listen {
			return fmt.Errorf("%w by %s, and a port cannot change hands in one reload: remove it there first, reload, and add it here", err, strings.TrimSuffix(setting, "/udp"))
		}
	}
	return err
}

// closeOpened closes what was not there before.
func (s *sockets) closeOpened() {
	for _, c := range s.opened {
		c.Close()
	}
	if s.udp != nil && slices.Contains(s.opened, io.Closer(s.peer)) {
		s.udp.Close()
	}
}

// maxPorts is how often a port that the system chose is given back because UDP cannot have it too.
const maxPorts = 20

// listenUDP gives the peer listener its UDP socket.
func (s *sockets) listenUDP(l config.Listen) (err error) {
	for range maxPorts {
		if s.udp, err = listenUDP(s.peer); err == nil || l.Port != 0 {
			return err
		}
		s.peer.Close()
		if s.peer, err = listenOn(l, config.Socket{}); err != nil {
			return err
		}
		s.bound["peer.listen"] = bound{asked{listen: l}, s.peer}
		s.opened = append(s.opened, s.peer)
	}
	return err
}

// adviseBusy says what to do about a port that another process has.
func adviseBusy(setting string, l config.Listen, err error) error {
	if l.Unix != "" || !errors.Is(err, syscall.EADDRINUSE) || strings.Contains(err.Error(), "change hands") {
		return err
	}
	return fmt.Errorf("%w; \"ss -ltnp 'sport = :%d'\" shows which process has it: stop that one, or write another address into %s", err, l.Port, setting)
}

// samePort is at, with the port that the system has chosen for a, so that both kinds of one service share it.
func samePort(at config.Listen, a net.Addr) config.Listen {
	if t, ok := a.(*net.TCPAddr); ok {
		at.Port = uint16(t.Port)
	}
	return at
}

func listenOn(l config.Listen, c config.Socket) (net.Listener, error) {
	if l.Unix != "" {
		return listenSocket(l.Unix, c)
	}
	return net.Listen("tcp", l.Address())
}

func (s *sockets) all() []net.Listener {
	all := make([]net.Listener, 0, 3+len(s.services))
	for _, ln := range []net.Listener{s.admin, s.peer, s.outbound} {
		if ln != nil {
			all = append(all, ln)
		}
	}
	for _, ln := range s.services {
		all = append(all, ln)
	}
	return append(all, s.dns.all()...)
}

// packetConns are all UDP sockets.
func (s *sockets) packetConns() []*net.UDPConn {
	var all []*net.UDPConn
	if s.udp != nil {
		all = append(all, s.udp)
	}
	if s.http3 != nil {
		all = append(all, s.http3)
	}
	all = append(all, s.dns.udpConns()...)
	for _, nc := range s.packets {
		all = append(all, nc)
	}
	return all
}

func (s *sockets) close() {
	for _, ln := range s.all() {
		ln.Close()
	}
	for _, c := range []*net.UDPConn{s.udp, s.http3} {
		if c != nil {
			c.Close()
		}
	}
	s.dns.close()
	for _, nc := range s.packets {
		nc.Close()
	}
}

// own returns the function that recognises the sidecar's own listeners, however their addresses are written: IPv6-mapped, with a
// zone, as "every address", which connects to loopback, or as any address of this machine where one listens on all.
func (s *sockets) own() func(network, address string) bool {
	paths := make(map[string]bool)
	tcp, udp := newOwnAddrs(), newOwnAddrs()
	for _, ln := range s.all() {
		if a, ok := ln.Addr().(*net.TCPAddr); ok {
			tcp.add(a.AddrPort())
		} else {
			paths[ln.Addr().String()] = true
		}
	}
	for _, nc := range s.packetConns() {
		udp.add(nc.LocalAddr().(*net.UDPAddr).AddrPort())
	}
	return func(network, address string) bool {
		switch network {
		case "unix":
			return paths[address]
		case "udp":
			return udp.has(address)
		default:
			return tcp.has(address)
		}
	}
}

// ownAddrs are the addresses that listeners of one transport have.
type ownAddrs struct {
	exact map[netip.AddrPort]bool
	ports map[uint16]bool // listened to on every address
}

func newOwnAddrs() ownAddrs {
	return ownAddrs{make(map[netip.AddrPort]bool), make(map[uint16]bool)}
}

func (o ownAddrs) add(a netip.AddrPort) {
	if a.Addr().IsUnspecified() {
		o.ports[a.Port()] = true
	} else {
		o.exact[oneForm(a)] = true
	}
}

func (o ownAddrs) has(address string) bool {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return false
	}
	ap = oneForm(ap)
	if ap.Addr().IsUnspecified() && (o.exact[netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), ap.Port())] ||
		o.exact[netip.AddrPortFrom(netip.IPv6Loopback(), ap.Port())]) {
		return true
	}
	return o.exact[ap] || o.ports[ap.Port()] && isLocal(ap.Addr())
}

// oneForm is the one way to write an address.
func oneForm(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// isLocal reports whether ip is an address of this machine. The addresses may change while the sidecar runs, so they are asked for each
// time, which is rare: only of calls to a port that this sidecar listens on.
func isLocal(ip netip.Addr) bool {
	if ip.IsLoopback() || ip.IsUnspecified() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true // better refuse a call than answer it by oneself
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if own, ok := netip.AddrFromSlice(n.IP); ok && own.Unmap() == ip {
				return true
			}
		}
	}
	return false
}
