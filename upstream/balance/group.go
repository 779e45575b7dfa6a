package balance

import (
	"math/rand/v2"
	"slices"
	"sort"

	"github.com/pillion-proxy/pillion/proxy/task"
)

// group is the Endpoints of one Priority. It does not change.
type group struct {
	states []*State
	// sums are the weights up to and with each of states; nil if all are the same.
	sums []int
}

// grouped sorts states into groups.
func grouped(states []*State) []group {
	sorted := slices.Clone(states)
	slices.SortStableFunc(sorted, func(a, b *State) int { return a.Endpoint.Priority - b.Endpoint.Priority })
	var all []group
	for len(sorted) > 0 {
		n := slices.IndexFunc(sorted, func(st *State) bool { return st.Endpoint.Priority != sorted[0].Endpoint.Priority })
		if n < 0 {
			n = len(sorted)
		}
		all = append(all, newGroup(sorted[:n:n]))
		sorted = sorted[n:]
	}
	return all
}

func newGroup(states []*State) group {
	g := group{states: states}
	if !slices.ContainsFunc(states, func(st *State) bool { return weight(st) != weight(states[0]) }) {
		return g
	}
	sum := 0
	for _, st := range states {
		sum += weight(st)
		g.sums = append(g.sums, sum)
	}
	return g
}

// draw returns one at random, by weight.
func (g *group) draw() *State {
	if g.sums == nil {
		return g.states[rand.IntN(len(g.states))]
	}
	return g.states[sort.SearchInts(g.sums, 1+rand.IntN(g.sums[len(g.sums)-1]))]
}

// choose returns nil if all are in tried, and one that is paused only if all others are, too.
func (g *group) choose(now task.Instant, tried []*State) *State {
	n := len(g.states)
	if n == 1 && len(tried) == 0 {
		return g.states[0]
	}
	best := better(now, g.draw(), g.draw())
	if len(tried) == 0 && !best.paused(now) {
		return best
	}
	// The draw was bad luck, or this is another attempt: look at all.
	best = nil
	start := rand.IntN(n)
	for i := range n {
		st := g.states[(start+i)%n]
		if !contains(tried, st) && (best == nil || better(now, best, st) == st) {
			best = st
		}
	}
	return best
}
