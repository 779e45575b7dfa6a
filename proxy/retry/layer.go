package retry

import (
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Names of fields.
const (
	// AttemptField counts the attempts of a request: 2 is the first repeated one. The first has none.
	AttemptField = "Pillion-Attempt"
	// OutgrownField is on a failed answer to a request that would have been repeated, had its body not outgrown Settings.Body.
	OutgrownField = "Pillion-Retry"
)

// Settings are those of one service, or of one of its routes.
type Settings struct {
	// Attempts is how often a request is tried in all. 0 and 1 are once.
	Attempts int
	// Budget is the share of the service's requests that retries may add, Floor how many per second there may be besides.
	Budget, Floor float64
	// Body is how many bytes of a request's body are kept for another attempt.
	Body int
	// PerTry bounds each attempt, until the head of the answer. If zero, only the request's own deadline does.
	PerTry time.Duration
	// Backoff is the mean pause before the second attempt, doubled with each further one up to MaxBackoff, and random between nothing and twice that.
	// The longest Retry-After that is waited for is MaxBackoff too, or a second if that is more.
	Backoff, MaxBackoff time.Duration
	// Unavailable allows to repeat gRPC calls whose answer is UNAVAILABLE and nothing else.
	Unavailable bool
	// Unsafe allows to repeat what may have run, whatever the method, and what ran and failed where there is no sidecar.
	Unsafe bool
}

// Config has the settings of each service: Services[name][0] are the service's own, [n] those of its n-th route (see proxy.Request.Rule).
type Config struct {
	Services map[string][]Settings
}

// State is what outlives a change of the Config: budgets and counters. Make it with NewState.
type State struct {
	shards []shardState
	log    *slog.Logger

	services atomic.Pointer[map[string]*service]
}

// shardState is guarded by the shard's lock.
type shardState struct {
	held int // bytes of bodies that are kept
	_    [56]byte
}

// maxHeld bounds the bytes of bodies that one shard keeps.
const maxHeld = 32 << 20

// service is what is kept of one service.
type service struct {
	budget *Budget
	own    atomic.Pointer[Settings] // of requests to which no route applies, in force now
	counts counters
}

type counters struct {
	retries, recovered, exhausted, overBudget, outgrown atomic.Uint64
	logged                                              atomic.Int64 // when the last line was written about a body
}

// Stats counts what became of a service's requests.
type Stats struct {
	// Retries is how many attempts were made beyond the first ones; Recovered how many requests succeeded by one.
	Retries, Recovered uint64
	// Exhausted is how many requests failed with all their attempts, OverBudget how many were not repeated for want of budget, Outgrown how
	// many because their body was too large to be kept.
	Exhausted, OverBudget, Outgrown uint64
	// Budget is how many retries there may be now within ten seconds, by the service's own settings, and Spent how many of them there were.
	Budget float64
	Spent  int
}

// NewState returns the State for all of a process's shards.
func NewState(shards int, log *slog.Logger) *State {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	st := &State{shards: make([]shardState, shards), log: log}
	st.services.Store(&map[string]*service{})
	return st
}

// Stats returns the counters of each service that has, or had, retries.
func (st *State) Stats() map[string]Stats {
	all := make(map[string]Stats)
	for name, s := range *st.services.Load() {
		c := &s.counts
		one := Stats{Retries: c.retries.Load(), Recovered: c.recovered.Load(), Exhausted: c.exhausted.Load(),
			OverBudget: c.overBudget.Load(), Outgrown: c.outgrown.Load()}
		if set := s.own.Load(); set != nil {
			one.Budget, one.Spent = s.budget.Level(task.Now(), set.Budget, set.Floor)
		}
		all[name] = one
	}
	return all
}

// find returns the kept state of each service of cfg, new where there is none. Layers are made one at a time.
func (st *State) find(cfg Config) map[string]*service {
	known := *st.services.Load()
	all := make(map[string]*service, len(known)+len(cfg.Services))
	for name, s := range known {
		all[name] = s
	}
	for name := range cfg.Services {
		if all[name] == nil {
			all[name] = &service{budget: NewBudget(len(st.shards))}
		}
	}
	st.services.Store(&all)
	return all
}

// policy is what applies to one service.
type policy struct {
	*service
	st    *State
	name  string
	rules []Settings
}

// Layers returns the layer of each service of cfg.
func (st *State) Layers(cfg Config) map[string]proxy.Layer {
	kept := st.find(cfg)
	layers := make(map[string]proxy.Layer, len(cfg.Services))
	for name, rules := range cfg.Services {
		p := policy{service: kept[name], st: st, name: name, rules: rules}
		if len(rules) > 0 {
			p.own.Store(&rules[0])
		}
		layers[name] = func(next proxy.RoundTripper) proxy.RoundTripper {
			return &layer{next: next, deposits: p.budget.shards, simple: simple(rules), policy: p}
		}
	}
	return layers
}

type layer struct {
	// What most requests need stands together.

	next     proxy.RoundTripper
	deposits []ring // of the budget, by Shard.Index
	simple   bool   // see there

	policy
}

// simple reports whether the first attempt of a request without a body needs no preparation, by whichever of rules.
func simple(rules []Settings) bool {
	return len(rules) == 1 && rules[0].Attempts > 1 && rules[0].PerTry == 0 && !rules[0].Unsafe
}

// RoundTrip implements proxy.RoundTripper.
func (l *layer) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	if !l.simple || req.Body != nil {
		return l.byRule(req, resp)
	}
	l.deposits[req.Shard.Index()].add(second(req.Shard.Now()))
	if err := l.next.RoundTrip(req, resp); err != nil || !fine(resp) {
		return l.again(req, resp, &l.rules[0], err)
	}
	return nil
}

