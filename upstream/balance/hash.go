package balance

import (
	"cmp"
	"math"
	"math/bits"
	"slices"

	"github.com/pillion-proxy/pillion/proxy"
)

// stir spreads what is in some bits over all (splitmix64).
func stir(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// table leads from keys to States. It does not change, and knows nothing of health.
type table struct {
	states []*State
	ring   []point // RingHash, in order
	slots  []int32 // Maglev: indices of states
}

// point is one place on the ring.
type point struct {
	hash  uint64
	state int32
}

// maxProbes bounds the Endpoints that a key is moved on to before it goes by load.
const maxProbes = 64

// room is how many requests an Endpoint may always have in flight: where there is hardly any load there is nothing to be spread.
const room = 10

// hashed returns the Endpoint that the key belongs to, or the next in its order that fits and has not more than its part.
func (b *Balancer) hashed(g *group, p *Pick, need standing) *State {
	t := g.table
	most := math.Inf(1)
	if b.conf.Bound > 0 {
		most = b.conf.Bound * float64(b.pending+1) / float64(len(t.states))
	}
	at := t.find(p.Key)
	var before *State
	for i := range maxProbes {
		st := t.states[t.probe(at, p.Key, i)]
		if st == before || st.gone {
			continue
		}
		before = st
		if float64(st.pending) <= max(room, math.Ceil(most*st.part)) && b.fits(st, p, need) {
			if i > 0 {
				b.stats.Moved++
			}
			return st
		}
	}
	b.stats.Moved++
	return nil
}

// find returns where on the ring the key is.
func (t *table) find(key uint64) int {
	if t.ring == nil {
		return 0
	}
	i, _ := slices.BinarySearchFunc(t.ring, key, func(p point, k uint64) int { return cmp.Compare(p.hash, k) })
	return i
}

// probe returns the i-th choice of a key.
func (t *table) probe(at int, key uint64, i int) int32 {
	if t.ring != nil {
		return t.ring[(at+i)%len(t.ring)].state
	}
	if i > 0 {
		key = stir(key + uint64(i)*golden)
	}
	hi, _ := bits.Mul64(key, uint64(len(t.slots)))
	return t.slots[hi]
}

// largeTable is when a table is too much to be made within a pick.
const largeTable = 128 // Endpoints

// makeTable makes the table of a small group; that of a large one is made by Prepare.
func (b *Balancer) makeTable(g *group) {
	if b.hashes() && len(g.states) <= largeTable {
		g.table = newTable(b.conf.Policy, g.states, endpointsOf(g.states))
	}
}

// Prepare returns a function that makes the tables that are missing, and does not touch the Balancer: it may take some 100 ms, and runs anywhere. What it
// returns is handed to Install, under the shard's lock. Prepare returns nil if nothing is missing.
func (b *Balancer) Prepare() (build func() *Tables) {
	if !b.hashes() {
		return nil
	}
	type part struct {
		states    []*State
		endpoints []*proxy.Endpoint
	}
	var parts []part
	b.eachGroup(func(g *group) {
		if g.table == nil || g.table.stale(g) {
			parts = append(parts, part{g.states, endpointsOf(g.states)})
		}
	})
	if parts == nil {
		return nil
	}
	policy := b.conf.Policy
	return func() *Tables {
		t := &Tables{policy: policy}
		for _, x := range parts {
			t.made = append(t.made, newTable(policy, x.states, x.endpoints))
		}
		return t
	}
}

// endpointsOf is what states stand for now: immutable, unlike the states.
func endpointsOf(states []*State) []*proxy.Endpoint {
	all := make([]*proxy.Endpoint, len(states))
	for i, st := range states {
		all[i] = st.Endpoint
	}
	return all
}

// Tables are for Install.
type Tables struct {
	policy Policy
	made   []*table
}

// Install takes what Prepare has made, as far as it still fits.
func (b *Balancer) Install(t *Tables) {
	if t.policy != b.conf.Policy {
		return
	}
	b.eachGroup(func(g *group) {
		for _, made := range t.made {
			if !made.stale(g) {
				g.table = made
			}
		}
	})
}

func (b *Balancer) eachGroup(f func(*group)) {
	for i := range b.all.groups {
		f(&b.all.groups[i])
	}
	for _, v := range b.subsets {
		for i := range v.groups {
			f(&v.groups[i])
		}
	}
}

// stale reports whether t was made for others.
func (t *table) stale(g *group) bool {
	return len(t.states) != len(g.states) || len(g.states) > 0 && &t.states[0] != &g.states[0]
}

// newTable makes the table of a policy. It does not look into states.
func newTable(p Policy, states []*State, endpoints []*proxy.Endpoint) *table {
	t := &table{states: states}
	weights, sum := make([]int, len(states)), 0
	names := make([]string, len(states))
	for i, ep := range endpoints {
		weights[i], names[i] = weight(ep), ep.String()
		sum += weights[i]
	}
	if p == RingHash {
		t.ring = newRing(names, weights, sum)
	} else {
		t.slots = newSlots(names, weights)
	}
	return t
}

// pointsEach is the number of points on the ring of an Endpoint of mean weight.
const pointsEach = 100

func newRing(names []string, weights []int, sum int) []point {
	ring := make([]point, 0, len(names)*pointsEach)
	for i, name := range names {
		n := max(1, weights[i]*len(names)*pointsEach/sum)
		h := proxy.Hash(name)
		for range n {
			ring = append(ring, point{h, int32(i)})
			h = stir(h + golden)
		}
	}
	slices.SortFunc(ring, func(a, b point) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.state, b.state)) })
	return ring
}

// slotsEach is the least number of slots for each Endpoint, so that none gets more than about 1 % more than another (section 3.4 of the paper).
const slotsEach = 100

// tableSize returns how many slots n Endpoints have, a prime. It changes only where they become many more: then all keys move.
func tableSize(n int) uint64 {
	sizes := [...]uint64{16_381, 65_537, 262_139, 1_048_573}
	for _, m := range sizes[:len(sizes)-1] {
		if n*slotsEach <= int(m) {
			return m
		}
	}
	return sizes[len(sizes)-1]
}

// newSlots is the paper's pseudocode 1; with weights, who has a half of the largest one takes every other turn.
func newSlots(names []string, weights []int) []int32 {
	m := tableSize(len(names))
	type turn struct{ next, skip uint64 }
	turns := make([]turn, len(names))
	for i, name := range names {
		h := proxy.Hash(name)
		turns[i] = turn{h % m, stir(h+golden)%(m-1) + 1}
	}
	heaviest := slices.Max(weights)
	due := make([]int, len(names))
	slots := make([]int32, m)
	for i := range slots {
		slots[i] = -1
	}
	for filled := uint64(0); filled < m; {
		for i := range turns {
			if due[i] += weights[i]; due[i] < heaviest {
				continue
			}
			due[i] -= heaviest
			t := &turns[i]
			for slots[t.next] >= 0 {
				t.next = (t.next + t.skip) % m
			}
			slots[t.next] = int32(i)
			if filled++; filled == m {
				break
			}
		}
	}
	return slots
}
