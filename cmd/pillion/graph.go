package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"

	"sync/atomic"

	"go.uber.org/dig"
	"go.uber.org/fx"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/listeners/local"
	"github.com/pillion-proxy/pillion/listeners/peer"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/answer"
	"github.com/pillion-proxy/pillion/proxy/datagram"
	"github.com/pillion-proxy/pillion/proxy/http2"
	"github.com/pillion-proxy/pillion/proxy/http3"
	"github.com/pillion-proxy/pillion/proxy/httpcache"
	"github.com/pillion-proxy/pillion/proxy/inbound"
	"github.com/pillion-proxy/pillion/proxy/observe"
	"github.com/pillion-proxy/pillion/proxy/outbound"
	"github.com/pillion-proxy/pillion/proxy/proxyproto"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/tls/devca"
	"github.com/pillion-proxy/pillion/tls/mtls"
	"github.com/pillion-proxy/pillion/upstream"
	"github.com/pillion-proxy/pillion/upstream/auto"
	"github.com/pillion-proxy/pillion/upstream/balance"
	"github.com/pillion-proxy/pillion/upstream/direct"
	"github.com/pillion-proxy/pillion/upstream/h2link"
	"github.com/pillion-proxy/pillion/upstream/pool"
	"github.com/pillion-proxy/pillion/upstream/quiclink"
)

// serve runs one sidecar until ctx ends or its app does, and returns when everything has ended.
func serve(ctx context.Context, cfg *config.Config, log *slog.Logger, app *supervisor, how reloading) error {
	var s *sidecar
	g := fx.New(graph(cfg, log, app, how), fx.Invoke(func(p parts) { s = newSidecar(p) }))
	if err := g.Err(); err != nil {
		return dig.RootCause(err)
	}
	return s.run(ctx)
}

// graph is how the rooms are joined: each line makes one thing from those above it.
func graph(cfg *config.Config, log *slog.Logger, app *supervisor, how reloading) fx.Option {
	return fx.Options(
		fx.NopLogger,
		fx.Supply(cfg, log, app, how),
		fx.Provide(
			newIdentity,    // who this sidecar is, and whom it believes
			bind,           // every listening socket
			newPresent,     // what a reload replaces: the configuration, and these sockets
			newRuntime,     // the loops
			newGoroutines,  // the runtime that QUIC lives on
			newShards,      // those of both
			newUDP,         // sockets for QUIC
			auto.NewMemory, // what was learnt of ways to peers
			newQUIC,        // Links over QUIC
			newFinder,      // discovery: where the services are
			newPools,       // Links to peers
			newFlows,       // counters of datagrams, and who holds Flows open
			newResilience,  // budgets and counters of retries and the like
			newDirect,      // connections to apps
			newUpstream,    // a Service's Endpoints, Links and connections
			newCache,       // answers that are kept
			newObservers,   // who is told of every request
			newViews,       // what peers may see of this sidecar
			newOutbound,    // the layers from the app to peers
			newTargets,     // ways to the app, which outlive reloads
			newInbound,     // the layers from peers to the app
			newLocal,       // accepts the app's connections
			newHTTP3,       // accepts those over QUIC
			newDNS,         // answers the app's DNS questions
			newRegistrar,   // enters this sidecar where peers look
			newPeer,        // accepts peers' Links
		),
	)
}

// outboundStack and inboundStack tell the two stacks apart.
type (
	outboundStack struct{ *stack }
	inboundStack  struct{ *stack }
)

// stack is a way through the layers, which a reload replaces: a request takes the one that is there when it comes, to its end.
type stack struct {
	now atomic.Pointer[proxy.RoundTripper]
}

func newStack(rt proxy.RoundTripper) *stack {
	s := new(stack)
	s.replace(rt)
	return s
}

func (s *stack) replace(rt proxy.RoundTripper) { s.now.Store(&rt) }

// RoundTrip implements proxy.RoundTripper.
func (s *stack) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	return (*s.now.Load()).RoundTrip(req, resp)
}

// flowless is a stack for codecs that know no Flows.
type flowless struct{ *stack }

// RoundTrip implements proxy.RoundTripper.
func (s flowless) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	err := (*s.now.Load()).RoundTrip(req, resp)
	if err == nil && resp.Flow != nil {
		datagram.Carry(resp)
	}
	return err
}

// newIdentity reads the configured certificate, or issues one from the development CA.
func newIdentity(cfg *config.Config, log *slog.Logger) (*mtls.Source, error) {
	id := cfg.Identity
	if id.Cert != "" {
		return mtls.New(mtls.Config{Cert: id.Cert, Key: id.Key, Roots: id.Roots, TrustDomain: id.TrustDomain, Logger: log})
	}
	dir := id.DevCA
	if dir == "" {
		var err error
		if dir, err = devca.DefaultDir(os.Getenv); err != nil {
			return nil, err
		}
	}
	ca, created, err := devca.OpenFor(dir, id.TrustDomain)
	if err != nil {
		return nil, err
	}
	verb := "using"
	if created {
		verb = "created"
	}
	log.Info(verb+" the development CA; peers must use the same one", "dir", ca.Dir(), "fingerprint", ca.Fingerprint())
	issue := func(context.Context) (mtls.Material, error) {
		cert, key, err := ca.Issue(cfg.ID(), devca.IssueOptions{})
		return mtls.Material{Cert: cert, Key: key, Roots: ca.Roots()}, err
	}
	return mtls.NewIssued(context.Background(), issue, mtls.Config{TrustDomain: id.TrustDomain, Logger: log})
}

