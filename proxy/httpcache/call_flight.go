package httpcache

import (
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/httpcache/rules"
)

// fly asks the origin by a flight, of its own or another's.
func (x *call) fly(r *resource, stale *entry, alone bool, fwd forward) error {
	req := x.req
	var p *passenger
	leads := true
	if alone {
		f := x.flight(r, stale, fwd)
		f.alone = true
		p = &passenger{waiter: newWaiter(req.Shard), f: f}
		f.leader, f.waiting = p, []*passenger{p}
	} else {
		there := func() bool { return stale == nil && x.there(r) }
		if p, leads = x.c.set(x.k.hash).board(x.k.text, req, x.who, x.own, there, func() *flight { return x.flight(r, stale, fwd) }); p == nil {
			return x.do()
		}
	}
	if leads {
		p.f.prepare(req)
		req.Shard.Go(p.f.run)
	} else {
		req.Note("cache", "waits for another request for the same", 0)
	}
	ph, err := p.wait(req)
	if err != nil {
		return err
	}
	if leads {
		x.told(p.f)
	}
	return x.arrive(p, ph, leads)
}

// there reports whether there is a fresh answer now where before there was r, which had none.
func (x *call) there(r *resource) bool {
	now := x.c.resource(x.k)
	if now == nil || now == r {
		return false
	}
	e := now.find(x.req, &x.q, x.who)
	if e == nil || e.content == nil || e.policy.Reuse(&x.q, x.c.now(x.req.Shard)) != rules.Fresh {
		return false
	}
	_, want := x.wants(e)
	return want != rules.Elsewhere
}

// told copies what the flight knows of its way: it has come to something, and touches its request no more.
func (x *call) told(f *flight) {
	x.req.Endpoint, x.req.Attempt = f.req.Endpoint, f.req.Attempt
	if x.req.Record == nil || f.req.Record == nil {
		return
	}
	events, _ := f.req.Record.Events()
	for _, e := range events {
		x.req.Record.Add(e)
	}
	for _, a := range f.req.Record.Attempts() {
		if mine := x.req.Record.Try(a.Start); mine != nil {
			*mine = a
		}
	}
}

// flight makes one for this request. why is the reason for it.
func (x *call) flight(r *resource, stale *entry, why forward) *flight {
	f := &flight{why: why, c: x.c, layer: x.layer, own: x.own, at: x.at, set: x.set, key: string(x.k.text), q: x.q.Clone(), stale: stale, who: x.who, shard: x.req.Shard}
	if r != nil {
		f.others = r.entries
		if len(r.entries) > 0 {
			f.selectors = rules.Selectors(namesOf(r.entries[0].selectors), x.req.Fields)
		}
	}
	return f
}

func namesOf(all []rules.Selector) []string {
	names := make([]string, len(all))
	for i := range all {
		names[i] = all[i].Name
	}
	return names
}

// arrive answers the request with what its flight has come to.
func (x *call) arrive(p *passenger, ph phase, leads bool) error {
	f := p.f
	switch ph {
	case handed:
		if leads && f.claim(p) {
			f.leave(p)
			x.takeOver(f)
			return nil
		}
		f.leave(p)
		return x.pass(fwdURIMiss, nil) // what came was for one only
	case failed:
		return x.unanswered(p, leads)
	}
	now := x.c.now(x.req.Shard)
	f.mu.Lock()
	e, fwd, instead := f.entry, f.fwd, f.instead
	f.mu.Unlock()
	fits := leads
	switch {
	case instead:
		fits = e.selects(x.req, &x.q, x.who) && e.policy.UsableOnError(&x.q, now, x.set.StaleIfError)
	case !leads:
		fits = e.selects(x.req, &x.q, x.who) && e.policy.Reuse(&x.q, now) == rules.Fresh
	}
	if _, want := x.wants(e); want == rules.Elsewhere {
		fits = false
	}
	status := x.status.stored[fwd]
	switch {
	case !leads:
		status = x.status.collapsed[fwd]
	case instead:
		status = x.status.plain[fwd]
	case e.sent != 0 && fwd == f.why && e.policy.Received != 0 && f.stale != nil && e.content == f.stale.content:
		status = x.status.validated[fwd]
	}
	served := fits && x.serve(e, now, status, !leads || instead)
	f.leave(p)
	switch err := e.content.broke(); {
	case served:
	case leads && fits && err != nil:
		return err
	case !x.own && !instead && e.owner != "" && e.owner != x.who: // its own identity's requests can still be one
		x.own = true
		return x.do()
	default:
		return x.pass(fwd, nil)
	}
	if !leads {
		x.at.counters.collapsed.Add(1)
	}
	return nil
}

// unanswered is for a flight that has failed: a stored answer may stand in.
func (x *call) unanswered(p *passenger, leads bool) error {
	f := p.f
	f.mu.Lock()
	err, stale := f.err, f.stale
	f.mu.Unlock()
	f.leave(p)
	now := x.c.now(x.req.Shard)
	if stale != nil && stale.content != nil && stale.selects(x.req, &x.q, x.who) && stale.policy.UsableOnError(&x.q, now, x.set.StaleIfError) {
		x.at.counters.stale.Add(1)
		x.req.Note("cache", "a stale answer stands in for an error", 0)
		x.serve(stale, now, x.status.plain[f.why], true)
		return nil
	}
	if e, ok := err.(*proxy.Error); ok && e.Code == proxy.Timeout && !leads {
		return x.pass(fwdURIMiss, nil) // it was the leader's time that has run out
	}
	return err
}

// takeOver makes the flight's answer the client's. From now on its client cancels what is left of the flight.
func (x *call) takeOver(f *flight) {
	*x.resp = f.resp
	h := &handover{f: f, cancel: x.req.Cancel, inner: x.resp.Closer()}
	x.resp.OnClose(h)
	if h.cancel == nil {
		return
	}
	if _, err := h.cancel.Watch(f); err != nil {
		f.cancel.Cancel(err)
	}
}

// handover is the closer of an answer that a flight has handed over.
type handover struct {
	f      *flight
	cancel *proxy.Cancel
	inner  proxy.ResponseCloser
}

// CloseResponse implements proxy.ResponseCloser.
func (h *handover) CloseResponse(r *proxy.Response) {
	if h.cancel != nil {
		h.cancel.Unwatch(h.f)
	}
	if h.inner != nil {
		h.inner.CloseResponse(r)
	}
}

// refresh validates an entry while it is used (stale-while-revalidate), once at a time.
func (x *call) refresh(r *resource, e *entry) {
	s := x.c.set(x.k.hash)
	s.mu.Lock()
	if len(s.all[string(x.k.text)]) > 0 {
		s.mu.Unlock()
		return
	}
	f := x.flight(r, e, fwdStale)
	f.unattended = true
	if s.all == nil {
		s.all = make(map[string][]*flight)
	}
	s.all[f.key] = append(s.all[f.key], f)
	s.mu.Unlock()
	f.prepare(x.req)
	f.req.Deadline = x.req.Shard.Now().Add(background)
	f.req.Record = nil
	x.req.Shard.Go(f.run)
}
