package upstream

import (
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/upstream/balance"
	"github.com/pillion-proxy/pillion/upstream/health"
)

// Health is what is known of an Endpoint, for status: what all shards know, and what one of them measured.
type Health struct {
	Endpoint proxy.Endpoint
	// InUse says that requests are balanced over it. The others are outside of the Service's Aperture.
	InUse bool
	health.State
	// Again is the time until it is tried again, if it is out; 0 if nobody knows.
	Again    time.Duration
	Answered bool // it has answered at least once, or its last connection could be made
	Pending  int  // Exchanges in flight
	Streams  int  // that are open
	// Latency is what it takes to the head of an answer, by the balancer's average of peaks; 0 if nobody knows. Of several shards that of the slowest.
	Latency time.Duration
	// Failing is the share of failures lately, from 0 to 1. Of several shards the worst.
	Failing float64
}

// Healthy reports whether requests go there.
func (h Health) Healthy() bool { return !h.Lost && !h.Ejected && !h.Sick }

// Merge adds what another shard measured of the same Endpoint.
func (h *Health) Merge(o Health) {
	h.Answered = h.Answered || o.Answered
	h.Pending += o.Pending
	h.Streams += o.Streams
	h.Latency = max(h.Latency, o.Latency)
	h.Failing = max(h.Failing, o.Failing)
}

// All returns every Endpoint that discovery knows of the Service, in its order: those of used, which Health has returned, and the others, of which
// all shards know the same. now is that of a shard. It is for ordinary goroutines: there may be thousands.
func (u *Upstream) All(name string, used []Health, now task.Instant) []Health {
	svc := u.service(name)
	if svc == nil {
		return used
	}
	places := make(map[health.Key]int, len(used))
	for i := range used {
		places[health.KeyOf(&used[i].Endpoint)] = i
	}
	set := svc.Endpoints()
	all := make([]Health, 0, len(set))
	for i := range set {
		if at, ok := places[health.KeyOf(&set[i])]; ok {
			all = append(all, used[at])
			continue
		}
		h := Health{Endpoint: set[i]}
		h.known(svc.known.health.Of(&set[i]), now)
		all = append(all, h)
	}
	return all
}

// known sets what all shards know.
func (h *Health) known(ep *health.Endpoint, now task.Instant) {
	h.State = ep.State(now)
	if h.State.Again != 0 {
		h.Again = h.State.Again.Sub(now)
	}
}

// Health returns the view on shard s of those of the Service's Endpoints that are in use. It is for tasks and callbacks of s.
func (u *Upstream) Health(s task.Shard, name string) []Health {
	svc := u.service(name)
	if svc == nil {
		return nil
	}
	sh := &svc.known.shards[s.Index()]
	s.Lock()
	defer s.Unlock()
	now := s.Now()
	sh.update(svc, now)
	all := make([]Health, 0, sh.balancer.Len())
	sh.balancer.Each(func(st *balance.State) {
		h := Health{Endpoint: *st.Endpoint, InUse: true, Pending: st.Pending(), Streams: st.Streams(), Latency: st.Latency(now), Failing: st.Failing(now)}
		h.Answered = st.Known()
		h.known(st.Health, now)
		all = append(all, h)
	})
	return all
}

// Stats counts what was decided for a Service.
type Stats struct {
	Balance balance.Stats // of one shard
	Health  health.Stats  // of all
	Turned  uint64        // Streams that were ended for their age, on this shard
}

// Stats returns what was counted on shard s. It is for tasks and callbacks of s.
func (u *Upstream) Stats(s task.Shard, name string) Stats {
	svc := u.service(name)
	if svc == nil {
		return Stats{}
	}
	s.Lock()
	defer s.Unlock()
	sh := &svc.known.shards[s.Index()]
	return Stats{Balance: sh.balancer.Stats(), Health: svc.known.health.Stats(), Turned: sh.turned}
}
