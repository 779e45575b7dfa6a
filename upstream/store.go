package upstream

import (
	"sync"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/upstream/balance"
	"github.com/pillion-proxy/pillion/upstream/health"
)

// store is what is known of Services by name: scores, loads, who is out. It outlives reloads. All methods are safe for concurrent use.
type store struct {
	shards []task.Shard

	mu      sync.Mutex // never held over a wait or a call
	made    uint64
	known   map[string]*known
	checked []*service // of the last Replace, those with checks
	changed chan struct{}
}

// known is what is known of one Service.
type known struct {
	health   *health.Service
	aperture *balance.Aperture
	shards   []shardState // by Shard.Index
}

// shardState is one shard's view of one service. Guarded by the shard's lock.
type shardState struct {
	shard    task.Shard
	balancer *balance.Balancer
	made     uint64 // of the service whose settings balancer has
	picked   task.Instant
	turned   uint64 // Streams that were ended for their age
	building bool   // a task makes tables for balancer
	free     *pending
}

// newStore returns an empty store for the shards.
func newStore(shards []task.Shard) *store {
	return &store{shards: shards, known: make(map[string]*known), changed: make(chan struct{}, 1)}
}

// adopt gives the services of a Replace what is known of them. Who is not among them is forgotten.
func (st *store) adopt(all []*service) {
	st.mu.Lock()
	st.made++
	kept := make(map[string]*known, len(all))
	st.checked = nil
	for _, svc := range all {
		k := st.known[svc.Name]
		if k == nil {
			k = newKnown(svc, st.shards)
		}
		k.health.Configure(svc.Health)
		switch {
		case svc.Aperture == nil:
		case k.aperture == nil:
			k.aperture = svc.Aperture
		default:
			k.aperture.Set(svc.Aperture.Min(), svc.Aperture.Label())
			svc.Aperture = k.aperture // it knows the load
		}
		svc.known, svc.made, kept[svc.Name] = k, st.made, k
		if svc.Check.Kind != NoCheck {
			st.checked = append(st.checked, svc)
		}
	}
	st.known = kept
	st.mu.Unlock()
}

func newKnown(svc *service, shards []task.Shard) *known {
	k := &known{health: health.New(svc.Health), shards: make([]shardState, len(shards))}
	for i, shard := range shards {
		k.shards[i].shard = shard
		k.shards[i].balancer = balance.New(svc.Balance, k.health)
	}
	return k
}

// pick chooses an Endpoint that is not in tried, and none that the request says it was sent to in vain while there is another.
func (sh *shardState) pick(svc *service, req *proxy.Request, tried []*balance.State) *pending {
	sh.shard.Lock()
	defer sh.shard.Unlock()
	now := sh.shard.Now()
	if now != sh.picked || sh.made != svc.made { // what changes is seen with the next turn
		sh.update(svc, now)
		sh.picked = now
	}
	stream := req.IsConnect() || req.Upgrade != ""
	var st *balance.State
	if len(tried) == 0 && len(req.Tried) == 0 && req.Again == nil && svc.Subset == "" {
		st = sh.balancer.Sole(stream)
	}
	if st == nil {
		how := balance.Pick{Now: now, Tried: tried, Avoid: req.Tried, Only: req.Again, Stream: stream, Subset: svc.subset(req)}
		how.Key, how.Keyed = svc.Key.Of(req)
		st = sh.balancer.Pick(&how)
	}
	if st == nil {
		return nil
	}
	if st.Health.Out() > now && req.Record != nil {
		noteOut(req, st, now)
	}
	if a := svc.Aperture; a != nil && a.Began(sh.shard.Index(), now) {
		a.Look(sh.shard.Index(), now, sh.balancer.Out(now))
	}
	p := sh.free
	if p == nil {
		p = &pending{sh: sh}
	} else {
		sh.free, p.next = p.next, nil
	}
	p.st, p.aperture, p.began, p.stream = st, svc.Aperture, now, stream
	p.others = sh.balancer.Len() > 1
	return p
}

// noteOut records that a request goes to an Endpoint of which nothing good is known.
func noteOut(req *proxy.Request, st *balance.State, now task.Instant) {
	before := req.Endpoint
	req.Endpoint = st.Endpoint
	if st.Health.Reachable(now) {
		req.Note("balance", "most endpoints are ejected or fail their checks: any that can be reached is used", 0)
	} else {
		req.Note("balance", "no endpoint can be reached, as far as is known: this one is tried all the same", 0)
	}
	req.Endpoint = before
}

// update has the Balancer know the present set and settings. The lock is held.
func (sh *shardState) update(svc *service, now task.Instant) {
	set := svc.Endpoints()
	used := set
	if svc.Aperture != nil {
		used = svc.Aperture.Of(set)
	}
	changed := sh.balancer.Update(used, set, now)
	if sh.made < svc.made {
		if sh.made != 0 {
			sh.balancer.Configure(svc.Balance)
		}
		sh.made, changed = svc.made, true
	}
	if !changed || sh.building {
		return
	}
	if build := sh.balancer.Prepare(); build != nil {
		sh.building = true
		sh.shard.Go(func() { sh.build(build) })
	}
}

// build is the task that makes the tables of many Endpoints, until there is nothing left to be made.
func (sh *shardState) build(next func() *balance.Tables) {
	for next != nil {
		var made *balance.Tables
		sh.shard.Offload(func() { made = next() })
		sh.shard.Lock()
		sh.balancer.Install(made)
		next = sh.balancer.Prepare()
		sh.building = next != nil
		sh.shard.Unlock()
	}
}