func newRuntime(log *slog.Logger) (task.Runtime, error) {
	return task.New(task.Config{Logger: log})
}

// pools are the Links of each shard: those of Flows have a preference of their own.
type pools struct{ links, flows []*pool.Pool }

// each calls f for both pools of shard i.
func (p pools) each(i int, f func(*pool.Pool)) {
	f(p.links[i])
	f(p.flows[i])
}

func newPools(rt task.Runtime, id *mtls.Source, q *quiclink.Dialer, m *auto.Memory, now *present, cfg *config.Config, log *slog.Logger) pools {
	tcp := h2link.Dialer(h2link.Config{
		TLS:     id.ClientConfig,
		Explain: id.Explain,
		Logger:  log,
		HTTP2:   http2.Config{Pillion: true, MaxStreams: maxLinkStreams, MaxHead: int(cfg.Limits.Head), Logger: log},
		Idle:    now.linkIdle,
	})
	ways := auto.Config{TCP: tcp, Memory: m}
	if q != nil {
		ways.QUIC = q.Dial
	}
	links := auto.New(ways)
	ways.Prefer = proxy.QUIC
	flows := auto.New(ways)
	var p pools
	for _, s := range rt.Shards() {
		p.links = append(p.links, pool.New(pool.Config{Shard: s, Dial: links.Dial}))
		p.flows = append(p.flows, pool.New(pool.Config{Shard: s, Dial: flows.Dial}))
	}
	return p
}

// maxLinkStreams bounds the concurrent streams of one Link, either way.
const maxLinkStreams = 10_000

func newDirect(all shards, g goroutines, u *udp, now *present, r *resilience, cfg *config.Config, log *slog.Logger) *direct.Direct {
	return direct.New(direct.Config{
		Shards:  all,
		HTTP3:   http3.Config{MaxStreams: maxLinkStreams, MaxHead: int(cfg.Limits.Head), Logger: log},
		Far:     g.far,
		Socket:  u.open,
		HTTP2:   http2.Config{MaxStreams: maxLinkStreams, MaxHead: int(cfg.Limits.Head), Logger: log},
		MaxHead: int(cfg.Limits.Head),
		Own:     now.own,
		Places:  r.placesOf,
		Logger:  log,
	})
}

func newUpstream(rt task.Runtime, f *finder, p pools, d *direct.Direct, cfg *config.Config) *upstream.Upstream {
	return upstream.New(upstream.Config{Shards: rt.Shards(), Services: upstreamServices(cfg, f, rt), Pools: p.links, FlowPools: p.flows, Direct: d})
}

// upstreamServices is what upstream is to know of each service.
func upstreamServices(cfg *config.Config, f *finder, rt task.Runtime) []upstream.Service {
	var services []upstream.Service
	self := instance(cfg)
	for _, s := range cfg.Services {
		one := upstream.Service{
			Name: s.Name, Endpoints: f.endpoints(s.Name), Balance: balanceOf(cfg, &s), Key: keyOf(s.Balance.Key), Subset: s.Balance.Subset.Header, StreamAge: s.Balance.StreamAge,
			Health: healthOf(&s.Health), Check: checkOf(&s),
		}
		if !s.Balance.Policy.Hashes() { // all sidecars must choose among the same endpoints
			one.Aperture = balance.NewAperture(balance.ApertureConfig{Self: self, Zone: one.Balance.Zone, Label: one.Balance.Label, Min: s.Aperture, Shards: len(rt.Shards())})
		}
		services = append(services, one)
	}
	return services
}

// instance is a name for this sidecar that no other has, and that it has again when it restarts: pods have host names of their own, and
// those that share a host listen on different ports.
func instance(cfg *config.Config) string {
	host, _ := os.Hostname()
	return fmt.Sprint(host, " ", cfg.Service, " ", cfg.Peer.Listen, " ", cfg.Outbound.Listen)
}

// makings are what the layers of both stacks are made from, besides the configuration. They outlive reloads, which make the layers anew.
type makings struct {
	fx.In

	Runtime    task.Runtime
	Upstream   *upstream.Upstream
	Direct     *direct.Direct
	Finder     *finder
	Flows      *flows
	Targets    *targets
	Resilience *resilience
	Cache      *httpcache.Cache
	Observers  *observers
	Views      *views
}

func newOutbound(m makings, cfg *config.Config, socks *sockets) outboundStack {
	return outboundStack{newStack(outbound.New(m.outbound(cfg, socks)))}
}

