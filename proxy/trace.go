package proxy

// TraceID and SpanID are the ids of W3C Trace Context section 3.2.2. All zero means none.
type (
	TraceID [16]byte
	SpanID  [8]byte
)

// Trace is where a request stands in a distributed trace. The zero value is no trace.
type Trace struct {
	ID      TraceID
	Span    SpanID // of pillion's own span
	Parent  SpanID // the span that called, zero for none
	Sampled bool   // whether the trace is recorded, as its root decided
	Random  bool   // the ID's last seven bytes are random (level 2)
}

// Valid reports whether there is a trace.
func (t *Trace) Valid() bool { return t.ID != TraceID{} }
