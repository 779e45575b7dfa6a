package httpcache

import (
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/httpcache/rules"
)

// unsafe sends a request on that may change something, and forgets what it has changed.
func (x *call) unsafe() error {
	x.at.counters.passed.Add(1)
	if err := x.next.RoundTrip(x.req, x.resp); err != nil {
		return err
	}
	if !done(x.resp.Status) || x.resp.Stream != nil {
		return nil
	}
	o := rules.Origin{Scheme: x.req.Scheme, Authority: x.req.Authority, Path: x.req.Path}
	for _, path := range rules.Invalidated(o, x.resp.Fields) {
		x.forget(path)
	}
	if x.req.Method == "POST" && rules.Promising(x.resp.Fields) {
		x.forget(x.req.Path)
		if x.keep(x.c.clock(x.req.Shard)) == rules.Stored { // as if it had been asked for now: it is what the key means from now on
			addStatus(x.resp, x.status.stored[fwdMethod])
			return nil
		}
	} else {
		x.forget(x.req.Path)
	}
	addStatus(x.resp, x.status.plain[fwdMethod])
	return nil
}

// forget invalidates a path of the request's service and authority.
func (x *call) forget(path string) {
	text := string(appendKey(nil, x.service(x.req), x.req.Scheme, x.req.Authority, path))
	at := x.c.clock(x.req.Shard)
	for _, k := range x.c.keysOf(text, x.at) {
		if x.c.invalidate(k, at) {
			x.at.counters.invalidated.Add(1)
			x.req.Note("cache", "what was stored is invalidated", 0)
		}
		if x.app {
			x.publish(pathOf(k), at)
		}
	}
}

// publish forgets an app's path, whatever the authority it was asked for by: that is a matter of who calls. And it tells the peers.
func (x *call) publish(path string, at rules.Time) {
	d := digestOf(path)
	x.c.changedPath(x.at, d, at)
	x.at.counters.told.Add(1)
	x.at.board.Load().publish(noticePath+d.text(), x.req.Shard)
}

// learn compares an answer to HEAD with what is stored. RFC 9111 section 4.3.5: "the cache SHOULD use the received header fields to update a stored GET response" if the
// validators, and the length if it is told, are the same; else it "SHOULD consider the stored response to be stale".
func (x *call) learn(e *entry, sent rules.Time) {
	if e == nil || x.resp.Status != 200 || e.status != 200 {
		return
	}
	h := x.resp.Fields
	same := func(name, stored string) bool { return !h.Has(name) || h.Get(name) == stored }
	if x.resp.Length >= 0 && h.Has("Content-Length") && x.resp.Length != e.length || !same("ETag", e.policy.ETag) || !same("Last-Modified", e.policy.LastModified) {
		x.c.invalidate(e.key, x.c.clock(x.req.Shard))
		return
	}
	if e.content == nil || e.policy.ETag == "" && e.policy.LastModified == "" {
		return
	}
	x.c.keepFreshened(e, x.c.freshened(e, h, &x.q, sent, x.c.clock(x.req.Shard), x.set))
}

// freshened is an entry with the fields of a 304, or an answer to HEAD, merged in.
func (c *Cache) freshened(old *entry, with proxy.Fields, q *rules.Request, sent, received rules.Time, set *Settings) *entry {
	merged := rules.Freshen(old.fields, with)
	p := rules.Judge(&rules.Exchange{Request: &rules.Request{CC: q.CC}, Method: "GET", Status: old.status, Fields: merged, Sent: sent, Received: received}, set.rules())
	p.ETag, p.LastModified = strings.Clone(p.ETag), strings.Clone(p.LastModified)
	p.Vary = nil
	p.Tags = cloneStrings(p.Tags)
	if !with.Has("Age") && !with.Has("Date") {
		p.InitialAge = max(0, received.Sub(sent))
	}
	e := &entry{key: old.key, path: old.path, status: old.status, reason: old.reason, version: old.version, policy: p, selectors: old.selectors,
		owner: old.owner, keyed: old.keyed, length: old.length, content: old.content, search: old.search, sent: sent, told: old.told}
	e.fields = cloneFields(merged, func(name string) bool { return rules.Kept(name, p.Drop) })
	e.policy.ETag, e.policy.LastModified = e.fields.Get("ETag"), e.fields.Get("Last-Modified")
	e.policy.Drop = nil
	return e
}

func cloneString(s string) string { return strings.Clone(s) }

func cloneStrings(all []string) []string {
	if len(all) == 0 {
		return nil
	}
	cloned := make([]string, len(all))
	for i, s := range all {
		cloned[i] = strings.Clone(s)
	}
	return cloned
}
