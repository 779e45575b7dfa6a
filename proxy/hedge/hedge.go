package hedge

import (
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Settings are those of one service, or of one of its routes.
type Settings struct {
	// Percentile of the service's latencies after which a second Endpoint is asked, from 0 to 1. If zero, none is.
	Percentile float64
	// Least is the shortest time after which one is.
	Least time.Duration
	// Budget is the share of requests that may be asked twice.
	Budget float64
}

// State is what is known of one service. It outlives the Settings.
type State struct {
	shards       []shardState
	hedges, wins atomic.Uint64
	overBudget   atomic.Uint64
}

// shardState is guarded by the shard's lock.
type shardState struct {
	latency latency
	tokens  float64
}

// maxTokens is how many requests may be asked twice in a row.
const maxTokens = 10

// NewState returns the State of a service for all of a process's shards.
func NewState(shards int) *State { return &State{shards: make([]shardState, shards)} }

// Stats counts how many second attempts there were, how many of them answered first, and how many there were not for want of budget.
type Stats struct{ Hedges, Wins, OverBudget uint64 }

// Stats returns the counts.
func (st *State) Stats() Stats { return Stats{st.hedges.Load(), st.wins.Load(), st.overBudget.Load()} }

// After returns after how long shard asks a second Endpoint; 0 while too little is known. It is for tasks and callbacks of the shard.
func (st *State) After(s task.Shard) time.Duration {
	s.Lock()
	defer s.Unlock()
	return st.shards[s.Index()].latency.known
}

// Layer returns the layer for rules: [0] for requests of no route, [n] for those of the n-th.
func (st *State) Layer(rules []Settings) proxy.Layer {
	return func(next proxy.RoundTripper) proxy.RoundTripper {
		return proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			set := proxy.SettingsOf(req, rules)
			if set.Percentile == 0 || !mayHedge(req) {
				return next.RoundTrip(req, resp)
			}
			return st.race(next, req, resp, set)
		})
	}
}

