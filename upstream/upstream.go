// Package upstream is the front door to everything that can be called: RoundTrip carries out an Exchange, or opens a Stream, for the Service
// that routing has set. It picks an Endpoint (upstream/balance), takes a Link to the sidecar there (upstream/pool) or a plain
// connection where there is none (upstream/direct), and goes to the next Endpoint when no connection can be made: such a request provably never ran.
//
// How each request ended it tells the Balancer of the shard and, through upstream/health, all shards: an Endpoint to which no connection can be made
// costs no request more than the one that found out, because from then on a task of its own tries (probe.go), and requests go elsewhere. Active checks
// (check.go) go the way of requests.
//
// What is known of Services is in a store by their names, and stays when a reload replaces their settings.
package upstream

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/upstream/balance"
	"github.com/pillion-proxy/pillion/upstream/health"
	"github.com/pillion-proxy/pillion/upstream/pool"
)

// Config says what can be called, and how.
type Config struct {
	Shards   []task.Shard
	Services []Service
	// Pools are the Links, one Pool per shard.
	Pools []*pool.Pool
	// FlowPools are the Links for requests that ask for a Flow, where the transport is free to choose. If nil, Pools.
	FlowPools []*pool.Pool
	// Direct calls Endpoints that have no sidecar.
	Direct proxy.RoundTripper
}

// Service is one logical destination.
type Service struct {
	Name string
	// Endpoints is the present set: an immutable slice, the same one until the set changes.
	Endpoints func() []proxy.Endpoint
	// Aperture is the part of them that is used; nil for all.
	Aperture *balance.Aperture
	// Subset is the field whose value must be that of the label Balance.Label; "" for none.
	Subset string
	// StreamAge is how long a Stream may last that is quiet then; 0 is for ever. See turning.
	StreamAge time.Duration

	Balance balance.Config
	// Key says what makes requests belong together, for the policies of Balance that hash.
	Key    proxy.Key
	Health health.Config
	// Check is how Endpoints are asked whether they are well.
	Check Check
}

// maxTries bounds the Endpoints that one request goes to because no connection can be made.
const maxTries = 3

// Upstream carries out Exchanges. Make it with New.
type Upstream struct {
	services atomic.Pointer[map[string]*service]
	last     atomic.Pointer[service] // of services, which was called last, or nil
	store    *store
	pools    []*pool.Pool
	flows    []*pool.Pool
	direct   proxy.RoundTripper
}

// service is what is configured of one Service, and what is known of it.
type service struct {
	made    uint64 // which Replace this is of, counted by the store
	known   *known
	Service // what each request needs is first there
	u       *Upstream
}

// New returns an Upstream for all shards.
func New(cfg Config) *Upstream {
	u := &Upstream{store: newStore(cfg.Shards), pools: cfg.Pools, flows: cfg.FlowPools, direct: cfg.Direct}
	u.Replace(cfg.Services)
	return u
}

// Replace puts other services in the place of those that there are. One with the same name keeps its Aperture and what has been learnt of its
// Endpoints; requests that run go on. It is called by one goroutine at a time.
func (u *Upstream) Replace(services []Service) {
	next := make(map[string]*service, len(services))
	all := make([]*service, len(services))
	for i, s := range services {
		all[i] = &service{Service: s, u: u}
		next[s.Name] = all[i]
	}
	u.store.adopt(all)
	u.services.Store(&next)
	u.last.Store(nil)
	u.store.wake()
}

// Run carries out active checks until ctx ends. It is to be called once, on an ordinary goroutine.
func (u *Upstream) Run(ctx context.Context) error { return u.store.run(ctx) }

// service returns nil if there is none of this name.
func (u *Upstream) service(name string) *service {
	if all := u.services.Load(); all != nil {
		return (*all)[name]
	}
	return nil
}

// find is service for a request: most are for the same one as the one before.
func (u *Upstream) find(name string) *service {
	all := u.services.Load()
	svc := u.service(name)
	if svc == nil {
		return nil
	}
	u.last.Store(svc)
	if u.services.Load() != all { // replaced meanwhile: last may be of the others
		u.last.Store(nil)
	}
	return svc
}

// elsewhere calls req.Backend in the place of req.Service.
func (u *Upstream) elsewhere(req *proxy.Request, resp *proxy.Response) error {
	called, backend := req.Service, req.Backend
	req.Service, req.Backend = backend, proxy.Service{} // what the peer is asked for
	defer func() { req.Service, req.Backend = called, backend }()
	return u.RoundTrip(req, resp)
}

