// Package upstream is the front door to everything that can be called: RoundTrip carries out an Exchange, or opens a Stream, for the Service
// that routing has set. It picks an Endpoint (upstream/balance), takes a Link to the sidecar there (upstream/pool) or a plain
// connection where there is none (upstream/direct), and goes to the next Endpoint when no connection can be made: such a request provably never ran.
package upstream

import (
	"errors"
	"sync/atomic"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/upstream/balance"
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
}

// maxTries bounds the Endpoints that one request goes to because no connection can be made.
const maxTries = 3

// Upstream carries out Exchanges. Make it with New.
type Upstream struct {
	services atomic.Pointer[map[string]*service]
	shards   []task.Shard
	pools    []*pool.Pool
	flows    []*pool.Pool
	direct   proxy.RoundTripper
}

type service struct {
	Service
	shards []shardState // by Shard.Index
}

// shardState is one shard's view of one service. Guarded by the shard's lock.
type shardState struct {
	shard    task.Shard
	aperture *balance.Aperture // may be nil
	balancer balance.Balancer
	free     *pending
}

// New returns an Upstream for all shards.
func New(cfg Config) *Upstream {
	u := &Upstream{shards: cfg.Shards, pools: cfg.Pools, flows: cfg.FlowPools, direct: cfg.Direct}
	u.Replace(cfg.Services)
	return u
}

// Replace puts other services in the place of those that there are. One with the same name keeps its Aperture and what has been learnt of its
// Endpoints; requests that run go on. It is called by one goroutine at a time.
func (u *Upstream) Replace(services []Service) {
	next := make(map[string]*service, len(services))
	for _, s := range services {
		svc := &service{Service: s}
		if before := u.service(s.Name); before != nil {
			svc.shards = before.shards
		} else {
			svc.shards = make([]shardState, len(u.shards))
			for i, shard := range u.shards {
				svc.shards[i].shard, svc.shards[i].aperture = shard, s.Aperture
			}
		}
		next[s.Name] = svc
	}
	u.services.Store(&next)
}

// service returns nil if there is none of this name.
func (u *Upstream) service(name string) *service {
	if all := u.services.Load(); all != nil {
		return (*all)[name]
	}
	return nil
}

// RoundTrip implements proxy.RoundTripper for req.Service, or for req.Backend in its place.
func (u *Upstream) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	if called := req.Service; req.Backend.Name != "" {
		req.Service = req.Backend // what the peer is asked for
		defer func() { req.Service = called }()
	}
	svc := u.service(req.Service.Name)
	if svc == nil {
		return &proxy.Error{Code: proxy.UnknownService, Unsent: true, Detail: "no service " + req.Service.Name}
	}
	sh := &svc.shards[req.Shard.Index()]
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
		if n == 0 && req.Again == nil && u.silent(sh, req) {
			last = errSilent // the second choice is given time to answer
		} else {
			last = u.send(req, resp)
		}
		if last == nil {
			sh.answered(p)
			p.inner = resp.Closer()
			resp.OnClose(p)
			return nil
		}
		sh.failed(p, last)
		if !neverConnected(last) || req.Again != nil || req.Cancel.Err() != nil {
			return last
		}
	}
	if last == nil && req.Again != nil {
		return &proxy.Error{Code: proxy.PeerReset,
			Detail: "the request may have run at " + req.Again.String() + ", which is no endpoint of " + svc.Name + " any more, so that nobody can tell"}
	}
	if last == nil {
		last = &proxy.Error{Code: proxy.NoEndpoints, Unsent: true,
			Detail: "discovery knows no endpoint of " + svc.Name + " now; see pillion status"}
	}
	return last
}

// errSilent is about an Endpoint to which there is a Link that does not answer, while there are others to go to.
var errSilent = &proxy.Error{Code: proxy.ConnectFailed, Unsent: true, Detail: "the sidecar does not answer at present"}

// silent reports whether req had better go to another Endpoint at once.
func (u *Upstream) silent(sh *shardState, req *proxy.Request) bool {
	return req.Endpoint.Mesh && !sh.alone() && u.pool(req).Silent(req.Endpoint)
}

func (sh *shardState) alone() bool {
	sh.shard.Lock()
	defer sh.shard.Unlock()
	return sh.balancer.Len() < 2
}

