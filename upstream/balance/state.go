package balance

import (
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/upstream/health"
)

// State is what one shard knows of one Endpoint. It outlives the Endpoint's removal from the set while requests are pending.
type State struct {
	Endpoint *proxy.Endpoint
	// Health is what all shards know.
	Health *health.Endpoint

	b       *Balancer
	gone    bool    // of no set any more
	near    bool    // in the Balancer's own zone
	part    float64 // its weight, in terms of the mean of its Priority
	pending int     // Exchanges
	streams int

	latency   float64      // peak EWMA, in nanoseconds; 0 before the first answer
	latencyAt task.Instant // when that was so
	failing   float64      // share of failures, EWMA
	failingAt task.Instant // when that was so
}

// unknown is the latency, in nanoseconds, of an Endpoint that has not answered yet and already has a request.
const unknown = float64(time.Second)

// sample is the weight of one more outcome in the share of failures.
const sample = 1.0 / 16

// decay returns what is left after d of what decays over tau: close to exp(-d/tau), but cheaper.
func decay(d, tau time.Duration) float64 {
	if d <= 0 {
		return 1
	}
	x := float64(d) / float64(tau)
	return 1 / (1 + x + x*x/2)
}

// cost is what a further request is expected to cost.
func (st *State) cost(now task.Instant, stream bool) float64 {
	c := &st.b.conf
	blame := 1.0
	if st.failing != 0 {
		blame += (c.Penalty - 1) * st.Failing(now)
	}
	switch {
	case stream:
		return (1 + float64(st.streams)/st.part) * blame
	case c.Policy != PeakEWMA:
		return (1 + float64(st.pending)/st.part) * blame
	case st.latency != 0:
		return st.latency * decay(now.Sub(st.latencyAt), c.Decay) * (1 + float64(st.pending)/st.part) * blame
	case st.pending == 0:
		return 0 // somebody must find out
	default:
		return unknown * (1 + float64(st.pending)/st.part)
	}
}

// Answered says how long the head of an answer took, or the failure that came instead. It is called at once, also where the answer goes on for long.
func (st *State) Answered(now task.Instant, latency time.Duration, failed bool) {
	left := decay(now.Sub(st.latencyAt), st.b.conf.Decay)
	switch x := max(1, float64(latency)); {
	case x >= st.latency*left:
		st.latency = x
	case failed: // to fail fast is no merit
		return
	default:
		st.latency = st.latency*left + x*(1-left)
	}
	st.latencyAt = now
}

// Ended says how a request ended, once that is known. Done follows.
func (st *State) Ended(now task.Instant, failed bool) {
	st.failing = st.Failing(now) * (1 - sample)
	st.failingAt = now
	if failed {
		st.failing += sample
	}
}

// Pending is the number of Exchanges in flight from this shard.
func (st *State) Pending() int { return st.pending }

// Streams is the number of open Streams from this shard.
func (st *State) Streams() int { return st.streams }

// Latency is what the Endpoint is expected to take to the head of an answer; 0 if nobody knows.
func (st *State) Latency(now task.Instant) time.Duration {
	return time.Duration(st.latency * decay(now.Sub(st.latencyAt), st.b.conf.Decay))
}

// Failing is the share of failures lately, from 0 to 1.
func (st *State) Failing(now task.Instant) float64 {
	return st.failing * decay(now.Sub(st.failingAt), st.b.conf.Decay)
}

// Done ends what Pick began.
func (st *State) Done(stream bool) {
	if stream {
		st.streams--
		return
	}
	st.pending--
	st.b.pending--
}

// started says how much of its part an Endpoint gets that joined or came back lately: 1 is all of it.
func (st *State) started(now task.Instant) float64 {
	window := st.b.conf.SlowStart
	since := st.Health.Since()
	if window == 0 || since == 0 {
		return 1
	}
	age := now.Sub(since)
	if age >= window {
		return 1
	}
	return max(firstPart, float64(age)/float64(window))
}

// firstPart is what of its part a new Endpoint gets at first.
const firstPart = 0.1

func weight(ep *proxy.Endpoint) int { return max(1, ep.Weight) }

// Known reports whether a request was ever answered from this shard.
func (st *State) Known() bool { return st.latency != 0 }
