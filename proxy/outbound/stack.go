// Package outbound is the way from the local app to a peer: the order of the layers, written once. Requests come in
// from listeners/local, and leave through upstream.
package outbound

import (
	"net/netip"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/answer"
	"github.com/pillion-proxy/pillion/proxy/hops"
)

// Config is what the outbound side needs to know.
type Config struct {
	// Name is this sidecar's own service name, as it appears in Pillion-Path.
	Name string
	// Routes are the services that may be called, by lower-case name.
	Routes map[string]*Route
	// ByAddress returns the service at an address, for Streams to one that is given as an address. May be nil: then there is none.
	ByAddress func(netip.AddrPort) (svc proxy.Service, ok bool)
	// Others is how names that are no service are reached; nil refuses them.
	Others proxy.RoundTripper
	// Upstream carries out what has been routed.
	Upstream proxy.RoundTripper
}

// Route is what the outbound side knows of one service.
type Route struct {
	Name    string
	Timeout time.Duration // until the head of the answer; zero means none
}

// New returns the outbound stack. It is safe for use by all shards.
func New(cfg Config) proxy.RoundTripper {
	rt := cfg.Upstream                           // pick an Endpoint, take a Link
	rt = tellClient(rt)                          // for whom a Stream is, for the peer
	rt = deadline(cfg.Routes)(rt)                // the service's timeout becomes the request's deadline
	rt = route(cfg)(rt)                          // Host becomes a Service
	rt = hops.Layer(hops.Outbound(cfg.Name))(rt) // loops end in 508
	rt = answer.Rescue(rt)                       // errors become answers
	return rt
}
