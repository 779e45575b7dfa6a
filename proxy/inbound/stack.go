// Package inbound is the way from a peer to the local app: the order of the layers, written once. Requests come in from
// listeners/peer, with the caller's identity proven, and leave through upstream/direct.
package inbound

import (
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/answer"
	"github.com/pillion-proxy/pillion/proxy/deadline"
	"github.com/pillion-proxy/pillion/proxy/hops"
	"github.com/pillion-proxy/pillion/proxy/observe"
)

// Config is what the inbound side needs to know.
type Config struct {
	// Name is this sidecar's own service name.
	Name string
	// Apps are the ports that peers may ask for. The first serves whoever names none.
	Apps []App
	// Sidecar answers what peers ask of this sidecar itself; see proxy.SidecarName. If nil, nothing is answered.
	Sidecar proxy.RoundTripper
	// Observe follows each request. If nil, nobody does.
	Observe proxy.Layer
	// Trace tells the app where the request stands in a trace. If nil, it is told nothing.
	Trace proxy.Layer
}

// App is one port that peers may ask for.
type App struct {
	Port uint16
	// Allow are the callers that may use it; empty means any of the trust domain.
	Allow []proxy.Identity
	// StreamsOnly refuses Exchanges: the app speaks no HTTP.
	StreamsOnly bool
	// NoStreams refuses Streams: what they carry to an app that speaks HTTP is in nobody's hands but the caller's.
	NoStreams bool
	// Flows is true if the entry takes Flows, and nothing else: the app speaks UDP there. Another entry may have the same Port.
	Flows bool
	// Once makes each request that callers repeat run once. If nil, it runs for each attempt.
	Once proxy.Layer
	// Limit bounds what peers may ask of the app. If nil, nothing does.
	Limit proxy.Layer
	// Cache answers what it has an answer for. If nil, all requests go on.
	Cache proxy.Layer
	// News tells callers what of its answers has changed. If nil, they are told nothing.
	News proxy.RoundTripper
	// To reaches the app.
	To proxy.RoundTripper
}

// New returns the inbound stack. It is safe for use by all shards.
func New(cfg Config) proxy.RoundTripper {
	apps := make([]app, len(cfg.Apps))
	news := false
	for i, a := range cfg.Apps {
		rt := a.To             // a pooled connection to the app
		rt = deadline.Send(rt) // what is left of the deadline
		if cfg.Trace != nil {
			rt = cfg.Trace(rt) // its place in a trace
		}
		if cfg.Observe != nil {
			rt = observe.Attempts(rt)
		}
		rt = proxy.Before(tellCaller).Layer(rt) // who calls, for the app; forged claims removed
		if a.Cache != nil {
			rt = a.Cache(rt) // what has been answered before
		}
		if a.Once != nil {
			rt = a.Once(rt) // attempts of one request are one request
		}
		if a.Limit != nil {
			rt = a.Limit(rt) // no more than may run, and per second
		}
		rt = authorise(a)(rt) // may this caller?
		apps[i] = app{App: a, rt: rt}
		if a.News != nil {
			apps[i].news = authorise(a)(a.News)
			news = true
		}
	}
	to := &dispatcher{cfg.Name, apps, cfg.Sidecar} // which port was asked for, or the sidecar itself
	rt := proxy.RoundTripper(to)
	rt = deadline.Read(rt)                         // the time that the caller has left
	rt = proxy.Before(nameClient).Layer(rt)        // for whom a Stream is, as its caller says
	first, _ := proxy.Peel(rt)                     // these, and to, are run by front
	rt = &front{hops.Inbound(cfg.Name), first, to} // loops end in 508, errors become answers
	if cfg.Observe != nil {
		rt = cfg.Observe(rt) // from the first byte to the last
	}
	if news {
		rt = aside(answer.Rescue(to))(rt) // what sidecars ask each other
	}
	return rt
}
