package main

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/limit"
	"github.com/pillion-proxy/pillion/proxy/retry"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/upstream/balance"
	"github.com/pillion-proxy/pillion/upstream/health"
)

// setting is one run: a world and what is done about it.
type setting struct {
	name      string
	endpoints int
	callers   int
	workers   int           // requests that an endpoint serves at a time
	service   time.Duration // mean time that one takes; its distribution is log-normal
	rate      float64       // requests per second, of all callers together
	length    time.Duration
	timeout   time.Duration // of an attempt
	balance   balance.Config
	health    health.Config
	attempts  int     // in all; 1 is no retry
	budget    float64 // share of the requests that may be repeated; negative: no bound
	limit     bool    // endpoints bound what they serve at a time by Gradient2
	seed      uint64
	events    []change
}

// change is something that happens to the world.
type change struct {
	at time.Duration
	do func(w *world)
}

// server is one endpoint.
type server struct {
	busy     int
	queue    []int32 // attempts
	slow     float64 // times the usual service time
	dead     bool    // refuses connections
	fails    float64 // share of requests that fail at once
	gradient *limit.Gradient
}

// caller is one sidecar.
type caller struct {
	health   *health.Service
	balancer *balance.Balancer
	budget   *retry.Budget
}

// call is one request of the app.
type call struct {
	caller int32
	tries  int32 // retries
	born   task.Instant
	dials  int32 // endpoints of the present attempt to which there was no connection
	met    int32 // endpoints that it was at in vain
	avoid  [8]*proxy.Endpoint
}

// attempt is one way of it to an endpoint.
type attempt struct {
	call   int32
	server int32
	over   bool // its caller waits no more
	bad    bool
	began  task.Instant
	served task.Instant // when the server began with it
	state  *balance.State
}

// world is all of it. Time is task.Instant, as the rooms know it.
type world struct {
	setting
	now      task.Instant
	rng      *rand.Rand
	set      []proxy.Endpoint
	servers  []server
	sidecars []caller
	calls    []call
	sent     []attempt
	freeCall []int32
	free     []int32
	agenda   agenda
	result   *result
}

// start is when a run begins: never zero, which means "none".
const start = task.Instant(time.Hour)

// hop is the time on the network, one way.
const hop = 250 * time.Microsecond

func newWorld(s setting) *world {
	w := &world{setting: s, now: start, rng: rand.New(rand.NewPCG(s.seed, 1)), result: newResult(s)}
	w.set = make([]proxy.Endpoint, s.endpoints)
	w.servers = make([]server, s.endpoints)
	for i := range w.set {
		w.set[i].Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 15008)
		w.servers[i].slow = 1
		if s.limit {
			w.servers[i].gradient = limit.NewGradient(1000)
		}
	}
	for i := range s.callers {
		c := caller{health: health.New(s.health), budget: retry.NewBudget(1)}
		conf := s.balance
		conf.Seed = s.seed<<32 + uint64(i) + 1
		c.balancer = balance.New(conf, c.health)
		c.balancer.Update(w.set, w.set, w.now)
		w.sidecars = append(w.sidecars, c)
	}
	return w
}

// index is the place of ep in the set, which is written in its address.
func (w *world) index(ep *proxy.Endpoint) int32 {
	a := ep.Addr.Addr().As4()
	return int32(a[1])<<16 | int32(a[2])<<8 | int32(a[3])
}

// serviceTime draws from a log-normal distribution whose mean is that of the setting.
func (w *world) serviceTime(s *server) time.Duration {
	const sigma = 0.5
	return time.Duration(s.slow * float64(w.service) * math.Exp(sigma*w.rng.NormFloat64()-sigma*sigma/2))
}

// run lets the time pass.
func (w *world) run() *result {
	for _, e := range w.events {
		w.agenda.add(event{at: start.Add(e.at), kind: changes, change: e.do})
	}
	w.next()
	end := start.Add(w.length)
	for len(w.agenda.heap) > 0 {
		e := w.agenda.take()
		if e.at > end {
			break
		}
		w.now = e.at
		w.handle(e)
	}
	w.result.finish()
	return w.result
}

func (w *world) handle(e event) {
	switch e.kind {
	case changes:
		e.change(w)
	case arrives:
		w.arrive()
	case retries:
		w.try(e.of)
	case refused:
		w.refused(e.of)
	case reaches:
		w.reach(e.of)
	case served:
		w.served(e.of)
	case answered:
		w.answered(e.of)
	case expired:
		w.expired(e.of)
	case probes:
		w.probe(e)
	}
}

// next plans the next request: they come at random.
func (w *world) next() {
	w.agenda.add(event{at: w.now.Add(time.Duration(w.rng.ExpFloat64() / w.rate * float64(time.Second))), kind: arrives})
}
