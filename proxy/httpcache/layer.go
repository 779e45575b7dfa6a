package httpcache

import (
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/httpcache/rules"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Settings say how the answers of one service are cached.
type Settings struct {
	// Off passes everything through but the calls of GRPC.
	Off bool
	// Always looks at every request, and makes those for the same thing wait for each other. Without it a service is left alone until it has sent
	// something that can be stored.
	Always bool
	// Heuristic is the part of the time since Last-Modified for which an answer without explicit freshness is fresh; zero is none at all.
	Heuristic float64
	// StaleIfError is how long after its freshness an answer that says nothing about it may stand in for an error. Zero is not at all.
	StaleIfError time.Duration
	// GRPC are the unary methods, as paths, whose answers are kept, and for how long.
	GRPC map[string]time.Duration
	// MaxObject bounds one answer, in bytes. If zero, that of the Cache.
	MaxObject int64
}

func (s *Settings) rules() rules.Options { return rules.Options{Heuristic: s.Heuristic} }

func (s *Settings) maxObject(c *Cache) int64 {
	if s.MaxObject > 0 {
		return min(s.MaxObject, c.store.Max()/2)
	}
	return c.maxObject.Load()
}

// LayerConfig says what Layers do.
type LayerConfig struct {
	// Name is the cache's own in Cache-Status, a token. If empty, "pillion".
	Name string
	// Services are the settings of each service, by its name: those of Rule n at n. A Rule beyond them has those of 0.
	Services map[string][]Settings
	// App, if not empty, makes it the layer of one app on the inbound side, which has this name among the services: then Services has no other, all requests are for
	// it, and answers that are not public are kept apart by the identities of the callers.
	App string
}

// Layers returns the cache as the Layer of each service. They can be made anew at any time.
func (c *Cache) Layers(cfg LayerConfig) map[string]proxy.Layer {
	if cfg.Name == "" {
		cfg.Name = "pillion"
	}
	status := makeStatuses(cfg.Name)
	layers := make(map[string]proxy.Layer, len(cfg.Services))
	for name, all := range cfg.Services {
		if len(all) == 0 {
			continue
		}
		at := c.site(name)
		if c.cfg.Disk != nil {
			at.active.Store(true) // something may be there from an earlier run
		}
		s := settled{at, append([]Settings(nil), all...)}
		if name == cfg.App {
			at.boardOf()
			c.index(at)
		}
		layers[name] = func(next proxy.RoundTripper) proxy.RoundTripper {
			return &layer{next: next, at: at, simple: simple(s.sets), c: c, own: s, app: name == cfg.App, status: &status}
		}
	}
	return layers
}

// settled is a service and its settings.
type settled struct {
	at   *site
	sets []Settings
}

func (s *settled) rule(n int) *Settings {
	if n < len(s.sets) {
		return &s.sets[n]
	}
	return &s.sets[0]
}

type layer struct {
	// What requests need that are not looked at stands together.

	next   proxy.RoundTripper
	at     *site // of own
	simple bool  // see there

	c      *Cache
	own    settled
	app    bool // of the inbound side
	status *statuses
}

// simple reports whether requests are not looked at until something can be stored, by whichever of sets.
func simple(sets []Settings) bool {
	return len(sets) == 1 && !sets[0].Off && !sets[0].Always && sets[0].GRPC == nil
}

// service is whose answer a request gets, in keys.
func (l *layer) service(req *proxy.Request) proxy.Service {
	if l.app {
		return proxy.Service{Name: l.own.at.name}
	}
	return req.Service
}

// call is one request on its way through the layer. It is pooled.
type call struct {
	asked
	room [keyRoom]byte // for the text of its key
}

// asked is all of a call that the next one must not see.
type asked struct {
	*layer
	at   *site
	set  *Settings
	req  *proxy.Request
	resp *proxy.Response
	q    rules.Request
	k    key
	who  proxy.Identity

	fetched bool // it has been looked for on disk
	own     bool // an answer that another caller waited for was for that one alone
}

// call takes one from the pool, for a request that is looked at.
func (l *layer) call(at *site, set *Settings, req *proxy.Request, resp *proxy.Response) *call {
	x := l.c.calls.Get().(*call)
	x.asked = asked{layer: l, at: at, set: set, req: req, resp: resp, who: l.caller(req), q: rules.Look(req.Fields)}
	return x
}

func (x *call) free() {
	c := x.c
	x.asked = asked{}
	c.calls.Put(x)
}

// RoundTrip implements proxy.RoundTripper. Until something can be stored there is nothing to be found, and a service costs no more than a look at what comes back.
func (l *layer) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	if req.Upgrade != "" || req.Method == "CONNECT" {
		return l.next.RoundTrip(req, resp)
	}
	if !l.simple || l.at.active.Load() {
		return l.byRule(req, resp)
	}
	sent := req.Shard.Now()
	err := l.next.RoundTrip(req, resp)
	if err != nil || req.Method == "GET" && !rules.Promising(resp.Fields) {
		return err
	}
	return l.passed(&l.own.sets[0], sent, req, resp)
}

