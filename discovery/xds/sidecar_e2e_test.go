//go:build e2e

package xds

import (
	"fmt"
	"net/netip"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/pillion-proxy/pillion/discovery/discoverytest"
)

// TestSidecars: whole sidecars find each other by a cluster of a control plane, as the README says, in both forms of the protocol.
func TestSidecars(t *testing.T) {
	for _, mode := range []string{"delta", "state"} {
		t.Run(mode, func(t *testing.T) {
			p := newPlane(t)
			discoverytest.TestSidecars(t, discoverytest.Source{
				Config:    fmt.Sprintf("xds: {server: \"http://%s\", mode: %s, node: {id: web-1}}", p.addr, mode),
				Endpoints: "xds:orders",
				Set: func(all ...netip.AddrPort) {
					var ends []*endpointv3.LbEndpoint
					for _, a := range all {
						ends = append(ends, at(a.Addr().String(), uint32(a.Port())))
					}
					p.put("orders", in("a", ends...))
				},
				Stop:  func() { p.stop() },
				Start: func() { p.start() },
			})
		})
	}
}
