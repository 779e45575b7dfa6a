package kubernetes

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
)

// candidate is a member with its place.
type candidate struct {
	*member
	end proxy.Endpoint
}

// errNoSlices is told beside an empty set: more often than not the name is wrong.
var errNoSlices = errors.New("it has no EndpointSlices: is there such a Service?")

// errEmpty is for what a server that has just failed says.
var errEmpty = errors.New("after a failure there are no endpoints any more: the last ones stay for now")

// merge makes the set of all slices. The error says what of them cannot be used.
func (r *Resolver) merge(all map[string]*slice) ([]proxy.Endpoint, error) {
	var cands []candidate
	best := unusable
	var flaw error
	for _, name := range slices.Sorted(maps.Keys(all)) {
		s := all[name]
		first := slices.IndexFunc(s.members, func(m member) bool { return m.state > unusable })
		if first < 0 {
			continue
		}
		e, err := r.place(s, s.members[first].addr)
		if err != nil {
			if flaw == nil {
				flaw = fmt.Errorf("slice %s: %w", name, err)
			}
			continue
		}
		for i := first; i < len(s.members); i++ {
			m := &s.members[i]
			if m.state == unusable {
				continue
			}
			best = max(best, m.state)
			e.Addr, e.Zone, e.Labels = netip.AddrPortFrom(m.addr, e.Addr.Port()), m.zone, m.more
			cands = append(cands, candidate{m, e})
		}
	}
	cands = slices.DeleteFunc(cands, func(c candidate) bool { return c.state < best })
	cands = r.onePerPod(cands)
	r.useHints(cands)
	set := make([]proxy.Endpoint, 0, len(cands))
	for _, c := range cands {
		set = append(set, c.end)
	}
	return set, flaw
}

// place makes the Endpoint at addr; those of one slice differ in their addresses and zones only.
func (r *Resolver) place(s *slice, addr netip.Addr) (proxy.Endpoint, error) {
	d, say := r.target.Defaults, s.say
	if !d.Mesh {
		say.Mesh = "" // that a sidecar is there is of no use if nobody knows whose
	}
	number, err := r.port(s)
	if err != nil {
		return proxy.Endpoint{}, err
	}
	return d.Described(netip.AddrPortFrom(addr, number), say)
}

// port finds the port of s: the sidecars' where there are any.
func (r *Resolver) port(s *slice) (uint16, error) {
	want, mesh := r.target.Port, r.target.Defaults.Mesh
	if n, err := strconv.ParseUint(want, 10, 16); err == nil && n > 0 {
		return uint16(n), nil
	}
	named := func(name string) int { return slices.IndexFunc(s.ports, func(p port) bool { return p.name == name }) }
	switch {
	case want != "":
		if i := named(want); i >= 0 && s.ports[i].number != 0 {
			return s.ports[i].number, nil
		}
		return 0, fmt.Errorf("there is no port %q, but %s", want, list(s.ports))
	case mesh:
		if i := named(portName); i >= 0 && s.ports[i].number != 0 {
			return s.ports[i].number, nil
		}
		return r.target.Defaults.Port, nil
	}
	own := slices.DeleteFunc(slices.Clone(s.ports), func(p port) bool { return p.name == portName })
	if len(own) != 1 || own[0].number == 0 {
		return 0, fmt.Errorf("there is not one port, but %s: name one", list(own))
	}
	return own[0].number, nil
}

func list(ports []port) string {
	var all []string
	for _, p := range ports {
		all = append(all, fmt.Sprintf("%q (%d)", p.name, p.number))
	}
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}

// onePerPod keeps, of a pod that has addresses of both families, those of the one that is preferred. The same address in two slices, as while an
// endpoint moves from one to another, is left to discovery.Normal.
func (r *Resolver) onePerPod(cands []candidate) []candidate {
	preferred := make(map[string]bool) // pods that have an address of the preferred family
	for _, c := range cands {
		if c.pod != "" && c.addr.Is6() == r.cluster.conf.IPv6 {
			preferred[c.pod] = true
		}
	}
	return slices.DeleteFunc(cands, func(c candidate) bool {
		return preferred[c.pod] && c.addr.Is6() != r.cluster.conf.IPv6
	})
}

// useHints makes endpoints that are not for our zone the second choice. As in kube-proxy, hints count only if every endpoint has one and
// some are for our zone. https://kubernetes.io/docs/concepts/services-networking/topology-aware-routing/#safeguards
func (r *Resolver) useHints(cands []candidate) {
	zone := r.cluster.conf.Zone
	ours := 0
	for _, c := range cands {
		if zone == "" || c.hints == nil {
			return
		}
		if slices.Contains(c.hints, zone) {
			ours++
		}
	}
	if ours == 0 {
		return
	}
	for i := range cands {
		if !slices.Contains(cands[i].hints, zone) {
			cands[i].end.Priority++
		}
	}
}
