package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
)

// sockets are all listening sockets, bound before anything runs: a busy port is found out while nothing has happened yet.
type sockets struct {
	peer, outbound, admin net.Listener            // nil where the configuration says none
	services              map[string]net.Listener // by service name
}

// bind opens every listener of cfg, or none.
func bind(cfg *config.Config) (*sockets, error) {
	s := &sockets{services: make(map[string]net.Listener)}
	var failed []error
	listen := func(setting string, l config.Listen) net.Listener {
		if !l.On {
			return nil
		}
		ln, err := listenOn(l)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", setting, err))
			return nil
		}
		return ln
	}
	s.admin = listen("admin.listen", cfg.Admin.Listen)
	s.peer = listen("peer.listen", cfg.Peer.Listen)
	s.outbound = listen("outbound.listen", cfg.Outbound.Listen)
	for _, svc := range cfg.Services {
		if ln := listen("services."+svc.Name+".listen", svc.Listen); ln != nil {
			s.services[svc.Name] = ln
		}
	}
	if len(failed) > 0 {
		s.close()
		return nil, errors.Join(failed...)
	}
	return s, nil
}

func listenOn(l config.Listen) (net.Listener, error) {
	if l.Network() == "unix" {
		removeStale(l.Unix)
	}
	return net.Listen(l.Network(), l.Address())
}

// removeStale removes a socket that a process which is gone has left behind: one that nobody answers on.
func removeStale(path string) {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&os.ModeSocket == 0 {
		return
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close() // somebody lives there: the bind will say so
		return
	}
	_ = os.Remove(path)
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
	return all
}

func (s *sockets) close() {
	for _, ln := range s.all() {
		ln.Close()
	}
}

// own returns the function that recognises the sidecar's own listeners, on every address of this machine where one
// listens on all.
func (s *sockets) own() func(network, address string) bool {
	exact := make(map[string]bool)
	ports := make(map[uint16]bool) // listened to on every address
	for _, ln := range s.all() {
		exact[ln.Addr().Network()+" "+ln.Addr().String()] = true
		if a, ok := ln.Addr().(*net.TCPAddr); ok && a.IP.IsUnspecified() {
			ports[uint16(a.Port)] = true
		}
	}
	local := localAddrs()
	return func(network, address string) bool {
		if exact[network+" "+address] {
			return true
		}
		ap, err := netip.ParseAddrPort(address)
		if err != nil || !ports[ap.Port()] {
			return false
		}
		ip := ap.Addr().Unmap().WithZone("")
		return ip.IsLoopback() || ip.IsUnspecified() || local[ip]
	}
}

// localAddrs are the addresses of this machine now.
func localAddrs() map[netip.Addr]bool {
	set := make(map[netip.Addr]bool)
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return set
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				set[ip.Unmap()] = true
			}
		}
	}
	return set
}
