package balance

import (
	"cmp"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Aperture keeps a caller to a part of a Service's Endpoints, so that it does not hold a Link to each of thousands, which would be a handshake and a socket
// each, on both sides, and a system call for each request (Finagle's aperture load balancer). Each caller ranks the Endpoints by a hash of itself and
// the Endpoint (Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates": highest random weight) and uses the first of them: so callers spread
// evenly over all Endpoints without knowing of each other, the part is the same after a restart, and an Endpoint that comes or goes changes one place of it. How many are used grows with the requests in flight.
//
// There is one for each Service, which all shards of the process share; each shard says what it does in a part of its own. What all see is
// replaced as a whole.
//
// The Endpoints of each Priority are ranked apart, and so are those of the caller's own zone, and of each value of a label that requests ask for: whoever chooses among them finds enough of each.
type Aperture struct {
	// Static after construction.
	self uint64
	zone string

	min    atomic.Int64
	label  atomic.Pointer[string]
	parts  []aperturePart // by Shard.Index
	chosen atomic.Pointer[chosen]
}

// ApertureConfig says who chooses.
type ApertureConfig struct {
	// Self is this caller: something that no other has, and that outlives a restart.
	Self string
	// Zone is where it runs; "" if unknown.
	Zone string
	// Label, if not empty, is what requests can ask for: Min is for each of its values, so that there are Endpoints of each.
	Label string
	// Min is how many Endpoints are used at least, of each Priority. If zero, DefaultAperture.
	Min int
	// Shards is how many there are.
	Shards int
}

// DefaultAperture is Finagle's, for deterministic apertures.
const DefaultAperture = 12

// Requests in flight for each Endpoint in use, on average: beyond the band the number of Endpoints changes so that it is one again (Finagle's load band).
const (
	apertureHigh = 2.0
	apertureLow  = 0.5
	apertureLook = time.Second     // how often
	apertureMean = 5 * time.Second // over how long, about
)

// aperturePart is the load that one shard makes.
type aperturePart struct {
	// Guarded by the shard's lock.
	pending int
	level   float64 // mean of pending
	at      task.Instant
	next    task.Instant // look again

	// Any shard.
	told   atomic.Uint64 // level, as bits
	toldAt atomic.Int64  // Instant
	out    atomic.Int32

	_ [64]byte // the next shard's is in another cache line
}

// chosen is what is used of one set. It does not change.
type chosen struct {
	from   []proxy.Endpoint
	groups [][]int32 // indices in from, ranked; nil if all are used whatever happens
	size   int       // of each group
	list   []proxy.Endpoint
}

// NewAperture returns one that has seen no Endpoints.
func NewAperture(c ApertureConfig) *Aperture {
	a := &Aperture{self: hashOf(fnvBasis, c.Self), zone: c.Zone, parts: make([]aperturePart, c.Shards)}
	a.min.Store(int64(cmp.Or(c.Min, DefaultAperture)))
	a.label.Store(&c.Label)
	a.chosen.Store(&chosen{size: a.Min()})
	return a
}

// Min is how many Endpoints are used at least.
func (a *Aperture) Min() int { return int(a.min.Load()) }

// Label is that of the groups; "" if there are none for labels.
func (a *Aperture) Label() string { return *a.label.Load() }

// Set changes Min and Label. More are used at once; fewer once the load is seen to be for fewer.
func (a *Aperture) Set(n int, label string) {
	if n == a.Min() && label == a.Label() {
		return
	}
	a.min.Store(int64(n))
	a.label.Store(&label)
	for done := false; !done; {
		c := a.chosen.Load()
		done = a.chosen.CompareAndSwap(c, a.choose(c.from, a.rank(c.from), max(c.size, n)))
	}
}

// Of returns the part of set that is used now: the same slice until that changes. Any shard may call it. It costs a comparison where set is the same
// slice as before, and where all of it is used it is set.
func (a *Aperture) Of(set []proxy.Endpoint) []proxy.Endpoint {
	c := a.chosen.Load()
	for !sameSlice(c.from, set) {
		// The size is for the same load as before.
		a.chosen.CompareAndSwap(c, a.choose(set, a.rank(set), c.size))
		c = a.chosen.Load()
	}
	return c.list
}

// Began counts a request of a shard, under its lock. If it returns true, the caller tells Look what it knows.
func (a *Aperture) Began(shard int, now task.Instant) (look bool) {
	p := &a.parts[shard]
	p.mean(now)
	p.pending++
	if now < p.next || a.chosen.Load().groups == nil {
		return false
	}
	p.next = now.Add(apertureLook)
	return true
}

// Ended undoes Began.
func (a *Aperture) Ended(shard int) { a.parts[shard].pending-- }

// Look adapts the size. out is how many of the Endpoints in use this shard does not send requests to at the moment: others take their place.
func (a *Aperture) Look(shard int, now task.Instant, out int) {
	p := &a.parts[shard]
	p.told.Store(math.Float64bits(p.level))
	p.toldAt.Store(int64(now))
	p.out.Store(int32(out))
	load, out := a.load(now)
	c := a.chosen.Load()
	size := a.fit(c.size, load, out)
	if size != c.size && c.groups != nil {
		a.chosen.CompareAndSwap(c, a.choose(c.from, c.groups, size)) // if another shard was first, that is as good
	}
}

// load sums up what the shards have said. One that has begun nothing since counts for less and less.
func (a *Aperture) load(now task.Instant) (level float64, out int) {
	for i := range a.parts {
		p := &a.parts[i]
		age := now.Sub(task.Instant(p.toldAt.Load())) - apertureLook
		level += math.Float64frombits(p.told.Load()) * (1 - part(age))
		out = max(out, int(p.out.Load()))
	}
	return level, out
}

// fit returns how many Endpoints are right, when size are used and out of them are of no use.
func (a *Aperture) fit(size int, load float64, out int) int {
	least := a.Min() + out
	if in := float64(max(1, size-out)); load > in*apertureHigh || load < in*apertureLow {
		return max(least, int(math.Ceil(load))+out)
	}
	return max(least, size)
}

// mean brings the level up to now.
func (p *aperturePart) mean(now task.Instant) {
	if now > p.at {
		p.level += (float64(p.pending) - p.level) * part(now.Sub(p.at))
		p.at = now
	}
}

// part is how much of a mean has been forgotten after d.
func part(d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(d) / float64(d+apertureMean)
}

// choose takes the first size of each group.
func (a *Aperture) choose(set []proxy.Endpoint, groups [][]int32, size int) *chosen {
	c := &chosen{from: set, groups: groups, size: size, list: set}
	if groups == nil {
		return c
	}
	c.list = make([]proxy.Endpoint, 0, len(groups)*size)
	for _, g := range groups {
		for _, i := range g[:min(size, len(g))] {
			c.list = append(c.list, set[i])
		}
	}
	return c
}

// rank sorts set into groups, each of them by the hash of its members and the caller. It returns nil if no group has more than the least size.
func (a *Aperture) rank(set []proxy.Endpoint) [][]int32 {
	type place struct {
		score uint64
		index int32
	}
	type key struct {
		priority int
		near     bool
		label    string
	}
	label := a.Label()
	least := a.Min()
	if len(set) <= least {
		return nil
	}
	var order []key
	places := make(map[key][]place)
	most := 0
	for i := range set {
		ep := &set[i]
		k := key{ep.Priority, a.zone != "" && ep.Zone == a.zone, ""}
		if label != "" {
			k.label, _ = ep.Label(label)
		}
		if places[k] == nil {
			order = append(order, k)
		}
		places[k] = append(places[k], place{a.score(ep), int32(i)})
		most = max(most, len(places[k]))
	}
	if most <= least {
		return nil
	}
	groups := make([][]int32, 0, len(order))
	for _, k := range order {
		all := places[k]
		slices.SortFunc(all, func(x, y place) int { return cmp.Or(cmp.Compare(y.score, x.score), cmp.Compare(x.index, y.index)) })
		g := make([]int32, len(all))
		for i := range all {
			g[i] = all[i].index
		}
		groups = append(groups, g)
	}
	return groups
}

// score does not depend on what may change of an Endpoint that stays.
func (a *Aperture) score(ep *proxy.Endpoint) uint64 {
	h := a.self
	if ep.Unix != "" {
		h = hashOf(h, ep.Unix)
	} else {
		addr := ep.Addr.Addr().As16()
		h = hashOf(h, addr[:])
		h = (h ^ uint64(ep.Addr.Port())) * fnvPrime
	}
	// FNV spreads little into the highest bits, which decide: the end of MurmurHash3 does.
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// FNV-1a, 64 bits.
const (
	fnvBasis = 14695981039346656037
	fnvPrime = 1099511628211
)

func hashOf[T string | []byte](h uint64, s T) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * fnvPrime
	}
	return h
}

func sameSlice(a, b []proxy.Endpoint) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
