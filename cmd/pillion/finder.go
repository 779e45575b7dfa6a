package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/discovery/dns"
	"github.com/pillion-proxy/pillion/discovery/file"
	"github.com/pillion-proxy/pillion/discovery/static"
	"github.com/pillion-proxy/pillion/listeners/admin"
	"github.com/pillion-proxy/pillion/proxy"
)

// finder watches where every service is.
type finder struct {
	log *slog.Logger

	mu      sync.Mutex
	found   map[string]*found // by service name
	shared  registries
	ctx     context.Context // nil until run; what is watched from then on ends with it
	ended   bool            // nothing more is started
	running sync.WaitGroup
}

// found is one service. A new source takes the place of the one before once it has answered: until then the endpoints that are known are good enough.
type found struct {
	source any // what its watcher was made from, comparable
	now    atomic.Pointer[watched]
	next   atomic.Pointer[watched] // that has not answered yet; nil if there is none
}

// watched is a watcher, and what ends it. Guarded by finder.mu.
type watched struct {
	*discovery.Watcher
	stop  func()        // nil until it runs
	ended chan struct{} // closed by end; nil if nobody waits for that
}

func (w *watched) end() {
	if w == nil || w.stop == nil {
		return
	}
	w.stop()
	w.stop = nil
	if w.ended != nil {
		close(w.ended)
	}
}

func newFinder(cfg *config.Config, socks *sockets, log *slog.Logger) (*finder, error) {
	f := &finder{log: log, found: make(map[string]*found)}
	p, err := f.prepare(cfg, socks)
	if err != nil {
		return nil, err
	}
	f.commit(p)
	return f, nil
}

// plan is what commit puts into force: for each service its watcher, nil where the present one stays.
type plan struct {
	watchers map[string]*discovery.Watcher
	sources  map[string]any
}

// prepare makes the watchers that cfg needs and that there are not yet. It starts nothing.
func (f *finder) prepare(cfg *config.Config, socks *sockets) (*plan, error) {
	p := &plan{make(map[string]*discovery.Watcher), make(map[string]any)}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, svc := range cfg.Services {
		source := sourceOf(svc, cfg)
		p.watchers[svc.Name], p.sources[svc.Name] = nil, source
		if before := f.found[svc.Name]; before != nil && before.source == source {
			continue
		}
		r, err := f.resolver(svc, cfg, socks)
		if err != nil {
			return nil, fmt.Errorf("services.%s.endpoints: %w", svc.Name, err)
		}
		w, err := discovery.New(discovery.Config{Resolver: r, Service: proxy.Service{Name: svc.Name}, Logger: f.log})
		if err != nil {
			return nil, fmt.Errorf("services.%s.endpoints: %w", svc.Name, err)
		}
		p.watchers[svc.Name] = w
	}
	return p, nil
}

// sourceOf is what the endpoints of a service follow from: as long as it is equal the watcher stays.
func sourceOf(svc config.Service, cfg *config.Config) any {
	type source struct {
		from, servers, registry string
		defaults                discovery.Defaults
	}
	return source{fmt.Sprintf("%+v", svc.Endpoints), fmt.Sprint(cfg.Outbound.NameServers()), registryOf(svc, cfg), defaultsOf(svc)}
}

// commit puts p into force: services that it does not name are watched no more.
func (f *finder) commit(p *plan) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, w := range p.watchers {
		if w != nil {
			f.replaceLocked(name, p.sources[name], w)
		}
	}
	for name, x := range f.found {
		if _, stays := p.watchers[name]; !stays {
			x.end()
			delete(f.found, name)
		}
	}
}

func (x *found) end() {
	x.now.Load().end()
	x.next.Load().end()
}

// replaceLocked gives the service another source.
func (f *finder) replaceLocked(name string, source any, w *discovery.Watcher) {
	n := &watched{Watcher: w}
	x := f.found[name]
	switch {
	case x == nil:
		x = &found{source: source}
		x.now.Store(n)
		f.found[name] = x
		f.startLocked(n)
		return
	case w.Fixed(), f.ctx == nil:
		x.end()
		x.now.Store(n)
		x.next.Store(nil)
		f.startLocked(n)
	default:
		x.next.Load().end()
		x.next.Store(n)
		n.ended = make(chan struct{})
		if f.startLocked(n); n.stop != nil {
			f.running.Go(func() { f.await(x, n) })
		}
	}
	x.source = source
}

// startLocked runs w, unless nothing runs yet, or nothing more is to.
func (f *finder) startLocked(w *watched) {
	if f.ctx == nil || f.ended || w.Fixed() {
		return
	}
	if w.Cheap() {
		w.stop = w.Start()
		return
	}
	ctx, cancel := context.WithCancel(f.ctx)
	w.stop = cancel
	f.running.Go(func() { _ = w.Run(ctx) }) // it returns nil when ctx ends, and never before
}

