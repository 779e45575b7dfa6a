package httpcache

import (
	"strings"
	"sync"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/httpcache/rules"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// phase is what has become of a flight:
//
//	flying ──▶ landed   an entry is there, its content complete or filling
//	       ├─▶ handed   the answer is not for all: the one whose request it answers has it
//	       └─▶ failed   there is none
type phase uint8

const (
	flying phase = iota
	landed
	handed
	failed
)

// flight is one request to the origin on behalf of all who want the same.
type flight struct {
	// Static after construction.
	c          *Cache
	layer      *layer
	at         *site
	set        *Settings
	key        string
	selectors  []rules.Selector // what is known to choose between variants: those who join must have the same
	q          rules.Request    // of the leader; its strings are the flight's
	why        forward          // it is needed, if there is a stale entry: it is stale, or the leader does not want it as it is
	stale      *entry           // what is being validated, or may be used should the origin fail
	others     []*entry         // variants that a 304 may be about
	alone      bool             // nobody joins it
	unary      *unary           // it is a call of a gRPC method; else nil
	unattended bool             // nobody waits for it, and it goes on all the same
	who        proxy.Identity
	own        bool       // only callers of the same identity join it
	shard      task.Shard // of the leader, on which it runs

	// Owned by its task; by the leader once handed.
	req    proxy.Request
	resp   proxy.Response
	cancel proxy.Cancel

	mu       sync.Mutex // never held over a wait
	phase    phase
	entry    *entry
	fwd      forward // how it is told
	instead  bool    // entry stands in for an error
	err      error
	leader   *passenger // nil once it has left
	waiting  []*passenger
	informs  []inform
	aborted  bool    // nobody joins it any more
	settling *waiter // the flight itself waits for those who have not taken what it brought
}

// inform is an interim answer.
type inform struct {
	status int
	fields proxy.Fields
}

// passenger is a request that waits for a flight.
type passenger struct {
	*waiter
	f    *flight
	seen int  // informs that it has passed on
	gone bool // guarded by the flight's lock: its client has left
}

// Canceled implements proxy.Canceled: the client has left.
func (p *passenger) Canceled(error) {
	p.f.mu.Lock()
	p.gone = true
	p.f.mu.Unlock()
	p.wake(nil)
}

// flightSet is a part of the flights under way.
type flightSet struct {
	mu  sync.Mutex // never held over a wait
	all map[string][]*flight
}

func (c *Cache) set(hash uint64) *flightSet { return &c.flights[hash%flightSets] }

// drop lets nobody join the flights for a key any more. They go on for those who have.
func (s *flightSet) drop(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, key)
}

// dropIf is drop for all keys that match.
func (s *flightSet) dropIf(match func(key string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.all {
		if match(key) {
			delete(s.all, key)
		}
	}
}

// clear lets nobody join any flight that is under way.
func (s *flightSet) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.all)
}

// board returns the flight that a request can join, as its passenger, or adds the one that begin makes. With own it must be one for who alone. Where
// there is none it may be that one has just ended, and there is an answer now: then there reports it, and there is no passenger.
func (s *flightSet) board(key []byte, req *proxy.Request, who proxy.Identity, own bool, there func() bool, begin func() *flight) (p *passenger, leads bool) {
	w := newWaiter(req.Shard)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.all[string(key)] {
		mine := f.who == who
		if (mine || !f.own && !own) && rules.Selects(f.selectors, req.Fields) {
			if p := f.join(w); p != nil {
				return p, false
			}
		}
	}
	if there() {
		return nil, false
	}
	f := begin()
	p = &passenger{waiter: w, f: f}
	f.leader, f.waiting = p, []*passenger{p}
	if !f.alone {
		if s.all == nil {
			s.all = make(map[string][]*flight)
		}
		s.all[f.key] = append(s.all[f.key], f)
	}
	return p, true
}

// join adds a passenger, unless it is too late.
func (f *flight) join(w *waiter) *passenger {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.phase == handed || f.phase == failed || f.aborted {
		return nil
	}
	p := &passenger{waiter: w, f: f}
	f.waiting = append(f.waiting, p)
	return p
}

