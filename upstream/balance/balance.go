// Package balance picks one Endpoint of a Service for each request: the less busy of two random ones
// (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing"), drawn in proportion to their weights, passing over those that
// failed a moment ago while others are left. Endpoints of a higher Priority are only picked when all of the lower ones failed a
// moment ago, or were tried. One Balancer belongs to one shard and one Service; it is used under
// the shard's lock, and what it knows is that shard's own experience.
package balance

import (
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// How long a failing Endpoint is passed over: doubled with each failure in a row.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 10 * time.Second
)

// Balancer picks among the Endpoints it was given last. The zero value knows none.
type Balancer struct {
	from   []proxy.Endpoint // the set that was given, to see that it is another
	states []*State
	groups []group // of states, the lowest Priority first
}

// State is what one shard knows of one Endpoint. It outlives the Endpoint's removal from the set while requests are pending.
type State struct {
	Endpoint *proxy.Endpoint
	pending  int
	failures int
	why      string       // of the last failure; "" if it has answered since
	answered bool         // and not failed since
	until    task.Instant // passed over until then; 0 if healthy
}

// Update takes a new full set, keeping what is known of Endpoints that are still there. It costs a comparison when
// the set is the same slice as before.
func (b *Balancer) Update(set []proxy.Endpoint) {
	if len(set) == len(b.from) && (len(set) == 0 || &set[0] == &b.from[0]) {
		return
	}
	known := make(map[proxy.Endpoint]*State, len(b.states))
	for _, st := range b.states {
		known[*st.Endpoint] = st
	}
	states := make([]*State, len(set))
	for i := range set {
		if states[i] = known[set[i]]; states[i] == nil {
			states[i] = &State{Endpoint: &set[i]}
		}
	}
	b.from, b.states, b.groups = set, states, grouped(states)
}

// Tried appends to states those of the Endpoints that are in tried.
func (b *Balancer) Tried(states []*State, tried []*proxy.Endpoint) []*State {
	for _, ep := range tried {
		for _, st := range b.states {
			if *st.Endpoint == *ep {
				states = append(states, st)
				break
			}
		}
	}
	return states
}

// Again is Pick for one Endpoint; nil if there is no such one.
func (b *Balancer) Again(ep *proxy.Endpoint) *State {
	for _, st := range b.states {
		if *st.Endpoint == *ep {
			st.pending++
			return st
		}
	}
	return nil
}

// Paused is the number of Endpoints that are passed over.
func (b *Balancer) Paused(now task.Instant) int {
	n := 0
	for _, st := range b.states {
		if st.paused(now) {
			n++
		}
	}
	return n
}

// Len is the number of Endpoints.
func (b *Balancer) Len() int { return len(b.states) }

// Pick chooses an Endpoint that is not in tried and counts the request as pending; Done must follow. It
// returns nil when all are in tried.
func (b *Balancer) Pick(now task.Instant, tried []*State) *State {
	st := b.choose(now, tried)
	if st != nil {
		st.pending++
	}
	return st
}

func (b *Balancer) choose(now task.Instant, tried []*State) *State {
	var paused *State // of the lowest Priority that has one
	for i := range b.groups {
		st := b.groups[i].choose(now, tried)
		if st != nil && !st.paused(now) {
			return st
		}
		if paused == nil {
			paused = st
		}
	}
	return paused
}

// better prefers who is not paused, then who is less busy for its weight, then the first.
func better(now task.Instant, a, b *State) *State {
	if pa, pb := a.paused(now), b.paused(now); pa != pb {
		if pa {
			return b
		}
		return a
	}
	if b.pending*weight(a) < a.pending*weight(b) {
		return b
	}
	return a
}

func weight(st *State) int { return max(1, st.Endpoint.Weight) }

func contains(tried []*State, st *State) bool {
	for _, t := range tried {
		if t == st {
			return true
		}
	}
	return false
}

func (st *State) paused(now task.Instant) bool { return st.until > now }

// Pending is the number of requests in flight from this shard.
func (st *State) Pending() int { return st.pending }

// Healthy reports whether the Endpoint's last connection did not fail a moment ago.
func (st *State) Healthy(now task.Instant) bool { return !st.paused(now) }

// Outcome is how the last attempt to reach the Endpoint ended: with an answer, without one for a reason, or neither, if there was none.
func (st *State) Outcome() (answered bool, why string) { return st.answered, st.why }

// Done ends what Pick began.
func (st *State) Done() { st.pending-- }

// Failed says that no connection could be made, and why.
func (st *State) Failed(now task.Instant, why string) {
	pause := min(lastPause, firstPause<<min(st.failures, 10))
	st.failures++
	st.why, st.answered = why, false
	st.until = now.Add(pause)
}

// Answered says that the Endpoint answered, whatever it answered.
func (st *State) Answered() {
	st.failures, st.until = 0, 0
	st.why, st.answered = "", true
}

// Each calls f for each Endpoint.
func (b *Balancer) Each(f func(*State)) {
	for _, st := range b.states {
		f(st)
	}
}
