package tracing

import (
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
)

// The fields of B3.
const (
	b3Single  = "b3"
	b3TraceID = "X-B3-TraceId"
	b3SpanID  = "X-B3-SpanId"
	b3Parent  = "X-B3-ParentSpanId"
	b3Sampled = "X-B3-Sampled"
	b3Flags   = "X-B3-Flags"
)

// decision is what a caller says of sampling; B3 can leave it open.
type decision uint8

const (
	undecided decision = iota
	rejected
	accepted
)

// readB3 fills t from the single field, else from the several. A decision may come without ids.
func readB3(fields proxy.Fields, t *proxy.Trace) (traced bool, d decision) {
	if v := fields.Get(b3Single); v != "" {
		return readSingle(v, t)
	}
	d = b3Decision(fields.Get(b3Sampled))
	if fields.Get(b3Flags) == "1" {
		d = accepted // debug
	}
	if !b3ID(t.ID[:], fields.Get(b3TraceID)) || !b3ID(t.Parent[:], fields.Get(b3SpanID)) || !whole(t) {
		t.ID, t.Parent = proxy.TraceID{}, proxy.SpanID{}
		return false, d
	}
	return true, d
}

// readSingle reads "{trace id}-{span id}-{decision}-{parent}", of which the last two may be missing, or the decision alone.
func readSingle(v string, t *proxy.Trace) (traced bool, d decision) {
	id, rest, more := strings.Cut(v, "-")
	if !more {
		return false, b3Decision(v)
	}
	span, rest, _ := strings.Cut(rest, "-")
	said, _, _ := strings.Cut(rest, "-")
	if !b3ID(t.ID[:], id) || !b3ID(t.Parent[:], span) || !whole(t) {
		t.ID, t.Parent = proxy.TraceID{}, proxy.SpanID{}
		return false, undecided
	}
	return true, b3Decision(said)
}

func whole(t *proxy.Trace) bool {
	return t.ID != proxy.TraceID{} && t.Parent != proxy.SpanID{}
}

// b3Decision reads "1" or "0", "d" for debug, and the words that old tracers send.
func b3Decision(s string) decision {
	switch s {
	case "1", "d", "true":
		return accepted
	case "0", "false":
		return rejected
	}
	return undecided
}

// b3ID reads an id of 16 or 32 digits, in lower case; one of 64 bits is the end of an id of 128.
func b3ID(id []byte, s string) bool {
	clear(id)
	switch {
	case len(s) == 2*len(id):
		return unhexAll(id, s)
	case len(s) == 16 && len(id) == 16:
		return unhexAll(id[8:], s)
	}
	return false
}

// appendB3 writes the single form, with t's own span.
func appendB3(b []byte, t *proxy.Trace, span proxy.SpanID) []byte {
	b = appendHex(b, t.ID[:])
	b = append(b, '-')
	b = appendHex(b, span[:])
	if t.Sampled {
		return append(b, "-1"...)
	}
	return append(b, "-0"...)
}