// ended takes f from the set.
func (f *flight) ended() {
	if f.alone {
		return
	}
	s := f.c.set(f.c.hash([]byte(f.key)))
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.all[f.key]
	for i := range all {
		if all[i] == f {
			all = append(all[:i:i], all[i+1:]...)
			break
		}
	}
	if len(all) == 0 {
		delete(s.all, f.key)
		return
	}
	s.all[f.key] = all
}

// wait returns once the flight has come to something, or its passenger cannot wait any longer.
func (p *passenger) wait(req *proxy.Request) (phase, error) {
	f := p.f
	if req.Cancel != nil {
		if _, err := req.Cancel.Watch(p); err != nil {
			f.leave(p)
			return failed, err
		}
		defer req.Cancel.Unwatch(p)
	}
	for {
		f.mu.Lock()
		news := f.informs[min(p.seen, len(f.informs)):]
		p.seen = len(f.informs)
		ph, gone := f.phase, p.gone
		f.mu.Unlock()
		for _, i := range news {
			if req.Inform != nil {
				req.Inform(i.status, i.fields)
			}
		}
		switch {
		case gone:
			f.leave(p)
			return failed, req.Cancel.Err()
		case ph != flying:
			return ph, nil
		case !p.gate.Wait(req.Deadline):
			f.leave(p)
			return failed, &proxy.Error{Code: proxy.Timeout, Detail: "the answer did not come in time", Err: task.ErrDeadline}
		}
	}
}

// leave takes a passenger off: it has what it wanted, or has gone. A flight that nobody waits for ends, unless what it brings is worth having.
func (f *flight) leave(p *passenger) {
	f.mu.Lock()
	for i := range f.waiting {
		if f.waiting[i] == p {
			f.waiting = append(f.waiting[:i:i], f.waiting[i+1:]...)
			break
		}
	}
	leader := f.leader == p
	if leader {
		f.leader = nil
	}
	unclaimed := leader && f.phase == handed
	if len(f.waiting) == 0 && f.settling != nil {
		f.settling.wake(nil)
		f.settling = nil
	}
	f.mu.Unlock()
	if unclaimed {
		f.resp.Close()
		return
	}
	f.abandoned()
}

// settle waits until all who wait have taken what the flight brought, or have left. It is called by the flight's task.
func (f *flight) settle(w *waiter) {
	for {
		f.mu.Lock()
		done := len(f.waiting) == 0
		f.settling = nil
		if !done {
			f.settling = w
		}
		f.mu.Unlock()
		if done {
			return
		}
		w.gate.Wait(0)
	}
}

// claim is called by the leader that takes the answer which was handed to it.
func (f *flight) claim(p *passenger) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.leader != p {
		return false
	}
	f.leader = nil
	return true
}

// abort ends the request to the origin. It is a callback of the flight's shard.
func (f *flight) abort() { f.cancel.Cancel(errGone) }

// Canceled implements proxy.Canceled for the leader that has been handed the answer: it runs on the flight's shard.
func (f *flight) Canceled(err error) { f.cancel.Cancel(err) }

// inform keeps an interim answer for all who wait.
func (f *flight) inform(status int, fields proxy.Fields) {
	f.mu.Lock()
	defer f.mu.Unlock()
	const most = 8
	if len(f.informs) == most {
		return
	}
	f.informs = append(f.informs, inform{status, cloneFields(fields, everything)})
	f.wakeLocked()
}

func (f *flight) wakeLocked() {
	for _, p := range f.waiting {
		p.wake(f.shard)
	}
}

// prepare copies the request: the leader may leave before the flight ends. Preconditions and ranges of the client are not passed on: all of the answer is wanted, or
// a word that it has not changed.
func (f *flight) prepare(req *proxy.Request) {
	f.req = *req
	f.req.Method, f.req.Scheme = strings.Clone(req.Method), strings.Clone(req.Scheme)
	f.req.Authority, f.req.Path = strings.Clone(req.Authority), strings.Clone(req.Path)
	f.req.Service.Name, f.req.Backend.Name = strings.Clone(req.Service.Name), strings.Clone(req.Backend.Name)
	f.req.Tried, f.req.Again, f.req.AttemptID = nil, nil, ""
	f.req.ID = strings.Clone(req.ID)
	f.req.Fields = cloneFields(req.Fields, unconditional)
	f.req.Cancel, f.req.Inform = &f.cancel, f.inform
	f.req.Body, f.req.Length = nil, 0
	if f.unary != nil {
		f.req.Body, f.req.Length = bodyOf(f.unary.question, &f.req), int64(len(f.unary.question))
	}
	if req.Record != nil {
		f.req.Record = new(proxy.Record)
		f.req.Record.Trace = req.Record.Trace
	}
	f.validators()
}

