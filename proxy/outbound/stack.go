// Package outbound is the way from the local app to a peer: the order of the layers, written once. Requests come in
// from listeners/local, and leave through upstream.
package outbound

import (
	"net/netip"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/answer"
	"github.com/pillion-proxy/pillion/proxy/deadline"
	"github.com/pillion-proxy/pillion/proxy/hops"
	"github.com/pillion-proxy/pillion/proxy/observe"
	"github.com/pillion-proxy/pillion/proxy/routing"
)

// Config is what the outbound side needs to know.
type Config struct {
	// Name is this sidecar's own service name, as it appears in Pillion-Path.
	Name string
	// Routes are the services that may be called, by lower-case name.
	Routes map[string]*Route
	// Tables are the services' own routes, by name of the service. If empty, there is no such layer.
	Tables map[string]*routing.Table
	// Shards is how many shards requests come from; only needed with Tables.
	Shards int
	// ByAddress returns the service at an address, for Streams to one that is given as an address. May be nil: then there is none.
	ByAddress func(netip.AddrPort) (svc proxy.Service, ok bool)
	// Others is how names that are no service are reached; nil refuses them.
	Others proxy.RoundTripper
	// Observe follows each request. If nil, nobody does.
	Observe proxy.Layer
	// Trace tells an attempt where it stands in a trace. If nil, it is told nothing.
	Trace proxy.Layer
	// Cache answers what it has an answer for. If nil, all requests go on.
	Cache proxy.Layer
	// Retry repeats what failed. If nil, nothing is repeated.
	Retry proxy.Layer
	// Hedge asks a second Endpoint when the first takes long. If nil, none is asked.
	Hedge proxy.Layer
	// Limit bounds what the app may ask of services. If nil, nothing does.
	Limit proxy.Layer
	// Waits bounds what of a request is waited for. If nil, only its deadline does.
	Waits proxy.Layer
	// Fault does harm on purpose. May be nil.
	Fault proxy.Layer
	// Mirror returns the layer that sends copies elsewhere, by way of copies. May be nil.
	Mirror func(copies proxy.RoundTripper) proxy.Layer
	// Split sends shares of services elsewhere. May be nil.
	Split proxy.Layer
	// Upstream carries out what has been routed.
	Upstream proxy.RoundTripper
}

// Route is what the outbound side knows of one service.
type Route struct {
	Name    string
	Timeout time.Duration // until the head of the answer; zero means none
	// Timeouts are those of the service's own routes, by Request.Rule less one.
	Timeouts []time.Duration
}

// timeout is what applies to req.
func (r *Route) timeout(req *proxy.Request) time.Duration {
	if n := req.Rule; n > 0 && n <= len(r.Timeouts) {
		return r.Timeouts[n-1]
	}
	return r.Timeout
}

// New returns the outbound stack. It is safe for use by all shards.
func New(cfg Config) proxy.RoundTripper {
	rt := cfg.Upstream                      // pick an Endpoint, take a Link
	rt = proxy.Before(tellClient).Layer(rt) // for whom a Stream is, for the peer
	rt = deadline.Send(rt)                  // what is left of the deadline
	rt = wrap(cfg.Trace, rt)                // its place in a trace
	if cfg.Observe != nil {
		rt = observe.Attempts(rt) // one attempt
	}
	attempt := rt
	rt = wrap(cfg.Retry, rt) // another attempt, at another Endpoint
	rt = wrap(cfg.Hedge, rt) // two attempts at a time
	if cfg.Mirror != nil {
		rt = cfg.Mirror(attempt)(rt) // copies that nobody waits for, one attempt each
	}
	rt = wrap(cfg.Cache, rt) // or no attempt at all
	rt = wrap(cfg.Limit, rt) // no more than may run, and per second
	rt = wrap(cfg.Waits, rt) // for a connection, and for the rest of an answer
	if bounds(cfg.Routes) {
		rt = bound(cfg.Routes)(rt) // the timeout becomes the request's deadline
	}
	rt = deadline.Read(rt)   // and so does what the app says
	rt = wrap(cfg.Fault, rt) // faults that were asked for
	rt = wrap(cfg.Split, rt) // shares of a service elsewhere
	if len(cfg.Tables) > 0 {
		rt = routing.Layer(routing.Config{Tables: cfg.Tables, Shards: cfg.Shards})(rt) // the service's own routes
	}
	rt = route(cfg)(rt)                          // Host becomes a Service
	rt = hops.Layer(hops.Outbound(cfg.Name))(rt) // loops end in 508
	rt = answer.Rescue(rt)                       // errors become answers
	return wrap(cfg.Observe, rt)                 // from the first byte to the last
}

// wrap returns rt within layer, if there is one.
func wrap(layer proxy.Layer, rt proxy.RoundTripper) proxy.RoundTripper {
	if layer == nil {
		return rt
	}
	return layer(rt)
}
