package httpcache

import (
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/httpcache/rules"
)

// span is a part of a content that is not known as a whole.
type span struct {
	first   int64
	content *content
}

func (s span) end() int64 { return s.first + s.content.n }

// keepsPart reports whether a 206 is one that can be kept: a single part of a known whole, which is not too large, with a validator by which other parts can be
// recognised. RFC 9111 section 3.3: "A cache MUST NOT store incomplete or partial-content responses if it does not support the Range and Content-Range header fields".
func keepsPart(p *rules.Policy, resp *proxy.Response, most int64) bool {
	r, whole, ok := rules.ContentRange(resp.Fields.Get("Content-Range"))
	return ok && whole <= most && rules.Strong(p.ETag) && resp.Length == r.Len()
}

// part makes a partial entry of what was made of a 206: it counts as the 200 that it is a part of.
func (e *entry) part() {
	r, whole, _ := rules.ContentRange(e.fields.Get("Content-Range"))
	e.status, e.reason, e.length = 200, "", whole
	kept := make(proxy.Fields, 0, len(e.fields))
	for _, f := range e.fields {
		if f.Name != "" && !isLength(f.Name) && len(f.Name) != len("Content-Range") || len(f.Name) == len("Content-Range") && rules.For304(f.Name) {
			kept = append(kept, f)
		}
	}
	e.fields = kept
	e.spans = []span{{first: r.First}}
}

// merged returns what becomes of an entry that comes to be stored beside those of r. RFC 9111 section 3.4: parts of the same whole "can be combined [...] if they all share the same
// strong validator". nil means that r has more already.
func (r *resource) merged(e *entry) *entry {
	if e.spans == nil {
		return e
	}
	for _, old := range r.entries {
		if old.owner != e.owner || old.keyed != e.keyed || !sameSelectors(old.selectors, e.selectors) {
			continue
		}
		if old.policy.ETag != e.policy.ETag || old.length != e.length {
			break
		}
		if old.content != nil {
			return nil
		}
		e.spans = join(old.spans, e.spans)
		break
	}
	if len(e.spans) == 1 && e.spans[0].first == 0 && e.spans[0].content.n == e.length {
		e.content, e.spans = e.spans[0].content, nil
	}
	return e
}

// join puts spans together: those that touch or overlap become one.
func join(a, b []span) []span {
	var all []span
	for len(a)+len(b) > 0 {
		var next span
		if len(b) == 0 || len(a) > 0 && a[0].first <= b[0].first {
			next, a = a[0], a[1:]
		} else {
			next, b = b[0], b[1:]
		}
		n := len(all)
		if n == 0 || all[n-1].end() < next.first {
			all = append(all, next)
			continue
		}
		if last := all[n-1]; next.end() > last.end() {
			all[n-1] = span{last.first, whole(last.content, next.content, last.end()-next.first)}
		}
	}
	return all
}

// whole is a complete content of two: the second without its first skip bytes.
func whole(a, b *content, skip int64) *content {
	data := make([]byte, 0, a.n+b.n-skip)
	for _, chunk := range a.chunks {
		data = append(data, chunk...)
	}
	for _, chunk := range b.chunks {
		pass := min(skip, int64(len(chunk)))
		skip -= pass
		data = append(data, chunk[pass:]...)
	}
	c := &content{chunks: [][]byte{data}, n: int64(len(data)), done: true}
	c.complete.Store(true)
	return c
}

// part answers a request for a range of which all is there; others go on.
func (x *call) part(r *resource, e *entry, now rules.Time, verdict rules.Verdict) error {
	span, want := x.wants(e)
	usable := verdict == rules.Fresh || verdict == rules.Accepted
	if want == rules.Unsatisfiable && usable {
		x.at.counters.hits.Add(1)
		x.serve(e, now, e.ageNow(now, x.status.name).status, true)
		return nil
	}
	if want != rules.Part {
		return x.miss(r, nil, fwdPartial)
	}
	for _, s := range e.spans {
		if !usable || span.First < s.first || span.Last >= s.end() {
			continue
		}
		x.at.counters.hits.Add(1)
		x.req.Note("cache", "a part is answered from the cache; seconds old", int64(e.policy.Age(now)/time.Second))
		x.serve(e, now, e.ageNow(now, x.status.name).status, true)
		return nil
	}
	return x.miss(r, nil, fwdPartial)
}

// holds returns the content in which a range of e is, and where the range begins in it.
func (e *entry) holds(first int64) (*content, int64) {
	for _, s := range e.spans {
		if first >= s.first && first < s.end() {
			return s.content, first - s.first
		}
	}
	return e.content, first
}
