package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
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
	watchers map[string]*discovery.Watcher // by service name
}

func newFinder(cfg *config.Config, socks *sockets, log *slog.Logger) (*finder, error) {
	f := &finder{watchers: make(map[string]*discovery.Watcher)}
	for _, svc := range cfg.Services {
		r, err := resolver(svc, cfg, socks)
		if err != nil {
			return nil, fmt.Errorf("services.%s.endpoints: %w", svc.Name, err)
		}
		w, err := discovery.New(discovery.Config{Resolver: r, Service: proxy.Service{Name: svc.Name}, Logger: log})
		if err != nil {
			return nil, fmt.Errorf("services.%s.endpoints: %w", svc.Name, err)
		}
		f.watchers[svc.Name] = w
	}
	return f, nil
}

// defaultsOf completes what a list of endpoints leaves out.
func defaultsOf(svc config.Service) discovery.Defaults {
	return discovery.Defaults{Port: config.PeerPort, Identity: svc.Identity, Mesh: svc.Mesh, Transport: proxy.Transport(svc.Transport)}
}

// webPort is where an app is of which nothing says a port.
const webPort = 80

// resolver makes the source that the configuration names.
func resolver(svc config.Service, cfg *config.Config, socks *sockets) (discovery.Resolver, error) {
	d := defaultsOf(svc)
	switch e := svc.Endpoints; {
	case e.File != "":
		return file.New(file.Config{Path: e.File, Defaults: d})
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
	var all sync.WaitGroup
	for _, w := range f.watchers {
		if !w.Fixed() {
			all.Go(func() { _ = w.Run(ctx) }) // it returns nil when ctx ends, and never before
		}
	}
	all.Wait()
	<-ctx.Done()
	return nil
}

// endpoints returns the function that reads a service's present set.
func (f *finder) endpoints(name string) func() []proxy.Endpoint { return f.watchers[name].Endpoints }

// awaitFirst waits until every source has answered once, but no longer than limit.
func (f *finder) awaitFirst(ctx context.Context, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for _, w := range f.watchers {
		select {
		case <-w.Readied():
		case <-ctx.Done():
			return
		}
	}
}

// status describes a service's source.
func (f *finder) status(svc config.Service) admin.Service {
	st := f.watchers[svc.Name].Status()
	one := admin.Service{Name: svc.Name, Source: source(svc.Endpoints), Mesh: svc.Mesh, Age: -1}
	if st.Ready {
		one.Age = time.Since(st.Changed).Seconds()
	}
	if st.Err != nil {
		one.Error, one.Stale = st.Err.Error(), time.Since(st.ErrAt).Seconds()
	}
	return one
}

func source(e config.Endpoints) string {
	switch {
	case e.File != "":
		return "file:" + e.File
	case e.DNS != "":
		return e.String()
	default:
		return "static"
	}
}
