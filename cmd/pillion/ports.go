package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/listeners/local"
	flowport "github.com/pillion-proxy/pillion/listeners/udp"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// openPort is one local listener: it is served, or, after a reload without it, only what came before.
type openPort struct {
	name     string
	on       net.Listener
	listener task.Listener
	retired  bool
}

// openPackets is one UDP port, in the same way.
type openPackets struct {
	on *net.UDPConn
	*flowport.Listener
	retired bool
}

// localPorts are the listeners of the app that cfg has.
func localPorts(cfg *config.Config, socks *sockets) []local.Port {
	var all []local.Port
	add := func(p local.Port) {
		if p.Listener != nil {
			p.MaxConns = cfg.Limits.Connections
			all = append(all, p)
		}
	}
	add(local.Port{Name: "outbound", Listener: socks.outbound, ProxyFrom: local.Sources(cfg.Outbound.ProxyProtocol.From)})
	for _, svc := range cfg.Services {
		p := local.Port{Protocol: protocolOf(&svc), Service: proxy.Service{Name: svc.Name, Port: svc.Port}}
		p.Name, p.Listener, p.ProxyFrom = "services."+svc.Name, socks.services[svc.Name], local.Sources(svc.ProxyProtocol.From)
		add(p)
		p.Name, p.Listener, p.ProxyFrom = "dns."+svc.Name, socks.dns.service(svc.Name), local.Sources{}
		add(p)
	}
	return all
}

// packetPorts are the UDP ports of the app that cfg has.
func packetPorts(cfg *config.Config, socks *sockets) []flowport.Port {
	var all []flowport.Port
	for _, svc := range cfg.Services {
		p := flowport.Port{Service: proxy.Service{Name: svc.Name, Port: svc.Port}, Idle: svc.FlowIdle, MaxFlows: cfg.Limits.Flows}
		if p.Name, p.Conn = "services."+svc.Name, socks.packets[svc.Name]; p.Conn != nil {
			all = append(all, p)
		}
		if p.Name, p.Conn = "dns."+svc.Name, socks.dns.packet(svc.Name); p.Conn != nil {
			all = append(all, p)
		}
	}
	return all
}

// openPorts begins to accept the app's connections and datagrams on every port that is not served yet.
func (s *sidecar) openPorts() error {
	var failed []error
	cfg, socks := s.config(), s.sockets()
	for _, p := range localPorts(cfg, socks) {
		if s.serves(func(o openPort) bool { return o.on == p.Listener }) {
			continue
		}
		ln, err := s.Local.Listen(s.Runtime, p)
		if err != nil {
			failed = append(failed, fmt.Errorf("serve %s: %w", p.Name, err))
			continue
		}
		s.mu.Lock()
		s.ports = append(s.ports, openPort{name: p.Name, on: p.Listener, listener: ln})
		s.mu.Unlock()
	}
	shards := s.Runtime.Shards()
	for _, p := range packetPorts(cfg, socks) {
		if s.takesPackets(p.Conn) {
			continue
		}
		p.Stats, p.DNS = s.Flows.service(p.Service.Name), s.Flows.answers(p.Service.Name)
		s.mu.Lock()
		l := flowport.Listen(shards[s.dealt%len(shards)], flowport.Config{Handler: s.Outbound, Logger: s.Log}, p) // in turn
		s.dealt++
		s.packets = append(s.packets, openPackets{on: p.Conn, Listener: l})
		s.mu.Unlock()
	}
	return errors.Join(failed...)
}

func (s *sidecar) serves(is func(openPort) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.ports, is)
}

func (s *sidecar) takesPackets(c *net.UDPConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.packets, func(o openPackets) bool { return o.on == c })
}

// retirePorts closes the ports that are no longer there, for what is new: connections go on until they end, or are idle. When it returns another
// process, or the next reload, may have them.
func (s *sidecar) retirePorts() {
	s.closeRetired()
	ctx, cancel := context.WithTimeout(context.Background(), gatherTimeout)
	defer cancel()
	for _, sh := range s.Runtime.Shards() {
		_ = task.Call(ctx, sh, func() {}) // sockets are closed by their shards, in order
	}
}

// closeRetired forgets those that have nothing left, too.
func (s *sidecar) closeRetired() {
	there := make(map[any]bool)
	for _, p := range localPorts(s.config(), s.sockets()) {
		there[p.Listener] = true
	}
	for _, p := range packetPorts(s.config(), s.sockets()) {
		there[p.Conn] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.ports {
		if p := &s.ports[i]; !p.retired && !there[p.on] {
			p.listener.Close()
			p.listener.CloseIdle()
			p.on.Close()
			p.retired = true
		}
	}
	for i := range s.packets {
		if p := &s.packets[i]; !p.retired && !there[p.on] {
			p.Close()
			p.on.Close()
			p.retired = true
		}
	}
	s.ports = slices.DeleteFunc(s.ports, func(p openPort) bool { return p.retired && p.listener.Active() == 0 })
	s.packets = slices.DeleteFunc(s.packets, func(p openPackets) bool { return p.retired && p.Active() == 0 })
}

// openNow are the ports that there are, with those of which only connections are left.
func (s *sidecar) openNow() ([]openPort, []openPackets) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ports), slices.Clone(s.packets)
}

// keptDiffer lists what is said anew of ports that stay, which only a new socket can take.
func keptDiffer(old, cfg *config.Config) (keys []string) {
	differ := func(key string, stays bool, a, b any) {
		if stays && !reflect.DeepEqual(a, b) {
			keys = append(keys, key)
		}
	}
	o, n := old.Outbound, cfg.Outbound
	differ("outbound.proxy_protocol", n.Listen.On && o.Listen == n.Listen && o.Socket == n.Socket, o.ProxyProtocol, n.ProxyProtocol)
	before := make(map[string]*config.Service, len(old.Services))
	for i := range old.Services {
		before[old.Services[i].Name] = &old.Services[i]
	}
	for i := range cfg.Services {
		b, a := &cfg.Services[i], before[cfg.Services[i].Name]
		if a == nil {
			continue
		}
		key := "services." + b.Name
		listens := b.Listen.On && a.Listen == b.Listen && a.Socket == b.Socket
		stays := listens || cfg.DNSPort(b) != 0 && old.DNSPort(a) == cfg.DNSPort(b)
		tcp, udp := stays && a.Protocol.TCP() && b.Protocol.TCP(), stays && a.Protocol.UDP() && b.Protocol.UDP()
		differ(key+".protocol", tcp, protocolOf(a), protocolOf(b))
		differ(key+".port", stays, a.Port, b.Port)
		differ(key+".proxy_protocol", listens && tcp, a.ProxyProtocol, b.ProxyProtocol)
		differ(key+".flow_idle", udp, a.FlowIdle, b.FlowIdle)
		differ(key+".cache.dns", udp, a.Cache.DNS, b.Cache.DNS)
	}
	return keys
}

// protocolOf is what is spoken on a service's own port over TCP.
func protocolOf(s *config.Service) local.Protocol {
	switch s.Protocol {
	case config.ServiceHTTP:
		return local.HTTP
	case config.ServiceTCP, config.ServiceBoth:
		return local.TCP
	default:
		return local.Auto
	}
}

// countLost asks each UDP port's shard what the kernel has dropped.
func (s *sidecar) countLost(ctx context.Context) {
	_, packets := s.openNow()
	for _, l := range packets {
		_ = task.Call(ctx, l.Shard(), l.Lost)
	}
}