// byRule is RoundTrip for whatever applies.
func (l *layer) byRule(req *proxy.Request, resp *proxy.Response) error {
	s := &l.own
	set := s.rule(req.Rule)
	switch {
	case set.unaryTTL(req) > 0:
		return l.looked(s, set, req, resp)
	case set.Off:
		return l.next.RoundTrip(req, resp)
	case set.Always, s.at.active.Load():
		return l.looked(s, set, req, resp)
	}
	sent := req.Shard.Now()
	if err := l.next.RoundTrip(req, resp); err != nil {
		return err
	}
	return l.passed(set, sent, req, resp)
}

// looked is for a request that is looked at.
func (l *layer) looked(s *settled, set *Settings, req *proxy.Request, resp *proxy.Response) error {
	x := l.call(s.at, set, req, resp)
	defer x.free()
	x.k.text = appendKey(x.room[:0], l.service(req), req.Scheme, req.Authority, req.Path)
	x.k.hash = l.c.hash(x.k.text)
	if !l.app || !req.Pillion {
		return x.do()
	}
	news := *s.at.board.Load().position.Load() // from before the answer is made
	err := x.do()
	if err == nil && (req.Method == "GET" || req.Method == "POST") {
		resp.Fields.Add(proxy.NewsField, news)
	}
	return err
}

// nobody is the identity of a caller that has none, which is not anybody.
const nobody proxy.Identity = "?"

// caller is for whom an answer is kept that is not public.
func (l *layer) caller(req *proxy.Request) proxy.Identity {
	switch {
	case !l.app:
		return ""
	case req.Peer == nil || req.Peer.Identity == "":
		return nobody
	}
	return req.Peer.Identity
}

// passed looks at the answer to a request that was sent without a look.
func (l *layer) passed(set *Settings, sent task.Instant, req *proxy.Request, resp *proxy.Response) error {
	at := l.at
	switch {
	case req.Method == "GET":
		if !rules.Promising(resp.Fields) {
			return nil
		}
	case !rules.Unsafe(req.Method):
		return nil
	default:
		if done(resp.Status) {
			later(&at.changed, l.c.clock(req.Shard))
		}
		return nil
	}
	if req.Length != 0 || resp.Stream != nil || resp.Flow != nil {
		return nil
	}
	x := l.call(at, set, req, resp)
	defer x.free()
	news := ""
	if l.app && req.Pillion {
		news = *at.board.Load().position.Load()
	}
	if why := x.keep(l.c.wall + rules.Time(sent)); why == rules.Stored {
		at.active.Store(true)
		addStatus(resp, l.status.stored[fwdURIMiss])
		if news != "" {
			resp.Fields.Add(proxy.NewsField, news)
		}
	}
	return nil
}

// done reports whether a status is "a non-error status code", RFC 9111 section 4.4: 2xx or 3xx.
func done(status int) bool { return status >= 200 && status < 400 }

// do decides about a request that is looked at.
func (x *call) do() error {
	req, q := x.req, &x.q
	switch {
	case req.Method != "GET" && req.Method != "HEAD":
		if ttl := x.set.unaryTTL(req); ttl > 0 {
			return x.unary(ttl)
		}
		if rules.Unsafe(req.Method) {
			return x.unsafe()
		}
		return x.pass(fwdMethod, nil)
	case req.Length != 0 || q.Overrides || q.ForOrigin:
		return x.pass(fwdBypass, nil)
	case q.CC.NoStore:
		return x.pass(fwdRequest, nil)
	}
	r := x.lookup()
	if x.fetch(r) {
		r = x.lookup()
	}
	if r == nil {
		return x.miss(nil, nil, fwdURIMiss)
	}
	e := r.find(req, q, x.who)
	switch {
	case e != nil:
		return x.found(r, e)
	case len(r.entries) == 0: // it is only known that answers to this are not kept
		return x.miss(r, nil, fwdURIMiss)
	}
	return x.miss(r, nil, fwdVaryMiss)
}