func (u *Upstream) send(req *proxy.Request, resp *proxy.Response) error {
	if !req.Endpoint.Mesh {
		return u.direct.RoundTrip(req, resp)
	}
	return u.pool(req).RoundTrip(req.Endpoint, req, resp)
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

// neverConnected reports whether err came before a byte of the request, or of its body, was read.
func neverConnected(err error) bool {
	var e *proxy.Error
	if !errors.As(err, &e) || !e.Unsent {
		return false
	}
	switch e.Code {
	case proxy.ConnectFailed, proxy.BadIdentity, proxy.AppUnreachable:
		return true
	}
	return false
}

// pick chooses an Endpoint that is not in tried, and none that the request says it was sent to in vain while there is another.
func (sh *shardState) pick(svc *service, req *proxy.Request, tried []*balance.State) *pending {
	sh.shard.Lock()
	defer sh.shard.Unlock()
	sh.update(svc)
	now := sh.shard.Now()
	var st *balance.State
	if req.Again != nil {
		st = sh.balancer.Again(req.Again)
	} else if len(req.Tried) > 0 {
		var avoid [4 + maxTries]*balance.State
		st = sh.balancer.Pick(now, sh.balancer.Tried(append(avoid[:0], tried...), req.Tried))
	}
	if st == nil && req.Again == nil {
		st = sh.balancer.Pick(now, tried)
	}
	if st == nil {
		return nil
	}
	if sh.aperture != nil && sh.aperture.Began(sh.shard.Index(), now) {
		sh.aperture.Look(sh.shard.Index(), now, sh.balancer.Paused(now))
	}
	p := sh.free
	if p == nil {
		p = &pending{sh: sh}
	} else {
		sh.free, p.next = p.next, nil
	}
	p.st = st
	return p
}

// update gives the balancer what is to be used now.
func (sh *shardState) update(svc *service) {
	set := svc.Endpoints()
	if sh.aperture != nil {
		set = sh.aperture.Of(set)
	}
	sh.balancer.Update(set)
}

func (sh *shardState) answered(p *pending) {
	sh.shard.Lock()
	p.st.Answered()
	sh.shard.Unlock()
}

func (sh *shardState) failed(p *pending, err error) {
	why := ""
	if neverConnected(err) {
		why = err.Error()
	}
	sh.shard.Lock()
	if why != "" {
		p.st.Failed(sh.shard.Now(), why)
	}
	sh.doneLocked(p)
	sh.shard.Unlock()
}

func (sh *shardState) doneLocked(p *pending) {
	p.st.Done()
	if sh.aperture != nil {
		sh.aperture.Ended(sh.shard.Index())
	}
	p.st, p.inner = nil, nil
	p.next, sh.free = sh.free, p
}

// pending is one request in flight; it counts itself out when the Response is closed.
type pending struct {
	sh    *shardState
	st    *balance.State
	inner proxy.ResponseCloser
	next  *pending // when free
}

// CloseResponse implements proxy.ResponseCloser.
func (p *pending) CloseResponse(r *proxy.Response) {
	if p.inner != nil {
		p.inner.CloseResponse(r)
	}
	p.sh.shard.Lock()
	p.sh.doneLocked(p)
	p.sh.shard.Unlock()
}

// Health is what one shard knows of an Endpoint, for status.
type Health struct {
	Endpoint proxy.Endpoint
	Paused   bool   // the last connection failed a moment ago
	Answered bool   // the last request was answered
	Why      string // there was no connection for the last request; "" if there was
	Pending  int
}

// Healthy reports whether nothing speaks against the Endpoint.
func (h Health) Healthy() bool { return h.Why == "" || h.Answered && !h.Paused }

// Merge adds another shard's view of the same Endpoint. What a shard knows may be old: a failure that is not of
// this moment counts for less than an answer that another shard got.
func (h *Health) Merge(o Health) {
	h.Pending += o.Pending
	h.Paused = h.Paused || o.Paused
	h.Answered = h.Answered || o.Answered
	if h.Why == "" || o.Paused {
		h.Why = o.Why
	}
}

// Health returns the view of the Service's Endpoints that are in use on shard s. It is for tasks and callbacks of s.
func (u *Upstream) Health(s task.Shard, name string) []Health {
	svc := u.service(name)
	if svc == nil {
		return nil
	}
	sh := &svc.shards[s.Index()]
	s.Lock()
	defer s.Unlock()
	sh.update(svc)
	var all []Health
	now := s.Now()
	sh.balancer.Each(func(st *balance.State) {
		h := Health{Endpoint: *st.Endpoint, Paused: !st.Healthy(now), Pending: st.Pending()}
		h.Answered, h.Why = st.Outcome()
		all = append(all, h)
	})
	return all
}
