package balance

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/upstream/health"
)

// Balancer picks among the Endpoints it was given last. Make it with New.
type Balancer struct {
	// What each request needs stands together.

	from    []proxy.Endpoint // the set that was given, to see that it is another
	states  []*State
	pending int // Exchanges in flight
	stats   Stats

	conf    Config
	service *health.Service
	random  uint64
	all     view
	subsets map[string]*view // by the value of Config.Label
	version uint64           // of service, when lists were made
	made    task.Instant     // when they were
	next    task.Instant     // when somebody comes back by itself
}

// Stats counts what a Balancer did.
type Stats struct {
	Picks   uint64
	Redraws uint64 // draws that met an Endpoint that is out, or starts slowly
	Scans   uint64 // times that all had to be looked at, because of bad luck or because few are left
	Panics  uint64 // picks among all that can be reached, because most are ejected or sick
	Last    uint64 // picks of an Endpoint that is out, because there was no other
	Far     uint64 // picks outside the own zone
	Moved   uint64 // keys that could not go where they belong: that Endpoint was out, or had its part
}

// Add adds o to s.
func (s *Stats) Add(o Stats) {
	s.Picks += o.Picks
	s.Redraws += o.Redraws
	s.Scans += o.Scans
	s.Panics += o.Panics
	s.Last += o.Last
	s.Far += o.Far
	s.Moved += o.Moved
}

// Pick says for what an Endpoint is picked.
type Pick struct {
	Now task.Instant
	// Tried are not picked.
	Tried []*State
	// Avoid are not picked while there are others.
	Avoid []*proxy.Endpoint
	// Only is the one that must be picked; nil: any.
	Only *proxy.Endpoint
	// Stream is true for what is counted as a Stream.
	Stream bool
	// Keyed is true if there is a Key, for RingHash and Maglev.
	Keyed bool
	Key   uint64
	// Subset is a value of Config.Label; "" for all Endpoints.
	Subset string
}

// New returns a Balancer without Endpoints. What all shards know is kept in s.
func New(c Config, s *health.Service) *Balancer {
	b := &Balancer{conf: c.fill(), service: s, random: c.Seed}
	for b.random == 0 {
		b.random = rand.Uint64()
	}
	return b
}

// Configure replaces the Config. What is known of Endpoints stays.
func (b *Balancer) Configure(c Config) {
	b.conf = c.fill()
	b.arrange(b.made)
}

// Update takes a new set, keeping what is known of Endpoints that are still there, and reports whether it is new. It costs a comparison when
// the set is the same slice as before. All is the full set, of which set may be a part: health is kept for all.
func (b *Balancer) Update(set, all []proxy.Endpoint, now task.Instant) (changed bool) {
	if health.Same(set, b.from) {
		return false
	}
	known := make(map[health.Key]*State, len(b.states))
	for _, st := range b.states {
		st.gone = true
		known[health.KeyOf(st.Endpoint)] = st
	}
	b.from, b.states = set, make([]*State, len(set))
	b.service.Update(all, now)
	for i := range set {
		st := known[health.KeyOf(&set[i])]
		if st == nil {
			st = &State{b: b}
		}
		st.Endpoint, st.Health, st.gone = &set[i], b.service.Of(&set[i]), false
		b.states[i] = st
	}
	b.arrange(now)
	return true
}

// arrange makes views of the states.
func (b *Balancer) arrange(now task.Instant) {
	for _, st := range b.states {
		st.near = b.conf.Zone != "" && st.Endpoint.Zone == b.conf.Zone
	}
	before := b.all
	b.all = b.newView(b.states, &before)
	b.subsets = nil
	if b.conf.Label != "" {
		b.divide()
	}
	b.refresh(now)
}

// divide makes a view of each value of the label.
func (b *Balancer) divide() {
	parts := make(map[string][]*State)
	for _, st := range b.states {
		if v, ok := st.Endpoint.Label(b.conf.Label); ok {
			parts[v] = append(parts[v], st)
		}
	}
	b.subsets = make(map[string]*view, len(parts))
	for value, states := range parts {
		v := b.newView(states, nil)
		b.subsets[value] = &v
	}
}

// Out is how many of the Endpoints are passed over now.
func (b *Balancer) Out(now task.Instant) (n int) {
	for _, st := range b.states {
		if st.Health.Out() > now {
			n++
		}
	}
	return n
}

// Len is the number of Endpoints.
func (b *Balancer) Len() int { return len(b.states) }

