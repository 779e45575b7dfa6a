package balance

import (
	"slices"
	"sort"

	"github.com/pillion-proxy/pillion/proxy/task"
)

// view is the Endpoints of a Service, or of a subset, by Priority, the lowest first.
type view struct{ groups []group }

// group is the Endpoints of one Priority.
type group struct {
	states []*State // all of them
	zoned  int      // how many are in the own zone

	// What refresh made, of those of that moment.

	live      list    // usable
	near      list    // of these, in the own zone
	nearPart  float64 // share of picks that near gets
	reachable list    // not lost; empty while well
	well      bool    // some are live, and not too few of those that can be reached

	turn  uint64 // of RoundRobin
	table *table // of RingHash and Maglev; nil if it is not made yet
}

// list is States to draw from.
type list struct {
	states []*State
	sums   []int // weights up to and with each of states; nil if all are the same
}

// newView sorts states into groups. before is where they were, to keep what can be kept.
func (b *Balancer) newView(states []*State, before *view) view {
	sorted := slices.Clone(states)
	slices.SortStableFunc(sorted, func(a, b *State) int { return a.Endpoint.Priority - b.Endpoint.Priority })
	var v view
	for len(sorted) > 0 {
		n := slices.IndexFunc(sorted, func(st *State) bool { return st.Endpoint.Priority != sorted[0].Endpoint.Priority })
		if n < 0 {
			n = len(sorted)
		}
		v.groups = append(v.groups, b.newGroup(sorted[:n:n]))
		sorted = sorted[n:]
	}
	for i := range v.groups {
		if before != nil && i < len(before.groups) {
			v.groups[i].turn, v.groups[i].table = before.groups[i].turn, before.groups[i].table
		}
		b.makeTable(&v.groups[i])
	}
	return v
}

func (b *Balancer) newGroup(states []*State) group {
	g := group{states: states, turn: b.rand()}
	sum := 0
	for _, st := range states {
		sum += weight(st.Endpoint)
		if st.near {
			g.zoned++
		}
	}
	for _, st := range states {
		st.part = float64(weight(st.Endpoint)) * float64(len(states)) / float64(sum)
	}
	return g
}

// never is later than any time.
const never = task.Instant(1<<63 - 1)

// refresh makes the lists anew.
func (b *Balancer) refresh(now task.Instant) {
	b.version, b.made, b.next = b.service.Version(), now, never
	for i := range b.all.groups {
		b.refreshGroup(&b.all.groups[i], now)
	}
	for _, v := range b.subsets {
		for i := range v.groups {
			b.refreshGroup(&v.groups[i], now)
		}
	}
}

func (b *Balancer) refreshGroup(g *group, now task.Instant) {
	g.live.states, g.near.states, g.reachable.states = g.live.states[:0], g.near.states[:0], g.reachable.states[:0]
	reached := 0
	for _, st := range g.states {
		out := st.Health.Out()
		if out > now {
			b.next = min(b.next, out)
			if st.Health.Reachable(now) {
				reached++
			}
			continue
		}
		reached++
		g.live.states = append(g.live.states, st)
		if st.near {
			g.near.states = append(g.near.states, st)
		}
	}
	n := len(g.live.states)
	g.well = n > 0 && float64(n) >= b.service.Panic()*float64(reached)
	if !g.well && reached > 0 {
		for _, st := range g.states {
			if st.Health.Reachable(now) {
				g.reachable.states = append(g.reachable.states, st)
			}
		}
	}
	g.live.weigh()
	g.near.weigh()
	g.reachable.weigh()
	g.nearPart = 0
	if n := len(g.near.states); n > 0 && n < len(g.live.states) {
		g.nearPart = min(1, float64(n)/float64(g.zoned)/enoughNear)
	}
}

// enoughNear is the part of the Endpoints of the own zone that must be usable to get all of its requests.
const enoughNear = 0.7

// weigh sums up the weights, where they differ.
func (l *list) weigh() {
	l.sums = l.sums[:0]
	same := true
	for _, st := range l.states {
		same = same && weight(st.Endpoint) == weight(l.states[0].Endpoint)
	}
	if same {
		return
	}
	sum := 0
	for _, st := range l.states {
		sum += weight(st.Endpoint)
		l.sums = append(l.sums, sum)
	}
}

// at returns whose turn x is, of 1<<64 in proportion to the weights.
func (l *list) at(x int) *State {
	if len(l.sums) == 0 {
		return l.states[x]
	}
	return l.states[sort.SearchInts(l.sums, 1+x)]
}

// total is how many values at takes.
func (l *list) total() int {
	if len(l.sums) == 0 {
		return len(l.states)
	}
	return l.sums[len(l.sums)-1]
}
