package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/cmd/internal/dashboard"
	"github.com/pillion-proxy/pillion/listeners/admin"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/detect"
	"github.com/pillion-proxy/pillion/proxy/http2"
	"github.com/pillion-proxy/pillion/proxy/http3"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/upstream"
	"github.com/pillion-proxy/pillion/upstream/auto"
	"github.com/pillion-proxy/pillion/upstream/direct"
	"github.com/pillion-proxy/pillion/upstream/h2link"
	"github.com/pillion-proxy/pillion/upstream/pool"
	"github.com/pillion-proxy/pillion/upstream/quiclink"
)

// gatherTimeout bounds how long a status waits for the shards.
const gatherTimeout = 2 * time.Second

// notReady says why the sidecar takes no traffic, or nil.
func (s *sidecar) notReady() error {
	switch s.phase.Load() {
	case starting:
		return errors.New("starting: discovery has not answered yet")
	case ready:
		return nil
	default:
		return errors.New("draining: this sidecar was told to stop")
	}
}

// status gathers what the rooms know. It is called by the admin listener's goroutines.
func (s *sidecar) status() admin.Status {
	ctx, cancel := context.WithTimeout(context.Background(), gatherTimeout)
	defer cancel()
	s.countLost(ctx)
	st := admin.Status{
		Version: version().Version, PID: os.Getpid(), Service: s.config().Service, Config: s.config().File, Configuration: s.configuration(),
		State: admin.Ready, Started: s.started, Uptime: time.Since(s.started).Seconds(),
		Identity: s.identityStatus(), Listeners: s.listeners(), Apps: s.apps(ctx), Runtime: s.runtimeStatus(),
		Services: s.services(ctx), Links: s.links(ctx), Paths: s.paths(), DNS: s.dnsStatus(), Registration: s.registrationStatus(), Cache: s.cacheStatus(), Attempts: s.Resilience.attempts(),
	}
	if err := s.notReady(); err != nil {
		st.State, st.NotReady = admin.Starting, err.Error()
		if s.phase.Load() >= draining {
			st.State = admin.Draining
			st.Drain = s.drainStatus()
		}
	}
	return st
}

func (s *sidecar) drainStatus() *admin.Drain {
	step, _ := s.step.Load().(string)
	left := s.config().Drain - time.Since(time.Unix(0, s.drainSince.Load()))
	return &admin.Drain{Step: step, Left: max(0, left).Seconds()}
}

func (s *sidecar) identityStatus() admin.Identity {
	id := s.Identity.Status()
	source := s.config().Identity.Cert
	if source == "" {
		source = s.config().Identity.DevCA
	}
	return admin.Identity{
		ID: string(id.Identity), TrustDomain: id.TrustDomain, Issuer: id.Issuer, Fingerprint: id.Fingerprint,
		NotBefore: id.NotBefore, NotAfter: id.NotAfter, Source: source, Warning: id.Warning, Error: id.Error,
	}
}

func (s *sidecar) listeners() []admin.Listener {
	var all []admin.Listener
	if ln := s.sockets().admin; ln != nil {
		all = append(all, admin.Listener{Name: "admin", Address: ln.Addr().String()})
	}
	if s.Peer != nil {
		all = append(all, admin.Listener{Name: "peer", Address: s.sockets().peer.Addr().String(), Connections: s.Peer.Open()})
	}
	if s.HTTP3 != nil {
		all = append(all, admin.Listener{Name: "outbound.http3", Address: "udp:" + s.sockets().http3.LocalAddr().String(), Connections: s.HTTP3.Open()})
	}
	ports, packets := s.openNow()
	for _, p := range ports {
		all = append(all, admin.Listener{Name: p.name, Address: address(p.listener), Connections: p.listener.Active(), Retired: p.retired})
	}
	for _, l := range packets {
		all = append(all, admin.Listener{Name: l.Name(), Address: "udp:" + l.Addr().String(), Connections: l.Active(), Retired: l.retired})
	}
	return all
}

func address(ln task.Listener) string {
	if ln.Addr().Network() == "unix" {
		return "unix:" + ln.Addr().String()
	}
	return ln.Addr().String()
}

