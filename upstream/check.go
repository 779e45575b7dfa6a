package upstream

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// CheckKind is how an Endpoint is asked whether it is well.
type CheckKind int

// The kinds. All go the way of requests: through the Link to the sidecar, where there is one, to the app.
const (
	NoCheck   CheckKind = iota
	CheckTCP            // a Stream can be opened
	CheckHTTP           // GET of a path is answered with 2xx or 3xx
	CheckGRPC           // grpc.health.v1.Health/Check says SERVING
)

// Check says how and when Endpoints are asked.
type Check struct {
	Kind CheckKind
	// Path is what CheckHTTP asks for. If "", "/".
	Path string
	// Name is the service that CheckGRPC asks about; "" is the whole server.
	Name string
	// Port is the port that the sidecar there is asked for; 0 is its first.
	Port uint16
	// Interval is the time from one check of an Endpoint to the next, give or take a tenth. If zero, 10 s.
	Interval time.Duration
	// Timeout bounds one check. If zero, 2 s.
	Timeout time.Duration
}

// The defaults of a Check.
const (
	checkInterval = 10 * time.Second
	checkTimeout  = 2 * time.Second
)

// firstRound is how soon every Endpoint has been checked for the first time.
const firstRound = time.Second

// schedule is when the Endpoints of a Service are checked: one after the other, evenly.
type schedule struct {
	svc   *service
	next  time.Time
	turn  int
	first int // how many are left of the first round
}

// run checks the Services that want it until ctx ends, on an ordinary goroutine.
func (st *store) run(ctx context.Context) error {
	plans := make(map[string]*schedule)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-st.changed:
		case <-timer.C:
		}
		if wait := st.turn(plans, time.Now()); wait > 0 {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
	}
}

// wake has Run look at the Services again. It does not wait, and is called on ordinary goroutines.
func (st *store) wake() {
	select {
	case st.changed <- struct{}{}:
	default:
	}
}

// services are those with checks.
func (st *store) services() []*service {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.checked
}

// turn starts the checks that are due, and returns the time until the next; 0 if there will be none.
func (st *store) turn(plans map[string]*schedule, now time.Time) (wait time.Duration) {
	services := st.services()
	for _, svc := range services {
		p := plans[svc.Name]
		if p == nil {
			p = &schedule{next: now, first: -1}
			plans[svc.Name] = p
		}
		p.svc = svc
		p.run(st, now)
		if d := max(time.Millisecond, p.next.Sub(now)); wait == 0 || d < wait {
			wait = d
		}
	}
	return wait
}

// run starts what is due of one Service.
func (p *schedule) run(st *store, now time.Time) {
	every := p.svc.Check.Interval
	if every == 0 {
		every = checkInterval
	}
	set := p.svc.Endpoints()
	n := len(set)
	if n == 0 {
		p.next = now.Add(min(every, firstRound))
		return
	}
	if p.first < 0 {
		p.first = n
	}
	if p.next.Before(now.Add(-every)) { // this process slept
		p.next = now
	}
	for range n {
		if p.next.After(now) {
			return
		}
		step := every / time.Duration(n)
		if p.first > 0 {
			p.first--
			step = min(every, firstRound) / time.Duration(n)
		}
		p.next = p.next.Add(step*9/10 + rand.N(step/5+1))
		p.turn++
		st.shards[p.turn%len(st.shards)].Post(p.svc.checker(st.shards[p.turn%len(st.shards)], set, p.turn%n))
	}
}

// checker returns a callback that checks one of set.
func (svc *service) checker(s task.Shard, set []proxy.Endpoint, i int) func() {
	return func() {
		s.Go(func() {
			why := svc.u.ask(s, &set[i], proxy.Service{Name: svc.Name, Port: svc.Check.Port}, &svc.Check)
			present := svc.Endpoints()
			all := svc.known.health.Update(present, s.Now())
			if j := slices.Index(present, set[i]); j >= 0 {
				all[j].Checked(s.Now(), why)
			}
		})
	}
}
