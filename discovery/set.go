package discovery

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/pillion-proxy/pillion/proxy"
)

// Defaults complete an Endpoint of which a source knows only the address.
type Defaults struct {
	Port     uint16         // where the source names none
	Identity proxy.Identity // whom to expect where the source does not say
	Pinned   bool           // the source cannot say otherwise
	Mesh     bool           // whether a sidecar is there
	Zone     string
	// Transport is what Links there run over.
	Transport proxy.Transport
}

// Endpoint makes one of an address. Port 0 of addr means the default.
func (d Defaults) Endpoint(addr netip.AddrPort) proxy.Endpoint {
	if addr.Port() == 0 {
		addr = netip.AddrPortFrom(addr.Addr(), d.Port)
	}
	e := proxy.Endpoint{Addr: netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), Mesh: d.Mesh, Zone: d.Zone}
	if d.Mesh {
		e.Identity, e.Transport = d.Identity, d.Transport
	}
	return e
}

// Normal returns a set of its own with the Endpoints in order of address, and only the first of those that share one.
func Normal(set []proxy.Endpoint) []proxy.Endpoint {
	set = slices.Clone(set)
	slices.SortStableFunc(set, compareAddress)
	return slices.CompactFunc(set, func(a, b proxy.Endpoint) bool { return compareAddress(a, b) == 0 })
}

func compareAddress(a, b proxy.Endpoint) int {
	return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Unix, b.Unix))
}

// Sender calls an update function for each set that differs from the one before. Its zero value is ready.
type Sender struct {
	sent bool
	last []proxy.Endpoint
}

// Send makes set Normal and passes it on if it is new.
func (s *Sender) Send(set []proxy.Endpoint, update func([]proxy.Endpoint)) {
	set = Normal(set)
	if s.sent && slices.Equal(set, s.last) {
		return
	}
	s.sent, s.last = true, set
	update(set)
}

// Check says what makes e unusable, or returns nil.
func Check(e *proxy.Endpoint) error {
	switch {
	case e.Unix != "" && e.Addr.IsValid():
		return fmt.Errorf("endpoint %v: it is both a socket and an address", e)
	case e.Unix != "" && e.Mesh:
		return fmt.Errorf("endpoint %v: a Unix socket cannot be a sidecar's; say mesh: false", e)
	case e.Unix == "" && (!e.Addr.IsValid() || e.Addr.Port() == 0):
		return fmt.Errorf("endpoint %v: it has no address or no port", e)
	case e.Mesh && e.Identity == "":
		return fmt.Errorf("endpoint %v: nobody is expected there: it has no identity", e)
	case e.Priority < 0:
		return fmt.Errorf("endpoint %v: its priority %d is negative", e, e.Priority)
	case e.Weight < 0:
		return fmt.Errorf("endpoint %v: its weight %d is negative", e, e.Weight)
	}
	return nil
}
