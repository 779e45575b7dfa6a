package xds

import (
	"math"
	"net/netip"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/proxy"
)

// build makes the set of an assignment. The error says which endpoints cannot be used, and is no reason not to use the others.
func (a *assignment) build(d discovery.Defaults) ([]proxy.Endpoint, error) {
	set := []proxy.Endpoint{}
	var flaw error
	last := 0
	for _, l := range a.localities {
		last = max(last, l.priority)
	}
	shares := a.shares()
	for i := range a.localities {
		l := &a.localities[i]
		for j := range l.members {
			m := &l.members[j]
			weight := shares.of(l, m)
			if !m.usable() || weight == 0 {
				continue
			}
			e, err := m.endpoint(d)
			if err != nil {
				if flaw == nil {
					flaw = err
				}
				continue
			}
			e.Zone, e.Weight, e.Priority = l.zone, weight, l.priority
			if m.health == degraded { // used when no other is left
				e.Priority += last + 1
			}
			set = append(set, e)
		}
	}
	return set, flaw
}

func (m *member) endpoint(d discovery.Defaults) (proxy.Endpoint, error) {
	if m.unix != "" {
		e := proxy.Endpoint{Unix: m.unix, Mesh: d.Mesh, Identity: d.Identity}
		return e, discovery.Check(&e)
	}
	addr := m.addr
	if m.port != 0 {
		addr = netip.AddrPortFrom(addr.Addr(), m.port)
	}
	return d.Described(addr, m.say)
}

// shares are the weights of localities, by priority: "The weight of each locality is relative to the others of the same priority level", and those of
// endpoints to the others of their locality.
type shares struct {
	weighted map[int]bool // by priority: a locality there has a weight
	scale    map[int]float64
}

// shares finds by what the weights must be multiplied so that the largest is of a fair size.
func (a *assignment) shares() shares {
	s := shares{make(map[int]bool), make(map[int]float64)}
	for i := range a.localities {
		l := &a.localities[i]
		if l.weight > 0 && l.total > 0 {
			s.weighted[l.priority] = true
		}
	}
	largest := make(map[int]float64)
	for i := range a.localities {
		l := &a.localities[i]
		for j := range l.members {
			if m := &l.members[j]; m.usable() {
				largest[l.priority] = max(largest[l.priority], s.exact(l, m))
			}
		}
	}
	const most = 10_000 // fine enough for a share of 1 in 10,000
	for p, largest := range largest {
		if s.scale[p] = 1; s.weighted[p] || largest > discovery.MaxWeight {
			s.scale[p] = most / largest
		}
	}
	return s
}

// exact is the share of m, not yet scaled; 0 if it is to have none.
func (s *shares) exact(l *locality, m *member) float64 {
	if !s.weighted[l.priority] {
		return float64(max(m.weight, 1))
	}
	return float64(l.weight) * float64(max(m.weight, 1)) / float64(l.total)
}

// of is the weight of m. A locality without a weight, beside others that have one, gets nothing, as in Envoy.
func (s *shares) of(l *locality, m *member) int {
	x := s.exact(l, m)
	if x == 0 {
		return 0
	}
	return max(1, int(math.Round(x*s.scale[l.priority])))
}
