package spans

import (
	"encoding/binary"
	"math"
	"strings"
	"sync"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/observe"
)

// maxRunning bounds the requests of peers that are remembered, and those of the app that are linked, at a time.
const maxRunning = 1000

// running are the requests of peers that the app is at work on, so that one which it makes meanwhile, and which says nothing of a trace, is linked to the one that it
// is probably made for: the one with the same X-Request-Id, else one of those that run, by chance the right one.
type running struct {
	mu      sync.Mutex
	inbound map[*observe.Entry]inner
	links   map[*observe.Entry]link
}

// inner is a request of a peer.
type inner struct {
	trace   proxy.TraceID
	span    proxy.SpanID
	sampled bool
	id      string // X-Request-Id
}

// link is a guess.
type link struct {
	to         inner
	reason     string
	confidence float64 // that it is right
}

// Confidence of a link, and the least that one is made with: two requests that run at a time.
const (
	sameID   = 0.99
	onlyOne  = 0.9
	leastOne = 0.45
)

// begin notes e. began says that its trace begins here.
func (r *running) begin(e *observe.Entry, began bool) {
	id := e.Request.Fields.Get("X-Request-Id")
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case e.Direction == observe.Inbound && len(r.inbound) < maxRunning:
		if r.inbound == nil {
			r.inbound = make(map[*observe.Entry]inner)
		}
		t := &e.Record().Trace
		r.inbound[e] = inner{t.ID, t.Span, t.Sampled, strings.Clone(id)}
	case e.Direction == observe.Outbound && began && len(r.links) < maxRunning:
		if l, ok := r.guess(id); ok {
			if r.links == nil {
				r.links = make(map[*observe.Entry]link)
			}
			r.links[e] = l
			t := &e.Record().Trace
			t.Sampled = t.Sampled || l.to.sampled
		}
	}
}

// guess finds whom a request is made for.
func (r *running) guess(id string) (link, bool) {
	var l link
	for _, in := range r.inbound {
		if id != "" && in.id == id {
			return link{in, "request_id", sameID}, true
		}
		l.to = in
	}
	if l.confidence = onlyOne / float64(len(r.inbound)); len(r.inbound) == 0 || l.confidence < leastOne {
		return link{}, false
	}
	l.reason = "containment"
	return l, true
}

func (r *running) end(e *observe.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.inbound, e)
	delete(r.links, e)
}

// appendLink encodes the link of e, if there is one.
func (r *running) appendLink(b []byte, e *observe.Entry) []byte {
	r.mu.Lock()
	l, ok := r.links[e]
	r.mu.Unlock()
	if !ok {
		return b
	}
	var room [256]byte
	m := AppendBytes(room[:0], 1, l.to.trace[:])
	m = AppendBytes(m, 2, l.to.span[:])
	m = AppendString(m, 4, "pillion.link.reason", l.reason)
	m = appendKey(m, 4, "pillion.link.confidence", 9)
	m = binary.LittleEndian.AppendUint64(append(m, 4<<3|typeFixed64), math.Float64bits(l.confidence))
	return AppendBytes(b, fieldLinks, m)
}
