package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/listeners/admin"
	"github.com/pillion-proxy/pillion/listeners/dns"
)

// dnsSockets are those of the DNS server, and the ports where the names of services lead.
type dnsSockets struct {
	udp      *net.UDPConn
	tcp      net.Listener
	services map[string]net.Listener // by service name
	packets  map[string]*net.UDPConn // the same, of services that take datagrams
}

// bindDNS opens the sockets of the DNS server that before does not have. It returns nil where there is no such server.
func (all *sockets) bindDNS(cfg *config.Config, before *sockets) (*dnsSockets, error) {
	at := cfg.Outbound.DNS
	if !at.On {
		return nil, nil
	}
	s := &dnsSockets{services: make(map[string]net.Listener), packets: make(map[string]*net.UDPConn)}
	var failed []error
	if before != nil && before.dns != nil { // which a reload cannot change
		s.udp, s.tcp = before.dns.udp, before.dns.tcp
	} else if err := s.bindServer(netip.AddrPortFrom(at.IP, at.Port)); err != nil {
		failed = append(failed, fmt.Errorf("outbound.dns: %w", advise(err)))
	} else {
		all.opened = append(all.opened, s.udp, s.tcp)
	}
	names := make([]string, len(cfg.Services))
	for i, svc := range cfg.Services {
		names[i] = svc.Name
	}
	addrs, err := dns.Assign(cfg.Outbound.DNSRange, names)
	if err != nil {
		failed = append(failed, fmt.Errorf("outbound.dns_range: %w", err))
	}
	for i := range cfg.Services {
		svc := &cfg.Services[i]
		port := cfg.DNSPort(svc)
		if port == 0 || err != nil {
			continue
		}
		if err := all.bindService(s, before, svc, netip.AddrPortFrom(addrs[svc.Name], port)); err != nil {
			failed = append(failed, fmt.Errorf("outbound.dns: the port of services.%s: %w", svc.Name, adviseName(err)))
		}
	}
	return s, errors.Join(failed...)
}

// bindService opens the port where a service's name leads.
func (all *sockets) bindService(s *dnsSockets, before *sockets, svc *config.Service, at netip.AddrPort) error {
	if svc.Protocol.TCP() {
		x, err := all.keep(before, "dns."+svc.Name, at, func() (io.Closer, error) { return net.Listen("tcp4", at.String()) })
		if err != nil {
			return err
		}
		s.services[svc.Name] = x.(net.Listener)
	}
	if svc.Protocol.UDP() {
		x, err := all.keep(before, "dns."+svc.Name+"/udp", at, func() (io.Closer, error) { return net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at)) })
		if err != nil {
			return err
		}
		s.packets[svc.Name] = x.(*net.UDPConn)
	}
	return nil
}

// bindServer binds one port for UDP and TCP. Where the system chooses it, it must be free for both.
func (s *dnsSockets) bindServer(at netip.AddrPort) error {
	const tries = 20
	for range tries {
		udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		if err != nil {
			return err
		}
		tcp, err := net.Listen("tcp", udp.LocalAddr().String())
		if err == nil {
			s.udp, s.tcp = udp, tcp
			return nil
		}
		udp.Close()
		if at.Port() != 0 {
			return err
		}
	}
	return errors.New("no port is free for both UDP and TCP")
}

func (s *dnsSockets) all() []net.Listener {
	if s == nil {
		return nil
	}
	all := slices.Collect(maps.Values(s.services))
	if s.tcp != nil {
		all = append(all, s.tcp)
	}
	return all
}

// udpConns are all UDP sockets.
func (s *dnsSockets) udpConns() []*net.UDPConn {
	if s == nil {
		return nil
	}
	all := slices.Collect(maps.Values(s.packets))
	if s.udp != nil {
		all = append(all, s.udp)
	}
	return all
}

// address is where the name of a service leads; the zero AddrPort is nowhere.
func (s *dnsSockets) address(name string) netip.AddrPort {
	switch {
	case s == nil:
		return netip.AddrPort{}
	case s.services[name] != nil:
		return s.services[name].Addr().(*net.TCPAddr).AddrPort()
	case s.packets[name] != nil:
		return s.packets[name].LocalAddr().(*net.UDPAddr).AddrPort()
	}
	return netip.AddrPort{}
}

