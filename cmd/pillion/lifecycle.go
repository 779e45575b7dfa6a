package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/fx"

	"github.com/pillion-proxy/pillion/listeners/admin"
	"github.com/pillion-proxy/pillion/listeners/dns"
	"github.com/pillion-proxy/pillion/listeners/local"
	"github.com/pillion-proxy/pillion/listeners/peer"
	"github.com/pillion-proxy/pillion/proxy/http3"
	"github.com/pillion-proxy/pillion/proxy/httpcache"
	"github.com/pillion-proxy/pillion/proxy/httpcache/disk"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/tls/mtls"
	"github.com/pillion-proxy/pillion/upstream"
	"github.com/pillion-proxy/pillion/upstream/auto"
	"github.com/pillion-proxy/pillion/upstream/direct"
	"github.com/pillion-proxy/pillion/upstream/pool"
	"github.com/pillion-proxy/pillion/upstream/quiclink"
)

// parts are what the graph hands to the sidecar.
type parts struct {
	fx.In

	Present    *present
	How        reloading
	Makings    makings
	Inbound    inboundStack
	Log        *slog.Logger
	App        *supervisor // nil, which is usable, when no app is supervised
	Runtime    task.Runtime
	Identity   *mtls.Source
	Finder     *finder
	QUIC       *quiclink.Dialer // nil without QUIC
	Far        goroutines       // what it lives on
	Shards     shards
	Pools      pools
	Memory     *auto.Memory
	Upstream   *upstream.Upstream
	Direct     *direct.Direct
	Flows      *flows
	Cache      *httpcache.Cache
	Disk       *disk.Disk // behind it; nil if there is none
	Outbound   outboundStack
	Resilience *resilience
	Observers  *observers
	Local      *local.Server
	HTTP3      *http3.Server // nil where there is none
	Peer       *peer.Server  // nil when peers cannot connect
	DNS        *dns.Server   // nil where there is none
	Registrar  *registrar    // nil where nothing is registered
}

// sidecar is everything, and the order in which it starts and stops.
type sidecar struct {
	parts
	started    time.Time
	phase      atomic.Int32
	step       atomic.Value // string: what drain waits for
	drainSince atomic.Int64 // Unix nanoseconds

	mu      sync.Mutex
	ports   []openPort
	packets []openPackets
	dealt   int // UDP ports to shards
	reloads reloads
	levels  levels
	admins  *admin.Server // nil where the configuration has none

	running sync.WaitGroup // named goroutines started by start
	failed  chan error     // what ended a part that should have gone on
}

// The phases of a sidecar's life, in order.
const (
	starting int32 = iota
	ready
	draining
	stopped
)

func newSidecar(p parts) *sidecar {
	s := &sidecar{parts: p, started: time.Now(), failed: make(chan error, 8)}
	status := s.status
	p.Makings.Views.status.Store(&status)
	s.levels.to = p.How.level
	s.levels.configure(levelOf(s.config().Log))
	return s
}

// run serves until ctx ends, the app ends, or a part fails; then it drains.
func (s *sidecar) run(ctx context.Context) error {
	// What runs is stopped in three steps, so that whatever a later step needs is still there.
	runtimeCtx, stopRuntime := context.WithCancel(context.Background())
	partsCtx, stopParts := context.WithCancel(context.Background())
	defer s.running.Wait()
	defer stopRuntime()
	defer stopParts()
	defer s.levels.close()
	defer s.sockets().close()
	defer s.closeQUIC()

	s.background("runtime", runtimeCtx, s.Runtime.Run)
	if s.Far.Runtime != nil {
		s.background("goroutines", runtimeCtx, s.Far.Run)
	}
	s.background("certificates", partsCtx, s.Identity.Run)
	s.background("discovery", partsCtx, s.Finder.run)
	s.background("checks", partsCtx, s.Upstream.Run)
	s.Observers.start(partsCtx, s.background)
	if s.sockets().admin != nil {
		var err error
		if s.admins, err = s.admin(); err != nil {
			return err
		}
		s.background("admin", partsCtx, s.admins.Run)
	}
	if s.Peer != nil {
		s.background("peers", partsCtx, s.Peer.Run)
	}
	if s.DNS != nil {
		s.background("dns", partsCtx, s.DNS.Run)
	}
	if s.HTTP3 != nil {
		s.background("http3", partsCtx, s.serveHTTP3)
	}
	if err := s.openPorts(); err != nil {
		return err
	}
	s.Finder.awaitFirst(ctx, firstAnswer)
	s.phase.Store(ready)
	s.background("reload", partsCtx, s.reloadWhenAsked)
	s.background("memory", partsCtx, newMemory().run)
	s.Registrar.start(partsCtx, s.background)
	if s.Disk != nil {
		s.background("cache", partsCtx, s.Disk.Run)
	}
	s.Log.Info("ready", "service", s.config().Service, "identity", s.Identity.Self(), "listening", s.listening())

	err := s.wait(ctx)
	s.drain()
	return err
}

// firstAnswer is how long readiness waits for discovery: a source that is down must not keep the app from starting.
const firstAnswer = 2 * time.Second

// background runs f until its context ends. The goroutine is awaited by run.
func (s *sidecar) background(name string, ctx context.Context, f func(context.Context) error) {
	s.running.Go(func() {
		if err := f(ctx); err != nil && !errors.Is(err, context.Canceled) && ctx.Err() == nil {
			select {
			case s.failed <- fmt.Errorf("%s: %w", name, err):
			default:
			}
		}
	})
}