func (s *sidecar) apps(ctx context.Context) []admin.App {
	var all []admin.App
	for _, a := range s.config().App {
		one := admin.App{Load: s.Resilience.load(loadKey(&a)), Flows: flowStatus(s.Flows.app(&a)), Port: a.Port, To: a.To.String(), Protocol: string(a.Protocol)}
		h := s.appHealth(ctx, proxy.Endpoint{Addr: a.To.Addr, Unix: a.To.Unix})
		one.Tried, one.Idle, one.Error, one.Keep = h.At != 0, h.Idle, h.Why, h.Keep.Seconds()
		if a.Protocol == config.AppAuto {
			one.Speaks = h.Speaks
		}
		for _, id := range a.Allow {
			one.Allow = append(one.Allow, string(id))
		}
		all = append(all, one)
	}
	return all
}

// appHealth merges the shards' views of the app at ep: the last connect counts.
func (s *sidecar) appHealth(ctx context.Context, ep proxy.Endpoint) direct.Health {
	var all direct.Health
	for _, sh := range s.Shards {
		var one direct.Health
		if err := task.Call(ctx, sh, func() { one = s.Direct.Health(sh, ep) }); err != nil {
			continue
		}
		one.Idle += all.Idle
		if all.Keep != 0 && (one.Keep == 0 || all.Keep < one.Keep) {
			one.Keep = all.Keep
		}
		if one.At < all.At {
			one.At, one.Why = all.At, all.Why
		}
		if one.Speaks == "" {
			one.Speaks = all.Speaks
		}
		all = one
	}
	return all
}

func (s *sidecar) services(ctx context.Context) []admin.Service {
	var all []admin.Service
	health := s.health(ctx)
	for _, svc := range s.config().Services {
		one := s.Finder.status(svc)
		one.Flows, one.Retries = s.serviceFlows(&svc), s.Resilience.retries(svc.Name)
		one.Hedges, one.Load, one.Faults = s.Resilience.hedged(svc.Name), s.Resilience.load(svc.Name), s.Resilience.injected(svc.Name)
		one.RouteLoads = s.Resilience.routeLoads(&svc)
		one.Mirror = s.Resilience.copies(svc.Name)
		one.Listen, one.Protocol = "", string(svc.Protocol)
		if svc.Listen.On {
			one.Listen = svc.Listen.String()
		}
		if at := s.sockets().dns.address(svc.Name); at.IsValid() {
			one.DNS = at.String()
		}
		if v := s.Local.Speaks(proxy.Service{Name: svc.Name, Port: svc.Port}); v != detect.Unknown {
			one.Speaks = v.String()
		}
		one.Balance = balanceStatus(health[svc.Name].stats)
		for _, h := range health[svc.Name].health {
			one.Endpoints = append(one.Endpoints, endpointStatus(h))
		}
		all = append(all, one)
	}
	return all
}

// endpointStatus describes an Endpoint, and how it is.
func endpointStatus(h upstream.Health) admin.Endpoint {
	ep := admin.Endpoint{
		Address: h.Endpoint.String(), Identity: string(h.Endpoint.Identity), Mesh: h.Endpoint.Mesh, Priority: h.Endpoint.Priority, Weight: h.Endpoint.Weight,
		Zone: h.Endpoint.Zone, Labels: h.Endpoint.Labels, InUse: h.InUse, Tried: h.Answered || h.Why != "", Healthy: h.Healthy(),
		Pending: h.Pending, Streams: h.Streams, Latency: h.Latency.Seconds(), Failing: h.Failing, Ejections: h.Ejections,
	}
	switch {
	case h.Lost:
		ep.Out = admin.Lost
	case h.Ejected:
		ep.Out = admin.Ejected
	case h.Sick:
		ep.Out = admin.Sick
	}
	if !ep.Healthy {
		ep.Error, ep.Again = h.Why, h.Again.Seconds()
	}
	return ep
}