func unconditional(name string) bool {
	switch len(name) {
	case len("Range"):
		return !strings.EqualFold(name, "Range")
	case len("If-Range"):
		return !strings.EqualFold(name, "If-Range")
	case len("If-None-Match"):
		return !strings.EqualFold(name, "If-None-Match")
	case len("If-Modified-Since"):
		return !strings.EqualFold(name, "If-Modified-Since")
	}
	return true
}

// validators adds what the origin needs to say that nothing has changed. RFC 9111 section 4.3.1: the entity tags of all stored responses that could be meant, and the
// Last-Modified of the one that is.
func (f *flight) validators() {
	if f.stale == nil {
		return
	}
	var tags []string
	if t := f.stale.policy.ETag; t != "" {
		tags = append(tags, t)
	}
	for _, e := range f.others {
		if t := e.policy.ETag; t != "" && e != f.stale && e.content != nil {
			tags = append(tags, t)
		}
	}
	if len(tags) > 0 {
		f.req.Fields.Add("If-None-Match", strings.Join(tags, ", "))
	}
	if lm := f.stale.policy.LastModified; lm != "" {
		f.req.Fields.Add("If-Modified-Since", lm)
	}
}

// run is the flight's task.
func (f *flight) run() {
	finished := false
	defer func() {
		if !finished { // a panic below: nobody must wait for ever
			f.fail(&proxy.Error{Code: proxy.Internal, Detail: "the request to the origin broke down"})
			f.ended()
		}
	}()
	f.fly()
	finished = true
}

func (f *flight) fly() {
	sent := f.c.clock(f.shard)
	err := f.layer.next.RoundTrip(&f.req, &f.resp)
	received := f.c.clock(f.shard)
	if err != nil {
		f.at.counters.errors.Add(1)
		f.ended()
		f.fail(err)
		return
	}
	switch {
	case f.resp.Status == 304 && f.stale != nil:
		f.freshen(sent, received)
	case f.usesStale(received):
		f.ended()
		f.resp.Close()
		f.land(f.stale, f.why, true)
	default:
		f.take(sent, received)
	}
}

// usesStale reports whether a stored answer goes before the error that came.
func (f *flight) usesStale(now rules.Time) bool {
	switch f.resp.Status {
	case 500, 502, 503, 504: // RFC 5861 section 4
	default:
		return false
	}
	return f.stale != nil && f.stale.content != nil && f.stale.policy.UsableOnError(&f.q, now, f.set.StaleIfError)
}

// freshen makes a new entry of a stored one and the 304 that came for it.
func (f *flight) freshen(sent, received rules.Time) {
	old := f.meant()
	if old == nil {
		f.hand(f.why, rules.Status)
		return
	}
	e := f.c.freshened(old, f.resp.Fields, &f.q, sent, received, f.set)
	f.c.hear(f.at, &f.req, &f.resp, &e.policy, f.set)
	f.resp.Close()
	f.c.keepFreshened(old, e)
	f.at.counters.validated.Add(1)
	f.ended()
	f.land(e, f.why, false)
}

// meant is the entry that a 304 is about, RFC 9111 section 4.3.4: the one with the same strong validator, or, where the 304 names none, the only one there is.
func (f *flight) meant() *entry {
	tag := f.resp.Fields.Get("ETag")
	if tag == "" {
		return f.stale
	}
	for _, e := range append([]*entry{f.stale}, f.others...) {
		if t := e.policy.ETag; e.content != nil && t != "" && strings.TrimPrefix(t, "W/") == strings.TrimPrefix(tag, "W/") {
			return e
		}
	}
	if f.stale.policy.ETag == "" {
		return f.stale
	}
	return nil
}