// found is for a request for which there is an entry.
func (x *call) found(r *resource, e *entry) error {
	now := x.c.now(x.req.Shard)
	verdict := e.policy.Reuse(&x.q, now)
	if e.content == nil {
		return x.part(r, e, now, verdict)
	}
	if _, want := x.wants(e); want == rules.Elsewhere {
		return x.pass(fwdBypass, nil)
	}
	switch verdict {
	case rules.Revalidate:
		x.refresh(r, e)
		fallthrough
	case rules.Fresh, rules.Accepted:
		n := &x.at.counters
		n.hits.Add(1)
		if verdict != rules.Fresh {
			n.stale.Add(1)
		}
		x.req.Note("cache", "answered from the cache; seconds old", int64(e.policy.Age(now)/time.Second))
		e.hits.Add(1)
		x.serve(e, now, e.ageNow(now, x.status.name).status, true)
		return nil
	}
	fwd := fwdStale
	if e.policy.TTL(now) > 0 && !e.policy.NoCache {
		fwd = fwdRequest
	}
	return x.miss(r, e, fwd)
}

// wants is the part of an entry that the request wants: only GET has ranges (RFC 9110 section 14.2), and only of what is there.
func (x *call) wants(e *entry) (rules.Range, rules.Wanted) {
	if x.q.Range == "" || x.req.Method != "GET" || e.status != 200 {
		return rules.Range{}, rules.All
	}
	return e.policy.Wants(&x.q, e.length)
}

// miss is for what the cache cannot answer by itself. stale is what it has, if anything.
func (x *call) miss(r *resource, stale *entry, fwd forward) error {
	req, q := x.req, &x.q
	if q.CC.OnlyIfCached {
		// RFC 9111 section 5.2.1.7: "a cache SHOULD either respond using a stored response that is consistent with the other constraints of the request or respond with a 504".
		return &proxy.Error{Code: proxy.NotCached, Unsent: true, Detail: "the request has only-if-cached, and the cache has no answer that it may give"}
	}
	validates := stale != nil && stale.policy.Validatable()
	switch {
	case req.Method == "HEAD":
		return x.pass(fwd, stale)
	case r == nil && !x.set.Always: // nothing says that an answer to this could be shared
		return x.pass(fwd, nil)
	case q.Range != "" && !validates:
		return x.pass(fwd, nil)
	case q.Authorized && !validates:
		return x.pass(fwd, nil)
	case r != nil && x.c.now(req.Shard) < r.pass && !validates && stale == nil:
		return x.pass(fwd, nil)
	}
	x.at.counters.misses.Add(1)
	return x.fly(r, stale, q.Authorized || q.CC.NoCache || q.CC.Present && stale != nil, fwd)
}

// pass sends the request on as it is. What comes back is stored on its way, if it may be. stale is what an answer to HEAD may be about.
func (x *call) pass(fwd forward, stale *entry) error {
	x.at.counters.passed.Add(1)
	sent := x.c.clock(x.req.Shard)
	if err := x.next.RoundTrip(x.req, x.resp); err != nil {
		return err
	}
	if x.resp.Stream != nil || x.resp.Flow != nil {
		return nil
	}
	why := rules.Method
	switch {
	case x.req.Method == "HEAD":
		x.learn(stale, sent)
	case x.req.Method == "GET" && x.req.Length == 0 && !x.q.ForOrigin:
		if why = x.keep(sent); why == rules.Stored {
			addStatus(x.resp, x.status.stored[fwd])
			return nil
		}
	}
	addStatus(x.resp, x.status.detail(fwd, why))
	return nil
}

// keep stores an answer on its way to the client, if it may be.
func (x *call) keep(sent rules.Time) rules.Reason {
	now := x.c.clock(x.req.Shard)
	e := rules.Exchange{Request: &x.q, Method: x.req.Method, Origin: rules.Origin{Scheme: x.req.Scheme, Authority: x.req.Authority, Path: x.req.Path},
		Status: x.resp.Status, Fields: x.resp.Fields, Sent: sent, Received: now, Partial: true}
	p := rules.Judge(&e, x.set.rules())
	if p.Reason == rules.Stored && x.resp.Length > x.set.maxObject(x.c) {
		p.Reason = rules.TooLarge
	}
	if p.Reason == rules.Stored && x.resp.Status == 206 && !keepsPart(&p, x.resp, x.set.maxObject(x.c)) {
		p.Reason = rules.Partial
	}
	if p.Reason != rules.Stored {
		x.at.counters.refused(p.Reason)
		x.req.Note("cache", string(p.Reason), 0)
		return p.Reason
	}
	x.c.hear(x.at, x.req, x.resp, &p, x.set)
	text := x.text()
	t := x.c.tee(text, x.req, x.resp, p, &x.q, x.who, sent, x.at)
	t.most = x.set.maxObject(x.c)
	t.install(x.resp)
	return rules.Stored
}

// text is the request's key, as a copy.
func (x *call) text() string {
	if x.k.text != nil {
		return string(x.k.text)
	}
	return string(appendKey(nil, x.service(x.req), x.req.Scheme, x.req.Authority, x.req.Path))
}