// packet is the UDP port of a service at the address that its name has, nil if there is none.
func (s *dnsSockets) packet(name string) *net.UDPConn {
	if s == nil {
		return nil
	}
	return s.packets[name]
}

// service is the TCP port of a service at the address that its name has, nil if there is none.
func (s *dnsSockets) service(name string) net.Listener {
	if s == nil {
		return nil
	}
	return s.services[name]
}

func (s *dnsSockets) close() {
	if s == nil {
		return
	}
	for _, ln := range s.all() {
		ln.Close()
	}
	for _, nc := range s.udpConns() {
		nc.Close()
	}
}

// advise says what to do about an address that cannot be listened on.
func advise(err error) error {
	if errors.Is(err, syscall.EACCES) {
		return fmt.Errorf("%w: ports below 1024 need a permission: setcap cap_net_bind_service=+ep on the pillion binary, AmbientCapabilities=CAP_NET_BIND_SERVICE in a systemd unit, or "+
			"sysctl net.ipv4.ip_unprivileged_port_start=0", err)
	}
	return err
}

// adviseName is advise for an address that a service's name has.
func adviseName(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EAFNOSUPPORT):
		return fmt.Errorf("%w: this system has no such loopback address; DNS for services needs Linux with IPv4, where all of 127.0.0.0/8 is", err)
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: something listens on every address with this port, or another sidecar on this machine has the same service: give one of them another outbound.dns_range", err)
	}
	return advise(err)
}

// newDNS returns nil where the configuration has no DNS server.
func newDNS(cfg *config.Config, socks *sockets, log *slog.Logger) (*dns.Server, error) {
	if socks.dns == nil {
		return nil, nil
	}
	return dns.New(dns.Config{
		UDP: socks.dns.udp, TCP: socks.dns.tcp, Names: namesOf(cfg, socks), Suffix: cfg.Outbound.DNSSuffix, Range: cfg.Outbound.DNSRange,
		Forward: cfg.Outbound.DNSForward, Own: socks.ownDNS(), Logger: log,
	})
}

// namesOf are the services as the DNS server is to know them.
func namesOf(cfg *config.Config, socks *sockets) []dns.Name {
	var names []dns.Name
	for _, svc := range cfg.Services {
		names = append(names, dns.Name{Service: svc.Name, Addr: socks.dns.address(svc.Name)})
	}
	return names
}

// ownDNS returns the function that recognises the sidecar's own DNS server, or nil where there is none.
func (s *sockets) ownDNS() func(netip.AddrPort) bool {
	if s.dns == nil {
		return nil
	}
	own := s.own()
	return func(a netip.AddrPort) bool { return own("tcp", a.String()) }
}

// dnsStatus describes the DNS server, nil where there is none.
func (s *sidecar) dnsStatus() *admin.DNS {
	if s.DNS == nil {
		return nil
	}
	st := s.DNS.Stats()
	one := &admin.DNS{
		Address: s.sockets().dns.tcp.Addr().String(), Suffix: s.config().Outbound.DNSSuffix, Range: s.config().Outbound.DNSRange.String(),
		Own: st.Own, Forwarded: st.Passed, Failed: st.Failed,
	}
	for _, a := range st.Servers {
		one.Servers = append(one.Servers, a.String())
	}
	return one
}

// dnsRows is the table of the DNS server.
func dnsRows(st *admin.Status) [][]cell {
	d := st.DNS
	if d == nil {
		return nil
	}
	servers := cell{text: "nobody to ask", colour: red}
	if len(d.Servers) > 0 {
		servers = plain(strings.Join(d.Servers, ","))
	}
	count := func(n uint64) cell { return plain(strconv.FormatUint(n, 10)) }
	return [][]cell{{plain(d.Address), plain(orDash(d.Suffix)), count(d.Own), count(d.Forwarded), count(d.Failed), servers}}
}
