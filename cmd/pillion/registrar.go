package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/listeners/admin"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/tls/mtls"
)

// registrar enters this sidecar where its peers look; nil if the configuration does not want that.
type registrar struct {
	*discovery.Registrar
	registry config.Registry
	entry    discovery.Registration
	stop     context.CancelFunc // nil until it runs
	ended    chan struct{}
}

func newRegistrar(p *present, f *finder, id *mtls.Source, log *slog.Logger) (*registrar, error) {
	cfg, socks := p.now.Load().cfg, p.now.Load().socks
	if cfg.Register == config.NoRegistry || socks.peer == nil {
		return nil, nil
	}
	var to discovery.Registry
	switch cfg.Register {
	case config.InConsul:
		c, err := f.shared.consulClient(cfg.Consul)
		if err != nil {
			return nil, err
		}
		to = c
	case config.InEtcd:
		c, err := f.shared.etcdClient(cfg.Etcd)
		if err != nil {
			return nil, err
		}
		to = c.Registry()
	}
	addr, err := advertised(cfg, socks.peer.Addr())
	if err != nil {
		return nil, err
	}
	name := addr.String()
	if !addr.Addr().IsValid() {
		name = fmt.Sprint(addr.Port())
	}
	r := cfg.Registration
	entry := discovery.Registration{Service: cfg.Service, ID: cfg.Service + "-" + strings.NewReplacer(":", "-", "[", "", "]", "").Replace(name), Addr: addr,
		Identity: id.Self(), Zone: cfg.Zone, Weight: r.Weight, Tags: r.Tags, TTL: r.TTL}
	if t := proxy.Transport(cfg.Peer.Transport); t != proxy.Auto {
		entry.Transport = t
	}
	for _, l := range r.Labels {
		if entry.Labels == nil {
			entry.Labels = make(map[string]string)
		}
		entry.Labels[l.Name] = l.Value
	}
	for _, a := range cfg.App {
		entry.Ports = append(entry.Ports, a.Port)
	}
	fit := func(ctx context.Context) error { return takesConnections(ctx, p.now.Load().cfg.App) }
	return &registrar{registry: cfg.Register, entry: entry, Registrar: discovery.NewRegistrar(discovery.RegistrarConfig{Registry: to, Registration: entry, Fit: fit, Logger: log})}, nil
}

// run keeps the entry until leave; start calls it on a goroutine of its own.
func (r *registrar) run(ctx context.Context) error {
	defer close(r.ended)
	return r.Run(ctx)
}

// start begins to keep the entry. Peers come from then on.
func (r *registrar) start(ctx context.Context, background func(string, context.Context, func(context.Context) error)) {
	if r == nil {
		return
	}
	ctx, r.stop = context.WithCancel(ctx)
	r.ended = make(chan struct{})
	background("registration", ctx, r.run)
}

// leave takes the entry out, and returns when that is done or cannot be; it is bounded by the Registrar.
func (r *registrar) leave() {
	if r == nil || r.stop == nil {
		return
	}
	r.stop()
	<-r.ended
}

// takesConnections says which port of the app takes no connections, if one does not. Datagrams have none.
func takesConnections(ctx context.Context, apps []config.App) error {
	const limit = time.Second
	d := net.Dialer{Timeout: limit}
	for _, a := range apps {
		if !a.Protocol.TCP() || a.Protocol == config.AppH3 {
			continue
		}
		nc, err := d.DialContext(ctx, a.To.Network(), a.To.Address())
		if err != nil {
			return fmt.Errorf("port %d of the app: %w", a.Port, err)
		}
		nc.Close()
	}
	return nil
}

// advertised is where peers can connect. An address that is not valid is for the registry to fill in.
func advertised(cfg *config.Config, listening net.Addr) (netip.AddrPort, error) {
	bound, ok := listening.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, errors.New("registration: the peer listener has no port")
	}
	addr := cfg.Registration.Advertised()
	port := addr.Port()
	if port == 0 {
		port = uint16(bound.Port)
	}
	ip := addr.Addr()
	if own := bound.AddrPort().Addr().Unmap(); !ip.IsValid() && !own.IsUnspecified() {
		ip = own
	}
	if !ip.IsValid() {
		var err error
		if ip, err = towards(registryAddress(cfg)); err != nil {
			return netip.AddrPort{}, fmt.Errorf("registration: no address of this machine is known to peers (%w); write registration.address", err)
		}
		if ip.IsLoopback() && cfg.Register == config.InConsul {
			ip = netip.Addr{} // the agent knows its node's
		}
	}
	return netip.AddrPortFrom(ip, port), nil
}

// registryAddress is host:port of the registry.
func registryAddress(cfg *config.Config) string {
	if cfg.Register == config.InEtcd {
		if len(cfg.Etcd.Endpoints) > 0 {
			return cfg.Etcd.Endpoints[0]
		}
		return "127.0.0.1:2379"
	}
	u, err := url.Parse(cfg.Consul.Address)
	if err != nil || u.Host == "" {
		return "127.0.0.1:8500" // a socket
	}
	if u.Port() == "" {
		return net.JoinHostPort(u.Hostname(), "80")
	}
	return u.Host
}

// towards is the address of this machine from which to is reached. Nothing is sent.
func towards(to string) (netip.Addr, error) {
	nc, err := net.DialTimeout("udp", to, 2*time.Second)
	if err != nil {
		return netip.Addr{}, err
	}
	defer nc.Close()
	addr, err := netip.ParseAddrPort(nc.LocalAddr().String())
	return addr.Addr().Unmap(), err
}

// registrationStatus is nil where nothing is registered.
func (s *sidecar) registrationStatus() *admin.Registration {
	r := s.Registrar
	if r == nil {
		return nil
	}
	st := r.Status()
	one := &admin.Registration{In: string(r.registry), ID: r.entry.ID, Address: r.entry.Addr.String(), Entered: st.Entered, Age: -1}
	if !r.entry.Addr.Addr().IsValid() {
		one.Address = fmt.Sprintf(":%d", r.entry.Addr.Port())
	}
	if st.Entered {
		one.Age = time.Since(st.Renewed).Seconds()
	}
	if st.Unfit != nil {
		one.Unfit = st.Unfit.Error()
	}
	if st.Err != nil {
		one.Error = st.Err.Error()
	}
	return one
}