// Each calls f for each Endpoint.
func (b *Balancer) Each(f func(*State)) {
	for _, st := range b.states {
		f(st)
	}
}

// Stats returns what was counted.
func (b *Balancer) Stats() Stats { return b.stats }

// Pick chooses an Endpoint and counts the request as pending; State.Done must follow. It returns nil when there is none but those in Tried.
func (b *Balancer) Pick(p *Pick) *State {
	if v := b.service.Version(); (v != b.version || p.Now >= b.next) && p.Now.Sub(b.made) >= b.patience() {
		b.refresh(p.Now)
	}
	groups := b.all.groups
	if p.Subset != "" && b.conf.Label != "" {
		switch sub := b.subsets[p.Subset]; {
		case sub != nil:
			groups = sub.groups
		case b.conf.Strict:
			return nil
		}
	}
	var st *State
	if p.Only == nil {
		st = b.choose(groups, p)
	} else {
		st = b.find(p.Only)
	}
	if st != nil {
		b.count(st, p.Stream)
	}
	return st
}

// Sole is Pick for a request that asks for nothing special, where one Endpoint is all there is and nothing is known against it; else it returns nil.
func (b *Balancer) Sole(stream bool) *State {
	if len(b.states) != 1 || b.states[0].Health.Out() != 0 {
		return nil
	}
	b.count(b.states[0], stream)
	return b.states[0]
}

// count counts a request as pending.
func (b *Balancer) count(st *State, stream bool) {
	b.stats.Picks++
	if !st.near && b.conf.Zone != "" {
		b.stats.Far++
	}
	if stream {
		st.streams++
	} else {
		st.pending++
		b.pending++
	}
}

// find returns the State of ep, or nil.
func (b *Balancer) find(ep *proxy.Endpoint) *State {
	for _, st := range b.states {
		if *st.Endpoint == *ep {
			return st
		}
	}
	return nil
}

// patience is how long lists are used although somebody went out or came back: making them costs some nanoseconds for each Endpoint, and this is
// a thousand times that. Whoever is drawn from an old list is looked at.
func (b *Balancer) patience() time.Duration { return time.Duration(len(b.states)) * time.Microsecond }

// choose goes through the priorities; see the package comment. Those to avoid come after all that are any good.
func (b *Balancer) choose(groups []group, p *Pick) *State {
	st := b.good(groups, p)
	if st == nil && len(p.Avoid) > 0 {
		p.Avoid = nil
		st = b.good(groups, p)
	}
	if st == nil {
		st = b.scanAll(groups, p, whoever)
	}
	return st
}

// good chooses among those that there is a reason to choose.
func (b *Balancer) good(groups []group, p *Pick) *State {
	for i := range groups {
		if g := &groups[i]; g.well {
			if st := b.nearFirst(g, p); st != nil {
				return st
			}
		}
	}
	for i := range groups {
		if g := &groups[i]; !g.well && len(g.reachable.states) > 0 {
			if st := b.in(g, &g.reachable, p, reachable); st != nil {
				b.stats.Panics++
				return st
			}
		}
	}
	if st := b.scanAll(groups, p, usable); st != nil { // the lists are old
		return st
	}
	return b.scanAll(groups, p, reachable)
}

// scanAll is for when nobody is left in the lists.
func (b *Balancer) scanAll(groups []group, p *Pick, need standing) *State {
	for i := range groups {
		if st := b.scan(groups[i].states, p, need); st != nil {
			if need != usable {
				b.stats.Last++
			}
			return st
		}
	}
	return nil
}

// rand returns a random number (wyrand).
func (b *Balancer) rand() uint64 {
	b.random += 0xa0761d6478bd642f
	hi, lo := bits.Mul64(b.random, b.random^0xe7037ed1a0b428db)
	return hi ^ lo
}

// below returns a random number below n.
func (b *Balancer) below(n int) int {
	hi, _ := bits.Mul64(b.rand(), uint64(n))
	return int(hi)
}

// chance is true with probability p.
func (b *Balancer) chance(p float64) bool { return float64(b.rand()>>11)/(1<<53) < p }

// avoided reports whether p wants another than st.
func (p *Pick) avoided(st *State) bool {
	if slices.Contains(p.Tried, st) {
		return true
	}
	for _, ep := range p.Avoid {
		if ep == st.Endpoint || *ep == *st.Endpoint {
			return true
		}
	}
	return false
}