func mayHedge(req *proxy.Request) bool {
	if req.Body != nil || req.Upgrade != "" {
		return false
	}
	switch req.Method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// race carries out a request in one attempt or two.
func (st *State) race(next proxy.RoundTripper, req *proxy.Request, resp *proxy.Response, set *Settings) error {
	s := req.Shard
	sh := &st.shards[s.Index()]
	s.Lock()
	after := sh.latency.known
	sh.tokens = min(maxTokens, sh.tokens+set.Budget)
	s.Unlock()
	began := s.Now()
	if after == 0 {
		err := next.RoundTrip(req, resp)
		st.learn(sh, req, began, err, set)
		return err
	}
	r := &race{st: st, sh: sh, s: s, next: next, client: req.Cancel}
	s.Gate(&r.gate)
	before, gone := req.Cancel.Watch(r)
	if gone != nil {
		return &proxy.Error{Code: proxy.ClientGone, Detail: "the client left before the request was sent", Unsent: true, Err: gone}
	}
	s.Lock()
	r.before, r.waits = before, true
	s.Unlock()
	r.request = *req
	r.request.Fields = slices.Clone(req.Fields) // those of req change while it is sent
	chosen := req.Chosen
	req.Cancel, req.Chosen = &r.cancels[0], &r.chosen
	timer := s.After(max(after, set.Least), r.second)
	err := next.RoundTrip(req, resp)
	timer.Stop()
	req.Cancel, req.Chosen = r.client, chosen
	err = r.settle(req, resp, err)
	st.learn(sh, req, began, err, set)
	return err
}

// learn takes the latency of an answer.
func (st *State) learn(sh *shardState, req *proxy.Request, began task.Instant, err error, set *Settings) {
	if err != nil {
		return
	}
	req.Shard.Lock()
	sh.latency.add(req.Shard.Now().Sub(began), set.Percentile)
	req.Shard.Unlock()
}

// race is one request that may be asked twice.
type race struct {
	st      *State
	sh      *shardState
	s       task.Shard
	next    proxy.RoundTripper
	client  *proxy.Cancel
	cancels [2]proxy.Cancel
	gate    task.Gate // the first attempt's task waits there for the second
	inner   proxy.ResponseCloser
	chosen  atomic.Pointer[proxy.Endpoint] // by the first attempt

	// Guarded by the shard's lock; request and answer are the second attempt's task's while state is running.
	before  proxy.Canceled // who was registered with client
	waits   bool           // the first attempt has not ended
	broke   bool           // there was no budget for a second attempt
	state   raceState
	request proxy.Request // of the second attempt
	answer  proxy.Response
	err     error
}

// raceState says what became of the second attempt.
//
//	none --> running --> won | ended
//	none, running --> over: nobody wants it any more
type raceState uint8

const (
	none raceState = iota
	running
	won
	ended
	over
)

// Canceled implements proxy.Canceled: the client has left.
func (r *race) Canceled(err error) {
	r.cancels[0].Cancel(err)
	r.cancels[1].Cancel(err)
	r.s.Lock()
	before := r.before
	r.s.Unlock()
	if before != nil {
		before.Canceled(err)
	}
}

// again is when a second attempt is thought of again.
const again = 4 * time.Millisecond

// second begins the second attempt, if there is budget. It is a callback.
func (r *race) second() {
	r.s.Lock()
	defer r.s.Unlock()
	first := r.chosen.Load()
	if !r.waits || r.state != none {
		return
	}
	if first == nil { // it has not come so far
		r.s.After(again, r.second)
		return
	}
	if r.sh.tokens < 1 {
		r.broke = true
		r.st.overBudget.Add(1)
		return
	}
	r.sh.tokens--
	r.st.hedges.Add(1)
	r.state = running
	keep(&r.request)
	r.request.Cancel, r.request.Tried = &r.cancels[1], []*proxy.Endpoint{first}
	r.s.Go(r.run)
}

// keep copies what c points to in a request that may be over before c is.
func keep(c *proxy.Request) {
	for _, s := range []*string{&c.Method, &c.Scheme, &c.Authority, &c.Path, &c.ID} {
		*s = strings.Clone(*s)
	}
	for i, f := range c.Fields {
		c.Fields[i] = proxy.Field{Name: strings.Clone(f.Name), Value: strings.Clone(f.Value)}
	}
	c.Record, c.Inform, c.Endpoint, c.Chosen = nil, nil, nil, nil
}

// run is the second attempt's task.
func (r *race) run() {
	returned := false
	defer func() {
		if !returned { // a panic below: the first attempt does not wait for ever
			r.finish(&proxy.Error{Code: proxy.Internal, Detail: "the second attempt broke down"})
		}
	}()
	err := r.next.RoundTrip(&r.request, &r.answer)
	returned = true
	r.finish(err)
}

// finish says how the second attempt ended.
func (r *race) finish(err error) {
	good := err == nil && r.answer.Status < 500
	r.s.Lock()
	unwanted := r.state == over
	if !unwanted {
		r.err, r.state = err, ended
		if good {
			r.state = won
		}
	}
	r.s.Unlock()
	switch {
	case unwanted && err == nil:
		r.answer.Close()
	case unwanted:
	case good:
		r.cancels[0].Cancel(errLost)
		r.gate.Wake()
	default:
		r.gate.Wake()
	}
}

// errLost is why an attempt is cancelled.
var errLost = &proxy.Error{Code: proxy.ClientGone, Detail: "another attempt answered first"}

// settle takes what the first attempt brought, or waits for the second if that is no good.
func (r *race) settle(req *proxy.Request, resp *proxy.Response, err error) error {
	good := err == nil && resp.Status < 500
	r.s.Lock()
	r.waits = false
	for r.state == running && !good && r.client.Err() == nil {
		r.s.Unlock()
		r.gate.Wait(0)
		r.s.Lock()
	}
	state, broke := r.state, r.broke
	if state == none || state == running {
		r.state = over
	}
	r.s.Unlock()
	switch {
	case broke:
		req.Note("hedge", "no second endpoint was asked: the budget is used up", 0)
	case state == running || state == won && good:
		req.Note("hedge", "a second endpoint was asked as well, and was slower", 0)
	case state == ended:
		req.Note("hedge", "a second endpoint was asked as well, and failed", 0)
	}
	switch {
	case state == running:
		r.cancels[1].Cancel(errLost)
	case state == won && !good:
		if err == nil {
			resp.Close()
		}
		r.st.wins.Add(1)
		req.Endpoint = r.request.Endpoint
		req.Note("hedge", "the second endpoint answered first", 0)
		fields := resp.Fields
		*resp, err = r.answer, nil
		r.answer = proxy.Response{Fields: fields[:0]}
	case state == won, state == ended && r.err == nil:
		r.answer.Close()
	}
	if err != nil {
		r.release()
		return err
	}
	r.inner = resp.Closer()
	resp.OnClose(r)
	return nil
}

// release puts back who was registered with the client's Cancel.
func (r *race) release() {
	if r.before != nil {
		_, _ = r.client.Watch(r.before)
	} else {
		r.client.Unwatch(r)
	}
}

// CloseResponse implements proxy.ResponseCloser.
func (r *race) CloseResponse(resp *proxy.Response) {
	r.release()
	if r.inner != nil {
		r.inner.CloseResponse(resp)
	}
}