// byRule is RoundTrip for whatever applies.
func (l *layer) byRule(req *proxy.Request, resp *proxy.Response) error {
	set := proxy.SettingsOf(req, l.rules)
	if set.Attempts < 2 {
		return l.next.RoundTrip(req, resp)
	}
	l.budget.Deposit(req.Shard.Index(), req.Shard.Now())
	if req.Body != nil || set.PerTry != 0 || set.Unsafe {
		return l.carefully(l.next, req, resp, set)
	}
	if err := l.next.RoundTrip(req, resp); err != nil || !fine(resp) {
		return l.again(req, resp, set, err)
	}
	return nil
}

// again decides about what a first attempt without preparation brought.
func (l *layer) again(req *proxy.Request, resp *proxy.Response, set *Settings, err error) error {
	c := call{policy: &l.policy, set: set, next: l.next, fields: len(req.Fields), overall: req.Deadline}
	return c.goOn(req, resp, err)
}

// fine reports whether an answer is none to be tried again, at a glance.
func fine(resp *proxy.Response) bool {
	return resp.Status < 500 && (resp.Status != 200 || resp.Body != nil || resp.Length != 0 && resp.Length != proxy.Unknown || !unavailable(resp))
}

// carefully is the way of requests whose first attempt needs preparation.
func (p *policy) carefully(next proxy.RoundTripper, req *proxy.Request, resp *proxy.Response, set *Settings) error {
	c := call{policy: p, set: set, next: next, fields: len(req.Fields), overall: req.Deadline}
	if set.Unsafe && !idempotent(req) {
		req.AttemptID = newID()
		req.AttemptAge, req.AllBy = 0, req.Deadline
		c.began = req.Shard.Now()
		defer func() { req.AttemptID = "" }()
	}
	if req.Body != nil {
		src := req.Body
		c.kept = newReplay(req, &p.st.shards[req.Shard.Index()], set.Body)
		defer func() { req.Body = src }()
	}
	err := c.try(req, resp)
	if err != nil || !fine(resp) {
		err = c.goOn(req, resp, err)
	}
	req.Deadline = c.overall
	c.kept.settle(resp, err)
	return err
}

// call is one request with its attempts.
type call struct {
	*policy
	set     *Settings
	next    proxy.RoundTripper
	kept    *replay // nil: no body
	fields  int     // of the request, without ours
	overall task.Instant
	began   task.Instant
}

// try makes one attempt.
func (c *call) try(req *proxy.Request, resp *proxy.Response) error {
	if c.kept != nil {
		req.Body = c.kept.view()
	}
	req.Deadline = c.overall
	bounded := false
	if c.set.PerTry != 0 {
		if by := req.Shard.Now().Add(c.set.PerTry); c.overall == 0 || by < c.overall {
			req.Deadline, bounded = by, true
		}
	}
	err := c.next.RoundTrip(req, resp)
	if e, ok := err.(*proxy.Error); ok && bounded && e.Code == proxy.Timeout && req.Shard.Now() >= req.Deadline {
		return &proxy.Error{Code: proxy.Timeout, Unsent: e.Unsent, Detail: "no answer from " + c.name + " within the " + c.set.PerTry.String() + " that one attempt may take"}
	}
	return err
}