func newInbound(m makings, cfg *config.Config) inboundStack {
	return inboundStack{newStack(inbound.New(m.inbound(cfg)))}
}

// outbound is the layers from the app to peers.
func (m *makings) outbound(cfg *config.Config, socks *sockets) outbound.Config {
	var others proxy.RoundTripper
	if cfg.Outbound.Others == config.Direct {
		others = m.Direct.Others(lookupHost)
	}
	return outbound.Config{
		Name: cfg.Service, Routes: routesOf(cfg), Tables: tablesOf(cfg), Shards: len(m.Runtime.Shards()),
		ByAddress: byAddress(cfg, m.Finder, socks), Others: others, Upstream: m.Upstream,
		Layers: m.layers(cfg), Observe: m.Observers.layer(observe.Outbound), Trace: m.Observers.trace(),
	}
}

// layers are those of each service.
func (m *makings) layers(cfg *config.Config) func(service string) outbound.Layers {
	r := m.Resilience
	cache, retry, hedge, limit := cacheLayers(m.Cache, cfg), r.retryLayers(cfg), r.hedgeLayers(cfg), r.limitLayers(cfg)
	waits, fault, mirror, split := waitsLayers(cfg), r.faultLayers(cfg), r.mirrorLayers(cfg), splitLayers(cfg)
	return func(service string) outbound.Layers {
		return outbound.Layers{Cache: cache[service], Retry: retry[service], Hedge: hedge[service], Limit: limit[service],
			Waits: waits[service], Fault: fault[service], Mirror: mirror[service], Split: split[service]}
	}
}

func lookupHost(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// inbound is the layers from peers to the app.
func (m *makings) inbound(cfg *config.Config) inbound.Config {
	protocols := map[config.AppProtocol]direct.Protocol{config.AppHTTP: direct.HTTP, config.AppH2C: direct.H2C, config.AppH3: direct.H3}
	headers := map[config.ProxyProtocol]proxyproto.Version{config.ProxyV1: proxyproto.V1, config.ProxyV2: proxyproto.V2}
	var apps []inbound.App
	for _, a := range cfg.App {
		to := m.Targets.to(m.Direct, proxy.Endpoint{Addr: a.To.Addr, Unix: a.To.Unix}, direct.Options{
			Protocol: protocols[a.Protocol], Idle: a.Idle, Header: headers[a.ProxyProtocol], Flows: m.Flows.app(&a), Places: m.Resilience.appPlaces(&a), TLS: appTLS(a.TLS)}, &a)
		if a.Protocol.TCP() {
			streams := a.Protocol == config.AppTCP || a.Protocol == config.AppBoth
			cache, news := appCache(m.Cache, &a)
			apps = append(apps, inbound.App{Port: a.Port, Allow: a.Allow, StreamsOnly: streams, NoStreams: a.Streams == config.StreamsRefuse, Limit: m.Resilience.appLimit(&a), Once: m.Resilience.once.Layer, Cache: cache, News: news, To: to})
		}
		if a.Protocol.UDP() {
			apps = append(apps, inbound.App{Port: a.Port, Allow: a.Allow, Flows: true, To: to})
		}
	}
	m.Targets.settle()
	return inbound.Config{Name: cfg.Service, Apps: apps, Sidecar: m.Views.layer(cfg.Service, cfg.Admin.Share), Observe: m.Observers.layer(observe.Inbound)}
}

func newLocal(rt task.Runtime, stack outboundStack, f *flows, cfg *config.Config, log *slog.Logger) (*local.Server, error) {
	return local.New(local.Config{
		Handler: flowless(stack), Tunnel: f.tunnel(), Answer: answer.Fill, MaxHead: int(cfg.Limits.Head), TLSPorts: portsOf(cfg), Flows: f.associated(cfg),
		Shards: rt.Shards(), Logger: log,
	})
}

// portsOf are the ports of the services that are asked for where nothing else says one.
func portsOf(cfg *config.Config) map[string]uint16 {
	ports := make(map[string]uint16)
	for _, s := range cfg.Services {
		ports[s.Name] = s.Port
	}
	return ports
}

// newPeer returns nil where the configuration has no peer listener.
func newPeer(rt task.Runtime, g goroutines, u *udp, socks *sockets, id *mtls.Source, stack inboundStack, f *flows, cfg *config.Config, log *slog.Logger) (*peer.Server, error) {
	if socks.peer == nil {
		return nil, nil
	}
	quic, err := acceptQUIC(g, socks, u, id, stack, f, cfg, log)
	if err != nil {
		return nil, err
	}
	return peer.New(peer.Config{
		Listener: socks.peer, Runtime: rt, TLS: id.ServerConfig, Identity: id.Identity, Explain: id.Explain, Self: id.Self, Logger: log,
		QUIC: quic,
		HTTP2: http2.Config{
			Handler: flowless(stack), Tunnel: f.tunnel(), Answer: answer.Fill, Pillion: true,
			MaxStreams: maxLinkStreams, MaxHead: int(cfg.Limits.Head), Logger: log,
		},
	}), nil
}
