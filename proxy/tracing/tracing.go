package tracing

import (
	"encoding/binary"
	"math/rand/v2"
	"unsafe"

	"github.com/pillion-proxy/pillion/proxy"
)

// Propagation says how a sidecar takes part in traces.
type Propagation struct {
	// Ratio is the share of traces that begin here and are recorded, 0 to 1. Traces that began elsewhere are recorded as their root decided.
	Ratio float64
	// B3 has the single B3 field written beside traceparent.
	B3 bool
}

// Enter finds out where a request stands and notes it in t: in the trace that its fields name, W3C before B3, else at the root of a new one. The
// request has a span of its own from here on. It reports whether the trace begins here.
func (p Propagation) Enter(fields *proxy.Fields, t *proxy.Trace) (began bool) {
	d := undecided
	traced := readW3C(*fields, t)
	if traced {
		d = rejected
		if t.Sampled {
			d = accepted
		}
	} else {
		fields.Del(traceparent) // section 4.3: one that cannot be read is replaced, and its tracestate is void
		fields.Del(tracestate)
		traced, d = readB3(*fields, t)
	}
	if traced && fields.Has(tracestate) && !validState(*fields) {
		fields.Del(tracestate)
	}
	if !traced {
		p.Start(t)
	}
	switch d {
	case undecided:
		t.Sampled = p.sampled(t.ID)
	default:
		t.Sampled = d == accepted
	}
	if traced {
		t.Span = NewSpanID()
	}
	return !traced
}

// Start is Enter for a request whose fields say nothing of a trace: it begins one.
func (p Propagation) Start(t *proxy.Trace) {
	binary.BigEndian.PutUint64(t.ID[:8], rand.Uint64())
	binary.BigEndian.PutUint64(t.ID[8:], rand.Uint64()|1) // never all zero
	t.Random, t.Sampled = true, p.sampled(t.ID)
	// An id that only has to be another one: the finalizer of SplitMix64, which spreads numbers.
	x := binary.BigEndian.Uint64(t.ID[:8])
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	binary.BigEndian.PutUint64(t.Span[:], (x^x>>31)|1)
}

// NextSpanID returns an id that differs from span, and from those of other numbers n, from 1. It is for parts of the request whose span that is.
func NextSpanID(span proxy.SpanID, n int) (id proxy.SpanID) {
	binary.BigEndian.PutUint64(id[:], binary.BigEndian.Uint64(span[:])+uint64(n)*0x9e3779b97f4a7c14|1)
	return id
}

// sampled decides by the id, as OpenTelemetry's TraceIdRatioBased does, so that all who use the same ratio decide alike.
func (p Propagation) sampled(id proxy.TraceID) bool {
	if p.Ratio >= 1 {
		return true
	}
	return binary.BigEndian.Uint64(id[8:])>>1 < uint64(p.Ratio*(1<<63))
}

// NewSpanID returns a random id.
func NewSpanID() (id proxy.SpanID) {
	binary.BigEndian.PutUint64(id[:], rand.Uint64()|1)
	return id
}

// Tell has fields say that span calls. The values stand in header, which stays untouched as long as the fields are used.
func (p Propagation) Tell(fields *proxy.Fields, t *proxy.Trace, span proxy.SpanID, header *[64]byte) {
	set(fields, traceparent, putParent(header, t, span))
	if p.B3 {
		set(fields, b3Single, string(appendB3(nil, t, span)))
	}
}

// TellFirst is Tell for fields that have none of what it writes.
func (p Propagation) TellFirst(fields *proxy.Fields, t *proxy.Trace, span proxy.SpanID, header *[64]byte) {
	fields.Add(traceparent, putParent(header, t, span))
	if p.B3 {
		fields.Add(b3Single, string(appendB3(nil, t, span)))
	}
}

// TellNext is Tell for fields that were told by it, or by TellFirst, of another span of t, whose header is told.
func (p Propagation) TellNext(fields *proxy.Fields, t *proxy.Trace, span proxy.SpanID, told, header *[64]byte) {
	if p.B3 {
		p.Tell(fields, t, span, header)
		return
	}
	*header = *told
	putSpan(header, span)
	set(fields, traceparent, unsafe.String(&header[0], parentLen))
}

// set is Fields.Set for a field of which there is one at most.
func set(fields *proxy.Fields, name, value string) {
	all := *fields
	for i := len(all) - 1; i >= 0; i-- { // what was added here is near the end
		if named(&all[i], name) {
			all[i].Value = value
			return
		}
	}
	fields.Add(name, value)
}
