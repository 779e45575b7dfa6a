//go:build e2e

package kubernetes

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/pillion-proxy/pillion/discovery/discoverytest"
)

// TestSidecars: whole sidecars find each other by the EndpointSlices of a Service, as the README says.
func TestSidecars(t *testing.T) {
	s := newAPIServer(t)
	account := s.account()
	up := make(chan struct{})
	down := func() {}
	there := 0
	discoverytest.TestSidecars(t, discoverytest.Source{
		Config: fmt.Sprintf("kubernetes: {address: %q, token_file: %q, roots: %q}", s.http.URL, filepath.Join(account, "token"), filepath.Join(account, "ca.crt")),
		// The identity is that of the service: nothing says more of it here.
		Endpoints: "kubernetes:orders.shop",
		Set: func(all ...netip.AddrPort) { // a slice for each, as their ports differ
			for i, a := range all {
				s.put(fmt.Sprintf("orders-%d", i), fmt.Sprintf(`"addressType":"IPv4","ports":[{"name":"pillion","port":%d}],"endpoints":[{"addresses":[%q],"conditions":{"ready":true}}]`, a.Port(), a.Addr()))
			}
			for i := len(all); i < there; i++ {
				s.remove(fmt.Sprintf("orders-%d", i))
			}
			there = len(all)
		},
		Stop: func() {
			began, ended := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(ended)
				s.restart(func() { close(began); <-up })
			}()
			<-began
			down = func() { close(up); <-ended }
		},
		Start: func() { down() },
	})
}
