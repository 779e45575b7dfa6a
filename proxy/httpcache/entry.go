package httpcache

import (
	"strings"
	"sync/atomic"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/httpcache/rules"
)

const (
	// maxVariants is how many answers are kept under one key; the oldest goes.
	maxVariants = 32
	// entryOverhead is what an entry costs beside its strings and its content. Bytes.
	entryOverhead = 640
	fieldOverhead = 32 // two strings
)

// resource is all that is kept under one key. It is immutable, but for the counters of its entries.
type resource struct {
	key     string
	entries []*entry // the newest first

	invalidated rules.Time // what was asked for before is not stored
	pass        rules.Time // until when requests are not made to wait for each other
	search      *search    // of a path: how queries are compared; see No-Vary-Search
}

// entry is one stored answer. All but the atomics is immutable.
type entry struct {
	key       string
	path      string // of the request, a part of key
	status    int
	reason    string
	version   proxy.Version
	fields    proxy.Fields
	policy    rules.Policy
	selectors []rules.Selector
	owner     proxy.Identity // whose it is; "": anybody's
	keyed     string         // what else of the request is part of every key
	length    int64          // of the content, or proxy.Unknown while it is filling
	content   *content
	spans     []span  // of a partial one: what there is, in order; content is nil then
	search    *search // what its No-Vary-Search says; nil: nothing
	sent      rules.Time
	told      bool // a sidecar tells if it has changed

	hits atomic.Uint64
	text atomic.Pointer[ageText]
}

// size is what e takes up.
func (e *entry) size() int64 {
	n := int64(entryOverhead + len(e.key) + len(e.reason) + len(e.keyed) + len(e.owner))
	for _, f := range e.fields {
		n += int64(fieldOverhead + len(f.Name) + len(f.Value))
	}
	for _, s := range e.selectors {
		n += int64(2*fieldOverhead + len(s.Name) + len(s.Raw) + len(s.Normal))
	}
	for _, t := range e.policy.Tags {
		n += int64(16 + len(t))
	}
	if e.content != nil {
		n += e.content.held()
		for _, f := range e.content.trailers {
			n += int64(fieldOverhead + len(f.Name) + len(f.Value))
		}
	}
	for _, s := range e.spans {
		n += s.content.held() + fieldOverhead
	}
	return n
}

func (r *resource) size() int64 {
	n := int64(len(r.key)) + 128
	for _, e := range r.entries {
		n += e.size()
	}
	return n
}

// selects reports whether e is an answer to a request, of whomever it is.
func (e *entry) selects(req *proxy.Request, q *rules.Request, who proxy.Identity) bool {
	if e.owner != "" && e.owner != who {
		return false
	}
	if (q.Keyed || e.keyed != "" || req.Backend.Name != "") && keyedText(req, q.Keyed) != e.keyed {
		return false
	}
	return rules.Selects(e.selectors, req.Fields)
}

// find returns the newest entry that answers a request.
func (r *resource) find(req *proxy.Request, q *rules.Request, who proxy.Identity) *entry {
	for _, e := range r.entries {
		if e.selects(req, q, who) {
			return e
		}
	}
	return nil
}

// keyedText is what else of a request is part of every key, as text: where it is sent, if a route says so, and the fields of rules.IsKeyed, if there are some.
func keyedText(req *proxy.Request, some bool) string {
	if !some && req.Backend.Name == "" {
		return ""
	}
	var b strings.Builder
	if req.Backend.Name != "" {
		b.WriteString(req.Backend.String())
		b.WriteByte('\n')
	}
	for _, f := range req.Fields {
		if some && rules.IsKeyed(f.Name) {
			b.WriteString(strings.ToLower(f.Name))
			b.WriteByte(':')
			b.WriteString(f.Value)
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// without returns the entries of r but those that e takes the place of: for the same selecting fields, and for nobody else.
func (r *resource) without(e *entry) []*entry {
	kept := make([]*entry, 0, len(r.entries)+1)
	for _, old := range r.entries {
		if old.owner == e.owner && old.keyed == e.keyed && sameSelectors(old.selectors, e.selectors) {
			continue
		}
		kept = append(kept, old)
	}
	return kept
}

func sameSelectors(a, b []rules.Selector) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Name != b[i].Name || a[i].Absent != b[i].Absent || a[i].Normal != b[i].Normal {
			return false
		}
	}
	return true
}

// cloneFields copies the fields that keep wants into memory of their own: one block for all strings.
func cloneFields(fields proxy.Fields, keep func(name string) bool) proxy.Fields {
	n, size := 0, 0
	for _, f := range fields {
		if keep(f.Name) {
			n, size = n+1, size+len(f.Name)+len(f.Value)
		}
	}
	if n == 0 {
		return nil
	}
	var b strings.Builder
	b.Grow(size)
	for _, f := range fields {
		if keep(f.Name) {
			b.WriteString(f.Name)
			b.WriteString(f.Value)
		}
	}
	all, at := b.String(), 0
	take := func(n int) string {
		s := all[at : at+n]
		at += n
		return s
	}
	cloned := make(proxy.Fields, 0, n)
	for _, f := range fields {
		if keep(f.Name) {
			name := take(len(f.Name))
			cloned = append(cloned, proxy.Field{Name: name, Value: take(len(f.Value))})
		}
	}
	return cloned
}

func everything(string) bool { return true }
