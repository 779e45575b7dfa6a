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

// Health returns the view of the Service's Endpoints on shard s. It is for tasks and callbacks of s.
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
		h := Health{Endpoint: *st.Endpoint, State: st.Health.State(now), Pending: st.Pending(), Streams: st.Streams(), Latency: st.Latency(now), Failing: st.Failing(now)}
		h.Answered = st.Known()
		if h.State.Again != 0 {
			h.Again = h.State.Again.Sub(now)
		}
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