// wait returns when the sidecar is to stop.
func (s *sidecar) wait(ctx context.Context) error {
	if ln := s.sockets().outbound; ln != nil {
		s.App.Listening("outbound", ln.Addr())
	}
	if ln := s.sockets().admin; ln != nil {
		s.App.Listening("admin", ln.Addr())
	}
	if c := s.sockets().http3; c != nil {
		s.App.Listening("http3", c.LocalAddr())
	}
	if s.DNS != nil {
		s.App.Listening("dns", s.sockets().dns.tcp.Addr())
	}
	for name, ln := range s.sockets().services {
		s.App.Listening("services."+name, ln.Addr())
	}
	for name, nc := range s.sockets().packets {
		if s.sockets().services[name] == nil {
			s.App.Listening("services."+name, nc.LocalAddr())
		}
	}
	if err := s.App.Start(); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		s.Log.Info("stopping", "drain", s.config().Drain.String())
		return nil
	case <-s.App.Done():
		s.Log.Info("the app has ended; stopping")
		return nil
	case err := <-s.failed:
		s.Log.Error("stopping because a part failed", "err", err)
		return err
	}
}

// drain ends everything within Config.Drain, so that what runs can finish and the app can call out until it is gone: not ready, no
// new peers, running requests end, the app is told, and outbound goes last.
func (s *sidecar) drain() {
	s.drainSince.Store(time.Now().UnixNano())
	s.reloads.one.Lock() // one that has begun ends, and no other begins
	s.phase.Store(draining)
	s.reloads.one.Unlock()
	// A peer's Stream may last for ever: the steps after the first keep a share of the time.
	whole := s.config().Drain
	end := time.Now().Add(whole)
	forCalls, forApp := min(whole/8, 2*time.Second), time.Duration(0)
	if s.App != nil {
		forApp = min(whole/4, 5*time.Second)
	}
	s.step.Store("the registry")
	s.Registrar.leave() // before anybody is refused
	s.Cache.StopTelling()
	if s.Peer != nil {
		s.Peer.Drain()
		stop := s.endFlowsSoon()
		s.await("requests of peers", end.Add(-forApp-forCalls), func() bool { return s.Peer.Open() == 0 })
		stop()
	}
	s.step.Store("the app")
	s.stopApp(end.Add(-forCalls))
	ports, packets := s.openNow()
	for _, p := range ports {
		p.listener.Close()
		p.listener.CloseIdle()
	}
	for _, l := range packets {
		l.Close()
	}
	s.Local.Shutdown()
	if s.HTTP3 != nil {
		s.HTTP3.Shutdown()
	}
	s.await("requests of the app", end.Add(-min(goodbyeTime, whole/8)), func() bool { return s.active() == 0 && s.peerLinks() == 0 })
	n, links := s.active(), s.peerLinks()
	if n > 0 || links > 0 {
		s.Log.Warn("drain time is over; connections are cut", "connections", n, "links of peers", links, "drain", whole.String())
	}
	s.Cache.StopListening()
	s.sayGoodbye()
	if n > 0 || links > 0 {
		resetOnClose()
	}
	s.phase.Store(stopped)
}

// goodbyeTime bounds how long peers and apps are told that no more requests will come.
const goodbyeTime = 250 * time.Millisecond

// sayGoodbye ends Links and connections to apps in order, where nothing runs on them any more.
func (s *sidecar) sayGoodbye() {
	ctx, cancel := context.WithTimeout(context.Background(), goodbyeTime)
	defer cancel()
	for i, sh := range s.Runtime.Shards() {
		_ = task.Call(ctx, sh, func() { s.Pools.each(i, (*pool.Pool).Shutdown) })
	}
	for _, sh := range s.Shards {
		_ = task.Call(ctx, sh, func() { s.Direct.Shutdown(sh) })
	}
	until(ctx, func() bool { return len(s.outboundLinks(ctx)) == 0 })
}

// closeQUIC ends what is left of the Links over QUIC: nobody but us knows their sockets.
func (s *sidecar) closeQUIC() {
	if s.QUIC != nil {
		s.QUIC.Close()
	}
	if s.Peer != nil {
		s.Peer.Close()
	}
	if s.HTTP3 != nil {
		s.HTTP3.Close()
	}
	s.Direct.Close()
}

// await waits until done, or until the step's time is over.
func (s *sidecar) await(step string, end time.Time, done func() bool) {
	s.step.Store(step)
	ctx, cancel := context.WithDeadline(context.Background(), end)
	defer cancel()
	until(ctx, done)
}

// stopApp tells the app, and returns when it has ended.
func (s *sidecar) stopApp(end time.Time) {
	ctx, cancel := context.WithDeadline(context.Background(), end)
	defer cancel()
	s.App.Stop(ctx)
}

// peerLinks is the number of Links that peers hold open.
func (s *sidecar) peerLinks() int {
	if s.Peer == nil {
		return 0
	}
	return s.Peer.Open()
}

// active is the number of connections of the app.
func (s *sidecar) active() int {
	n := 0
	if s.HTTP3 != nil {
		n = s.HTTP3.Busy()
	}
	ports, packets := s.openNow()
	for _, p := range ports {
		n += p.listener.Active()
	}
	for _, l := range packets {
		n += l.Active()
	}
	return n
}

// until waits for ok, or for the end of ctx.
func until(ctx context.Context, ok func() bool) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *sidecar) listening() []string {
	var all []string
	for _, ln := range s.sockets().all() {
		all = append(all, ln.Addr().String())
	}
	for _, nc := range s.sockets().packets {
		all = append(all, nc.LocalAddr().String()+"/udp")
	}
	if c := s.sockets().http3; c != nil {
		all = append(all, c.LocalAddr().String()+"/udp")
	}
	return all
}