// RoundTrip implements proxy.RoundTripper for req.Service, or for req.Backend in its place.
func (u *Upstream) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	if req.Backend.Name != "" {
		return u.elsewhere(req, resp)
	}
	svc := u.last.Load()
	if svc == nil || svc.Name != req.Service.Name {
		svc = u.find(req.Service.Name)
	}
	if svc == nil {
		return &proxy.Error{Code: proxy.UnknownService, Unsent: true, Detail: "no service " + req.Service.Name}
	}
	sh := &svc.known.shards[req.Shard.Index()]
	var tried [maxTries]*balance.State
	var last error
	for n := range maxTries {
		p := sh.pick(svc, req, tried[:n])
		if p == nil {
			break
		}
		tried[n] = p.st
		req.Endpoint = p.st.Endpoint
		if req.Chosen != nil {
			req.Chosen.Store(p.st.Endpoint)
		}
		switch {
		case !req.Endpoint.Mesh:
			last = u.direct.RoundTrip(req, resp)
		case n == 0 && p.others && req.Again == nil && u.pool(req).Silent(req.Endpoint):
			last = errSilent // the second choice is given time to answer
		default:
			last = u.pool(req).RoundTrip(req.Endpoint, req, resp)
		}
		if last == nil {
			if svc.StreamAge != 0 {
				p.turning = sh.turn(svc, req, resp)
			}
			sh.answered(p, resp)
			return nil
		}
		sh.failed(svc, p, req, last)
		if !neverConnected(last) || req.Again != nil || req.Cancel.Err() != nil {
			return last
		}
	}
	if last == nil && req.Again != nil {
		last = &proxy.Error{Code: proxy.PeerReset,
			Detail: "the request may have run at " + req.Again.String() + ", which is no endpoint of " + svc.Name + " any more, so that nobody can tell"}
	}
	if last == nil {
		last = svc.none(req)
	}
	return last
}

// Ask sends req to req.Endpoint, which the caller has chosen, for req.Service, which no configuration need name: a question of the sidecar's own. Nothing is learnt
// from what becomes of it. It is for tasks of req.Shard.
func (u *Upstream) Ask(req *proxy.Request, resp *proxy.Response) error { return u.send(req, resp) }

// none says why there is no Endpoint.
func (svc *service) none(req *proxy.Request) error {
	detail := "discovery knows no endpoint of " + svc.Name + " now; see pillion status"
	if value := svc.subset(req); value != "" && len(svc.Endpoints()) > 0 {
		detail = "no endpoint of " + svc.Name + " has the label " + svc.Balance.Label + "=" + value + " that the field " + svc.Subset + " asks for"
	}
	return &proxy.Error{Code: proxy.NoEndpoints, Unsent: true, Detail: detail}
}

// errSilent is about an Endpoint to which there is a Link that does not answer, while there are others to go to.
var errSilent = &proxy.Error{Code: proxy.ConnectFailed, Unsent: true, Detail: "the sidecar does not answer at present"}

func (u *Upstream) send(req *proxy.Request, resp *proxy.Response) error {
	if !req.Endpoint.Mesh {
		return u.direct.RoundTrip(req, resp)
	}
	return u.pool(req).RoundTrip(req.Endpoint, req, resp)
}

// At sends a request to one Endpoint of req.Service, without a word to the balancer: it is sidecars that talk, not apps.
func (u *Upstream) At(ep *proxy.Endpoint, req *proxy.Request, resp *proxy.Response) error {
	svc := u.service(req.Service.Name)
	if svc == nil || !slices.Contains(svc.Endpoints(), *ep) {
		return &proxy.Error{Code: proxy.NoEndpoints, Unsent: true, Detail: ep.String() + " is no endpoint of " + req.Service.Name + " now"}
	}
	req.Endpoint = ep
	return u.send(req, resp)
}

// pool returns the Links of req's shard, and of its kind.
func (u *Upstream) pool(req *proxy.Request) *pool.Pool {
	pools := u.pools
	free := req.Endpoint.Transport != proxy.TCP && req.Endpoint.Transport != proxy.QUIC
	if req.Upgrade == proxy.ConnectUDP && free && u.flows != nil {
		pools = u.flows
	}
	return pools[req.Shard.Index()]
}