// balanceStatus is what was decided for a service, over all shards.
func balanceStatus(st upstream.Stats) *admin.Balance {
	b, h := st.Balance, st.Health
	return &admin.Balance{
		Picks: b.Picks, Redraws: b.Redraws, Scans: b.Scans, Panics: b.Panics, Last: b.Last, Far: b.Far, Moved: b.Moved, Turned: st.Turned,
		Lost: h.Lost, Ejected: h.Ejected, Spared: h.Spared, Checks: h.Checks, FailedChecks: h.FailedChecks,
	}
}

// serviceView is what the shards know of a service.
type serviceView struct {
	health []upstream.Health
	stats  upstream.Stats
}

// health merges the shards' views of each service, and adds the endpoints that none of them uses.
func (s *sidecar) health(ctx context.Context) map[string]serviceView {
	all := make(map[string]serviceView)
	var now task.Instant
	for _, sh := range s.Runtime.Shards() {
		views := make(map[string]serviceView)
		var at task.Instant
		err := task.Call(ctx, sh, func() {
			at = sh.Now()
			for _, svc := range s.config().Services {
				views[svc.Name] = serviceView{s.Upstream.Health(sh, svc.Name), s.Upstream.Stats(sh, svc.Name)}
			}
		})
		if err != nil {
			continue // views may still be written
		}
		now = at
		for name, one := range views {
			one.health = merge(all[name].health, one.health)
			one.stats.Balance.Add(all[name].stats.Balance)
			one.stats.Turned += all[name].stats.Turned
			all[name] = one
		}
	}
	for name, one := range all {
		one.health = s.Upstream.All(name, one.health, now)
		all[name] = one
	}
	return all
}

func merge(all, view []upstream.Health) []upstream.Health {
	if all == nil {
		return view
	}
	for i := range view {
		if i < len(all) && all[i].Endpoint == view[i].Endpoint {
			all[i].Merge(view[i])
		}
	}
	return all
}

// outboundLinks describes the Links of this sidecar to its peers.
func (s *sidecar) outboundLinks(ctx context.Context) []admin.Link {
	var all []admin.Link
	for i, sh := range s.Runtime.Shards() {
		var mine []admin.Link
		err := task.Call(ctx, sh, func() {
			s.Pools.each(i, func(p *pool.Pool) {
				p.Each(func(ep *proxy.Endpoint, l pool.Link) { mine = append(mine, outboundLink(ep, l)) })
			})
		})
		if err == nil {
			all = append(all, mine...)
		}
	}
	return all
}

// outboundLink describes one Link, on its shard.
func outboundLink(ep *proxy.Endpoint, l pool.Link) admin.Link {
	moves := 0
	if a, ok := l.(*auto.Link); ok {
		l, moves = a.Inner(), a.Moves()
	}
	if q, ok := l.(*quiclink.Link); ok {
		st := q.Stats()
		one := quicLink(admin.Outbound, ep.Addr.String(), ep.Identity, st.Since, st.Stats)
		one.Suspect, one.Moves = st.Suspect, moves+st.Moves
		return one
	}
	st, since := l.(*h2link.Link).Stats()
	one := link(admin.Outbound, ep.Addr.String(), ep.Identity, since, st, l.(*h2link.Link).Path())
	one.Suspect, one.Moves = st.Suspect, moves
	return one
}

func (s *sidecar) links(ctx context.Context) []admin.Link {
	all := s.outboundLinks(ctx)
	if s.Peer == nil {
		return all
	}
	for _, l := range s.Peer.Links(ctx) {
		if l.QUIC != nil {
			all = append(all, quicLink(admin.Inbound, l.Peer.Addr.String(), l.Peer.Identity, l.Since, *l.QUIC))
			continue
		}
		all = append(all, link(admin.Inbound, l.Peer.Addr.String(), l.Peer.Identity, l.Since, l.Stats, l.Path))
	}
	return all
}

func link(d admin.Direction, peer string, id proxy.Identity, since time.Time, st http2.Stats, path task.Path) admin.Link {
	return admin.Link{
		Lost: path.Resent, Window: path.Window, MTU: path.MTU, Stalls: stalls(st.Stalls),
		Direction: d, Peer: peer, Identity: string(id), Transport: string(proxy.TCP), Pillion: st.Pillion,
		Streams: st.Streams, Total: st.Opened, RTT: st.RTT.Seconds(), BytesIn: st.In, BytesOut: st.Out,
		Age: time.Since(since).Seconds(), Draining: st.GoingAway,
	}
}

