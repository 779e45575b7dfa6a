package main

import (
	"net"
	"net/netip"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/proxy"
)

// byAddress returns the function that knows services by an address, for clients that have looked up a name by themselves. An address is a
// service's if it is the service's own local port, or what the DNS server answers for its name; if it is an endpoint that is called without a sidecar; or if a sidecar of that
// one service alone runs on its machine, unless such machines may be connected to directly.
func byAddress(cfg *config.Config, f *finder, socks *sockets) func(netip.AddrPort) (proxy.Service, bool) {
	own := make(map[netip.AddrPort]proxy.Service)
	for _, svc := range cfg.Services {
		for _, ln := range []net.Listener{socks.services[svc.Name], socks.dns.service(svc.Name)} {
			if ln == nil {
				continue
			}
			if a, ok := ln.Addr().(*net.TCPAddr); ok {
				own[oneForm(a.AddrPort())] = proxy.Service{Name: svc.Name, Port: svc.Port}
			}
		}
		if c := socks.packets[svc.Name]; c != nil {
			own[oneForm(c.LocalAddr().(*net.UDPAddr).AddrPort())] = proxy.Service{Name: svc.Name, Port: svc.Port}
		}
	}
	return func(a netip.AddrPort) (proxy.Service, bool) {
		a = oneForm(a)
		if svc, ok := own[a]; ok {
			return svc, true
		}
		return endpointAt(cfg, f, a)
	}
}

// endpointAt looks through what discovery knows now, which is rare: clients of CONNECT and SOCKS send names as a rule.
func endpointAt(cfg *config.Config, f *finder, a netip.AddrPort) (found proxy.Service, ok bool) {
	for _, svc := range cfg.Services {
		for _, ep := range f.endpoints(svc.Name)() {
			switch at := oneForm(ep.Addr); {
			case !ep.Mesh && at == a:
				return proxy.Service{Name: svc.Name}, true
			case !ep.Mesh || cfg.Outbound.Others == config.Direct || at.Addr() != a.Addr():
			case ok && found.Name != svc.Name: // of two services on one machine neither is meant
				return proxy.Service{}, false
			default:
				found, ok = proxy.Service{Name: svc.Name, Port: a.Port()}, true
			}
		}
	}
	return found, ok
}
