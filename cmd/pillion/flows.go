package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/listeners/admin"
	"github.com/pillion-proxy/pillion/listeners/local"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/datagram"
	"github.com/pillion-proxy/pillion/proxy/dnscache"
	"github.com/pillion-proxy/pillion/proxy/relay"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// A Flow of a peer ends when its sidecar says so. One that has been silent for so long has been forgotten.
const maxFlowSilence = 2 * time.Hour

// flows are the counters of all Flows, and those that peers hold open.
type flows struct {
	mu       sync.Mutex
	services map[string]*proxy.FlowStats // of the app's Flows, by service name
	apps     map[appKey]*proxy.FlowStats // of peers' Flows
	dns      map[string]*dnscache.Cache  // by service name, where its DNS answers are kept
	open     map[*peerFlow]struct{}
}

// appKey is what makes an entry of app the same one after a reload.
type appKey struct {
	port uint16
	to   config.Target
}

// peerFlow is a Flow that is being relayed.
type peerFlow struct {
	shard            task.Shard
	client, upstream proxy.Flow
}

func newFlows(cfg *config.Config) *flows {
	f := &flows{open: make(map[*peerFlow]struct{})}
	f.update(cfg)
	return f
}

// update keeps the counters of what is still there in cfg, and makes those that are missing.
func (f *flows) update(cfg *config.Config) {
	services, apps := make(map[string]*proxy.FlowStats), make(map[appKey]*proxy.FlowStats)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range cfg.Services {
		if ownFlows(cfg, &s) || cfg.Outbound.Listen.On {
			services[s.Name] = kept(f.services[s.Name])
		}
	}
	for _, a := range cfg.App {
		if k := (appKey{a.Port, a.To}); a.Protocol.UDP() {
			apps[k] = kept(f.apps[k])
		}
	}
	dns := make(map[string]*dnscache.Cache)
	for _, s := range cfg.Services {
		if s.Cache.DNS {
			if dns[s.Name] = f.dns[s.Name]; dns[s.Name] == nil {
				dns[s.Name] = dnscache.New(0)
			}
		}
	}
	f.services, f.apps, f.dns = services, apps, dns
}

func kept(st *proxy.FlowStats) *proxy.FlowStats {
	if st == nil {
		st = new(proxy.FlowStats)
	}
	return st
}

// service is nil for one that takes no Flows.
func (f *flows) service(name string) *proxy.FlowStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.services[name]
}

// answers are the DNS answers that are kept of a service; nil for one of which none are.
func (f *flows) answers(service string) *dnscache.Cache {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dns[service]
}

// dnsAnswers says what the DNS answers that are kept have done, by service.
func (f *flows) dnsAnswers() []admin.CacheDNS {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []admin.CacheDNS
	for _, name := range slices.Sorted(maps.Keys(f.dns)) {
		st := f.dns[name].Stats()
		all = append(all, admin.CacheDNS{Service: name, Hits: st.Hits, Misses: st.Misses, Entries: st.Entries, Bytes: st.Bytes})
	}
	return all
}

// app is nil for an entry that takes no Flows.
func (f *flows) app(a *config.App) *proxy.FlowStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.apps[appKey{a.Port, a.To}]
}

// associated is how the Flows of SOCKS are kept: those of a service like the ones of its own port.
func (f *flows) associated(cfg *config.Config) map[string]local.Flows {
	all := make(map[string]local.Flows)
	for _, s := range cfg.Services {
		one := local.Flows{Stats: f.service(s.Name)}
		if s.Protocol.UDP() {
			one.Idle = s.FlowIdle
		}
		all[s.Name] = one
	}
	return all
}

// ownFlows reports whether a service has a UDP port of its own.
func ownFlows(cfg *config.Config, s *config.Service) bool {
	return (s.Listen.On || cfg.DNSPort(s) != 0) && s.Protocol.UDP()
}

// serviceFlows is nil for a service that has neither a UDP port nor been sent a datagram by SOCKS.
func (s *sidecar) serviceFlows(svc *config.Service) *admin.Flows {
	all := flowStatus(s.Flows.service(svc.Name))
	if all != nil && all.In == 0 && !ownFlows(s.config(), svc) {
		return nil
	}
	return all
}

// tunnel is what codecs call with a Stream, or a Flow, and who asked for it.
func (f *flows) tunnel() func(s task.Shard, client, upstream proxy.Stream) {
	return datagram.Tunnel(relay.Copy, f.relay)
}

// relay carries a Flow until it ends, or end is called.
func (f *flows) relay(s task.Shard, client, upstream proxy.Flow) {
	p := &peerFlow{s, client, upstream}
	f.mu.Lock()
	f.open[p] = struct{}{}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.open, p)
	}()
	relay.Flows(s, client, upstream, maxFlowSilence)
}

// end ends every Flow that a peer holds: datagrams have no last one to wait for, and its sidecar opens another elsewhere.
func (f *flows) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for p := range f.open {
		p.shard.Post(func() {
			_ = p.client.Close()
			_ = p.upstream.Close()
		})
	}
}

// flowGrace is how long answers may still come to what peers have asked when a stop begins.
const flowGrace = 500 * time.Millisecond

// endFlowsSoon ends peers' Flows once their grace, or an eighth of the whole stop, is over, unless stop is called first: no peer is left.
func (s *sidecar) endFlowsSoon() (stop func()) {
	grace := time.NewTimer(min(flowGrace, s.config().Drain/8))
	gone := make(chan struct{})
	s.running.Go(func() {
		select {
		case <-grace.C:
			s.Flows.end()
		case <-gone:
			grace.Stop()
		}
	})
	return func() { close(gone) }
}

// flowStatus describes what has been counted; nil where there are no Flows.
func flowStatus(st *proxy.FlowStats) *admin.Flows {
	if st == nil {
		return nil
	}
	c := st.Counts()
	return &admin.Flows{Open: c.Open, Total: c.Opened, Evicted: c.Evicted, In: c.Requests, Out: c.Answers, Dropped: c.Dropped}
}

// flowRows has one row for each UDP port and each app entry that takes datagrams.
func flowRows(st *admin.Status) [][]cell {
	var rows [][]cell
	add := func(name string, f *admin.Flows) {
		if f == nil {
			return
		}
		rows = append(rows, []cell{plain(name), countCell(f.Open), countCell(f.Total), countCell(f.In), countCell(f.Out), dropCell(f)})
	}
	for _, s := range st.Services {
		add("service "+s.Name, s.Flows)
	}
	for _, a := range st.Apps {
		add("app "+strconv.Itoa(int(a.Port)), a.Flows)
	}
	return rows
}

func countCell(n uint64) cell { return plain(strconv.FormatUint(n, 10)) }

// dropCell names the reasons for which datagrams, or whole Flows, were given up.
func dropCell(f *admin.Flows) cell {
	var parts []string
	for _, why := range slices.Sorted(maps.Keys(f.Dropped)) {
		parts = append(parts, fmt.Sprintf("%s %d", why, f.Dropped[why]))
	}
	if f.Evicted > 0 {
		parts = append(parts, fmt.Sprintf("flows evicted %d", f.Evicted))
	}
	if len(parts) == 0 {
		return plain("0")
	}
	return cell{strings.Join(parts, ", "), yellow}
}