// stalls is nil where nothing has waited.
func stalls(s http2.Stalls) *admin.Stalls {
	if s == (http2.Stalls{}) {
		return nil
	}
	return &admin.Stalls{Stream: s.Stream.Count, StreamSeconds: s.Stream.Time.Seconds(), Conn: s.Conn.Count, ConnSeconds: s.Conn.Time.Seconds(),
		Line: s.Line.Count, LineSeconds: s.Line.Time.Seconds()}
}

func quicStalls(s http3.Stalls) *admin.Stalls {
	if s == (http3.Stalls{}) {
		return nil
	}
	return &admin.Stalls{QUIC: s.Count, QUICSeconds: s.Time.Seconds()}
}

func quicLink(d admin.Direction, peer string, id proxy.Identity, since time.Time, st http3.Stats) admin.Link {
	return admin.Link{
		Direction: d, Peer: peer, Identity: string(id), Transport: string(proxy.QUIC), Pillion: st.Pillion,
		Streams: st.Streams, Total: st.Opened, RTT: st.RTT.Seconds(), BytesIn: st.In, BytesOut: st.Out, Lost: st.Lost, Window: st.Window, MTU: st.MTU,
		Stalls: quicStalls(st.Stalls),
		Age:    time.Since(since).Seconds(), Draining: st.GoingAway,
	}
}

// paths is what was learnt of the ways to peers.
func (s *sidecar) paths() []admin.Path {
	var all []admin.Path
	for _, p := range s.Memory.Paths() {
		one := admin.Path{Peer: p.Peer.String(), Network: p.Network}
		for _, k := range p.Transports {
			w := admin.Way{Transport: string(k.Transport), State: string(k.State)}
			if !k.Since.IsZero() {
				w.Age = time.Since(k.Since).Seconds()
			}
			if k.Err != nil {
				w.Error, w.Again = k.Err.Error(), k.Again.Seconds()
			}
			one.Ways = append(one.Ways, w)
		}
		all = append(all, one)
	}
	return all
}

func (s *sidecar) runtimeStatus() admin.Runtime {
	st := s.Runtime.Stats()
	if s.Far.Runtime != nil {
		far := s.Far.Stats()
		st.Tasks, st.Conns, st.Idle, st.Buffers = st.Tasks+far.Tasks, st.Conns+far.Conns, st.Idle+far.Idle, st.Buffers+far.Buffers
		st.Panics, st.Stalls, st.Shed = st.Panics+far.Panics, st.Stalls+far.Stalls, st.Shed+far.Shed
	}
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(heap)
	return admin.Runtime{
		Shards: st.Shards, Tasks: st.Tasks, Conns: st.Conns, Idle: st.Idle, Buffers: st.Buffers,
		Panics: st.Panics, Stalls: st.Stalls, Shed: st.Shed, Busy: st.Busy, LongestTurn: st.LongestTurn.Seconds(),
		Goroutines: runtime.NumGoroutine(), Heap: heap[0].Value.Uint64(),
	}
}

// accessOf is who may do what at the admin listener.
func accessOf(cfg *config.Config) admin.Access {
	return admin.Access{Pprof: cfg.Admin.Pprof, Token: cfg.Admin.Token, WriteToken: cfg.Admin.WriteToken}
}

// admin makes the operator's listener.
func (s *sidecar) admin() (*admin.Server, error) {
	a, err := admin.New(admin.Config{
		Listener: s.sockets().admin, Status: s.status, Ready: s.notReady,
		Access: accessOf(s.config()), Logger: s.Log,
		Explain: s.explain,
		Reload:  func(apply bool) admin.Reload { return s.reload("pillion reload", apply) },
		Pages:   s.pages(), Home: dashboard.Page(), Open: dashboard.Files(),
		LogLevel: s.levels.status, SetLogLevel: s.setLogLevel,
		Cache: s.cacheList, CachePurge: s.cachePurge,
	})
	if err != nil {
		return nil, fmt.Errorf("admin.listen: %w", err)
	}
	return a, nil
}