// await has n take its place when it has answered, unless it is ended before.
func (f *finder) await(x *found, n *watched) {
	select {
	case <-n.Readied():
	case <-n.ended:
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if x.next.CompareAndSwap(n, nil) {
		x.now.Swap(n).end()
	}
}

// defaultsOf completes what a list of endpoints leaves out.
func defaultsOf(svc config.Service) discovery.Defaults {
	return discovery.Defaults{Port: config.PeerPort, Identity: svc.Identity, Mesh: svc.Mesh, Transport: proxy.Transport(svc.Transport), Pinned: svc.Pinned}
}

// webPort is where an app is of which nothing says a port.
const webPort = 80

// resolver makes the source that the configuration names.
func (f *finder) resolver(svc config.Service, cfg *config.Config, socks *sockets) (discovery.Resolver, error) {
	d := defaultsOf(svc)
	switch e := svc.Endpoints; {
	case e.File != "":
		return file.New(file.Config{Path: e.File, Defaults: d})
	case e.Kubernetes.Name != "":
		return f.shared.kubernetes(svc, cfg)
	case e.Consul.Name != "":
		return f.shared.consulService(svc, cfg.Consul)
	case e.Etcd != "":
		return f.shared.etcdService(svc, cfg.Etcd)
	case e.XDS != "":
		return f.shared.xds(svc, cfg)
	case e.DNS != "":
		if d.Port = e.Port; d.Port == 0 { // what SVCB records say nothing of
			d.Port = config.PeerPort
			if !svc.Mesh {
				d.Port = webPort
			}
		}
		kinds := map[config.DNSKind]dns.Kind{config.DNSSRV: dns.SRV, config.DNSSVCB: dns.SVCB}
		return dns.New(dns.Config{Name: e.DNS, Kind: kinds[e.Kind], Port: e.Port, Defaults: d, Servers: cfg.Outbound.NameServers(), Skip: socks.ownDNS()})
	default:
		var set []proxy.Endpoint
		for _, t := range e.Static {
			if t.Unix != "" {
				set = append(set, proxy.Endpoint{Unix: t.Unix})
				continue
			}
			set = append(set, d.Endpoint(t.Addr))
		}
		return static.New(set)
	}
}

// run watches until ctx ends.
func (f *finder) run(ctx context.Context) error {
	f.mu.Lock()
	f.ctx = ctx
	for _, x := range f.found {
		f.startLocked(x.now.Load())
	}
	f.mu.Unlock()
	<-ctx.Done()
	f.mu.Lock()
	f.ended = true // whoever is starting something has done so
	for _, x := range f.found {
		x.end()
	}
	f.mu.Unlock()
	f.running.Wait()
	return nil
}

// endpoints returns the function that reads a service's present set, through changes of its source.
func (f *finder) endpoints(name string) func() []proxy.Endpoint {
	f.mu.Lock()
	defer f.mu.Unlock()
	x := f.found[name]
	return func() []proxy.Endpoint { return x.now.Load().Endpoints() }
}

// watchers are those that are in force.
func (f *finder) watchers() []*discovery.Watcher {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []*discovery.Watcher
	for _, x := range f.found {
		all = append(all, x.now.Load().Watcher)
	}
	return all
}

// awaitFirst waits until every source has answered once, but no longer than limit.
func (f *finder) awaitFirst(ctx context.Context, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for _, w := range f.watchers() {
		select {
		case <-w.Readied():
		case <-ctx.Done():
			return
		}
	}
}

// status describes a service's source.
func (f *finder) status(svc config.Service) admin.Service {
	one := admin.Service{Name: svc.Name, Source: source(svc.Endpoints), Mesh: svc.Mesh, Age: -1}
	f.mu.Lock()
	x := f.found[svc.Name]
	f.mu.Unlock()
	if x == nil { // a reload has just removed it
		return one
	}
	st := x.now.Load().Status()
	if next := x.next.Load(); next != nil {
		waits := next.Status()
		if st.Err, st.ErrAt = waits.Err, waits.ErrAt; st.Err == nil {
			st.Err, st.ErrAt = errUnanswered, time.Now()
		}
	}
	if st.Ready {
		one.Age = time.Since(st.Changed).Seconds()
	}
	if st.Err != nil {
		one.Error, one.Stale = st.Err.Error(), time.Since(st.ErrAt).Seconds()
	}
	if st.Flaw != nil {
		one.Flaw = st.Flaw.Error()
	}
	return one
}

// errUnanswered is the state of a source that a reload has brought.
var errUnanswered = errors.New("the new source has not answered yet; these are the endpoints of the one before")

func source(e config.Endpoints) string {
	if len(e.Static) > 0 {
		return "static"
	}
	return e.String()
}