// take stores the answer, or hands it over.
func (f *flight) take(sent, received rules.Time) {
	x := rules.Exchange{Request: &f.q, Method: "GET", Origin: rules.Origin{Scheme: f.req.Scheme, Authority: f.req.Authority, Path: f.req.Path},
		Status: f.resp.Status, Fields: f.resp.Fields, Sent: sent, Received: received}
	p := f.judge(&x)
	fwd := fwdURIMiss
	if f.stale != nil {
		fwd = f.why
	} else if len(f.others) > 0 {
		fwd = fwdVaryMiss
	}
	if p.Reason == rules.Stored && f.resp.Length > f.set.maxObject(f.c) {
		p.Reason = rules.TooLarge
	}
	if p.Reason == rules.Stored {
		f.c.hear(f.at, &f.req, &f.resp, &p, f.set)
	}
	if p.Reason != rules.Stored || len(p.Drop) > 0 || f.resp.Stream != nil {
		f.refuse(p, fwd, sent)
		return
	}
	e := f.c.entry(f.key, &f.req, &f.resp, p, &f.q, f.who, sent)
	if f.unary != nil {
		e.key, e.search = f.key, nil
	}
	e.content = newContent(f.resp.Length)
	e.content.left = f.abandoned
	f.at.active.Store(true)
	(&pump{f: f, e: e, fwd: fwd}).run()
}

func (f *flight) judge(x *rules.Exchange) rules.Policy {
	if f.unary != nil {
		return f.unary.judge(&f.req, &f.resp, x.Received)
	}
	return rules.Judge(x, f.set.rules())
}

// refuse hands over an answer that is for nobody else.
func (f *flight) refuse(p rules.Policy, fwd forward, sent rules.Time) {
	pass := passFor
	if f.resp.Status >= 500 {
		pass = passErrors
	}
	if p.Reason != rules.Stored {
		f.at.counters.refused(p.Reason)
		if f.unary != nil {
			f.hand(fwd, p.Reason)
			return
		}
		f.c.forgo(f.key, f.c.now(f.shard)+rules.Time(pass))
		f.hand(fwd, p.Reason)
		return
	}
	// Some of its fields are for its client only: it goes there as it is, and is stored on its way.
	t := f.c.tee(f.key, &f.req, &f.resp, p, &f.q, f.who, sent, f.at)
	t.most = f.set.maxObject(f.c)
	t.install(&f.resp)
	f.hand(fwd, rules.Stored)
}

// hand gives the answer to the leader, if it is still there.
func (f *flight) hand(fwd forward, why rules.Reason) {
	f.ended()
	if why == rules.Stored {
		addStatus(&f.resp, f.layer.status.stored[fwd])
	} else {
		addStatus(&f.resp, f.layer.status.detail(fwd, why))
	}
	f.mu.Lock()
	f.phase, f.fwd = handed, fwd
	nobody := f.leader == nil
	f.wakeLocked()
	f.mu.Unlock()
	if nobody {
		f.resp.Close()
	}
}

// land gives all who wait an entry.
func (f *flight) land(e *entry, fwd forward, instead bool) {
	f.mu.Lock()
	f.phase, f.entry, f.fwd, f.instead = landed, e, fwd, instead
	f.wakeLocked()
	f.mu.Unlock()
}

// fail tells all who wait that there is no answer.
func (f *flight) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.phase != flying {
		return
	}
	f.phase, f.err = failed, err
	f.wakeLocked()
}

// abandoned is called when a passenger, or the last reader of a filling content, has left.
func (f *flight) abandoned() {
	f.mu.Lock()
	end := len(f.waiting) == 0 && !f.unattended && !f.aborted && (f.phase == flying || f.phase == landed && !f.finishes())
	if end {
		f.aborted = true
	}
	f.mu.Unlock()
	if end {
		f.shard.Post(f.abort)
	}
}

// finishes reports, with the lock held, whether a content needs no end: somebody reads it, it is complete, or the rest is worth fetching for those who come later.
func (f *flight) finishes() bool {
	e := f.entry
	return e.content.complete.Load() || e.content.readerCount() > 0 || e.length >= 0 && e.length <= f.set.maxObject(f.c)
}

// background is how long a request may take that nobody waits for.
const background = 30 * time.Second