// goOn decides about what the first attempt brought, and makes the others.
func (c *call) goOn(req *proxy.Request, resp *proxy.Response, err error) error {
	for n := 1; ; n++ {
		why := c.judge(req, resp, err)
		if why == no {
			if n > 1 && err == nil && fine(resp) {
				c.counts.recovered.Add(1)
			}
			break
		}
		pause, stop := c.mayRepeat(req, resp, why, n)
		if stop != "" {
			req.Note("retry", stop, int64(n))
			err = c.tell(req, resp, err, stop)
			break
		}
		c.counts.retries.Add(1)
		c.prepare(req, why, n)
		if err == nil {
			resp.Close()
		}
		if pause > 0 {
			req.Shard.Sleep(pause)
		}
		if gone := req.Cancel.Err(); gone != nil {
			err = &proxy.Error{Code: proxy.ClientGone, Detail: "the client left between two attempts", Err: gone}
			break
		}
		if c.began != 0 {
			req.AttemptAge = req.Shard.Now().Sub(c.began)
		}
		err = c.try(req, resp)
	}
	req.Fields = req.Fields[:c.fields]
	req.Tried, req.Again, req.Attempt, req.Deadline = nil, nil, 0, c.overall
	return err
}

// Why an attempt ends: constants, for Request.Note.
const (
	allAttempts = "no further attempt: that was the last one"
	noBudget    = "no further attempt: the retry budget is used up"
	tooLarge    = "no further attempt: the body outgrew what is kept"
	noTime      = "no further attempt: no time is left"
	later       = "no further attempt: Retry-After says much later"
)

// mayRepeat says how long to wait before the next attempt, or why there is none.
func (c *call) mayRepeat(req *proxy.Request, resp *proxy.Response, why reason, n int) (pause time.Duration, stop string) {
	if n >= c.set.Attempts {
		c.counts.exhausted.Add(1)
		return 0, allAttempts
	}
	if c.kept != nil && !c.kept.whole() {
		c.counts.outgrown.Add(1)
		return 0, tooLarge
	}
	pause = c.pause(why, n)
	if after, ok := retryAfter(resp); ok && !resp.Unsent {
		if after > max(c.set.MaxBackoff, time.Second) {
			return 0, later
		}
		pause = max(pause, after)
	}
	now := req.Shard.Now()
	if c.overall != 0 && now.Add(pause) >= c.overall {
		return 0, noTime
	}
	if !c.budget.Withdraw(now, c.set.Budget, c.set.Floor) {
		c.counts.overBudget.Add(1)
		return 0, noBudget
	}
	return pause, ""
}

// prepare makes req the next attempt.
func (c *call) prepare(req *proxy.Request, why reason, n int) {
	req.Note("retry", "another attempt", int64(n+1))
	req.Attempt = n
	req.Fields = append(req.Fields[:c.fields], proxy.Field{Name: AttemptField, Value: number(n + 1)})
	if req.Endpoint == nil {
		return
	}
	if why == allowed && req.AttemptID != "" && req.Endpoint.Mesh {
		req.Again = req.Endpoint // whose sidecar knows the id
	}
	if why != harmless && req.Again != nil { // also where a later attempt did not come so far
		return
	}
	if req.AttemptID != "" {
		req.AttemptID, c.began = newID(), req.Shard.Now() // another run
	}
	req.Again = nil
	req.Tried = append(req.Tried, req.Endpoint)
}

// number writes the small numbers of attempts without allocating.
func number(n int) string {
	const digits = "0123456789"
	if n < len(digits) {
		return digits[n : n+1]
	}
	return strconv.Itoa(n)
}

// tell makes visible why there was no further attempt, where that is the caller's to change.
func (c *call) tell(req *proxy.Request, resp *proxy.Response, err error, stop string) error {
	if stop != tooLarge {
		return err
	}
	const value = "not repeated; body outgrew retry.body"
	now := int64(req.Shard.Now())
	if last := c.counts.logged.Load(); (last == 0 || now-last > int64(time.Minute)) && c.counts.logged.CompareAndSwap(last, now) {
		c.st.log.Warn("a request failed and was not repeated: its body outgrew retry.body", "service", c.name, "retry.body", c.set.Body,
			"so far", c.counts.outgrown.Load())
	}
	if err == nil {
		resp.Fields.Add(OutgrownField, value)
		return nil
	}
	e, ok := err.(*proxy.Error)
	if !ok {
		return err
	}
	told := *e
	told.Fields = append(told.Fields[:len(told.Fields):len(told.Fields)], proxy.Field{Name: OutgrownField, Value: value})
	return &told
}
