// Package outbound is the way from the local app to a peer: the order of the layers, written once. Requests come in
// from listeners/local, and leave through upstream.
package outbound

import (
	"net/netip"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/deadline"
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
	// Layers are those of one service. If nil, no service has any.
	Layers func(service string) Layers
	// Upstream carries out what has been routed.
	Upstream proxy.RoundTripper
}

// Layers are what the requests of one service go through besides what all do. Those that are nil are not there.
type Layers struct {
	// Cache answers what it has an answer for.
	Cache proxy.Layer
	// Retry repeats what failed.
	Retry proxy.Layer
	// Hedge asks a second Endpoint when the first takes long.
	Hedge proxy.Layer
	// Limit bounds what the app may ask of the service.
	Limit proxy.Layer
	// Waits bounds what of a request is waited for, besides its deadline.
	Waits proxy.Layer
	// Fault does harm on purpose.
	Fault proxy.Layer
	// Mirror returns the layer that sends copies elsewhere, by way of copies.
	Mirror func(copies proxy.RoundTripper) proxy.Layer
	// Split sends shares of the service elsewhere.
	Split proxy.Layer
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
	services := make(map[string]*service, len(cfg.Routes))
	for _, r := range cfg.Routes {
		services[r.Name] = newService(&cfg, r, rt) // what is the service's own
	}
	rt = newFront(cfg, services, rt) // errors become answers, loops end in 508, Host becomes a Service
	return wrap(cfg.Observe, rt)     // from the first byte to the last
}

// stack is the layers of one service, over an attempt.
func (r *Route) stack(cfg *Config, attempt proxy.RoundTripper) proxy.RoundTripper {
	var own Layers
	if cfg.Layers != nil {
		own = cfg.Layers(r.Name)
	}
	rt := wrap(own.Retry, attempt) // another attempt, at another Endpoint
	rt = wrap(own.Hedge, rt)       // two attempts at a time
	if own.Mirror != nil {
		rt = own.Mirror(attempt)(rt) // copies that nobody waits for, one attempt each
	}
	rt = wrap(own.Cache, rt) // or no attempt at all
	rt = wrap(own.Limit, rt) // no more than may run, and per second
	rt = wrap(own.Waits, rt) // for a connection, and for the rest of an answer
	if r.bounds() {
		rt = r.bound(rt) // the timeout becomes the request's deadline
	}
	rt = deadline.Read(rt)   // and so does what the app says
	rt = wrap(own.Fault, rt) // faults that were asked for
	rt = wrap(own.Split, rt) // shares of a service elsewhere
	if t := cfg.Tables[r.Name]; t != nil {
		rt = routing.Layer(routing.Config{Tables: cfg.Tables, Shards: cfg.Shards})(rt) // the service's own routes
	}
	return rt
}

// wrap returns rt within layer, if there is one.
func wrap(layer proxy.Layer, rt proxy.RoundTripper) proxy.RoundTripper {
	if layer == nil {
		return rt
	}
	return layer(rt)
}
