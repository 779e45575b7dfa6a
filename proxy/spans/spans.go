package spans

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/observe"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/proxy/tracing"
)

// DefaultPending bounds the spans that wait to be sent, in bytes: some eight thousand. A batch of them is within the 4 MiB that gRPC servers take.
const DefaultPending = 3 << 20

// worthSending is when Ready is told, in bytes: some six hundred spans.
const worthSending = 256 << 10

// Config says which spans are made.
type Config struct {
	tracing.Propagation
	// KeepErrors makes spans of requests that failed, and KeepSlow of those slower than almost all of their service, even where the trace is not recorded.
	KeepErrors, KeepSlow bool
	// Link joins a request of the app that says nothing of a trace to the request of a peer that it is probably made for.
	Link bool
	// Pending bounds the spans that wait, in bytes; further ones are dropped. If zero, DefaultPending.
	Pending int
}

// Spans makes spans. Make it with New. Take is safe for concurrent use.
type Spans struct {
	cfg     Config
	base    atomic.Int64 // what makes an Instant nanoseconds since 1970
	made    atomic.Uint64
	dropped atomic.Uint64
	ready   chan struct{}
	running running

	mu      sync.Mutex // never held for longer than it takes to encode
	pending []byte     // elements of ScopeSpans.spans
	count   int        // of them
	scratch []byte
}

var _ observe.Sink = (*Spans)(nil)

// New returns Spans.
func New(cfg Config) *Spans {
	if cfg.Pending == 0 {
		cfg.Pending = DefaultPending
	}
	s := &Spans{cfg: cfg, ready: make(chan struct{}, 1)}
	s.setClock()
	return s
}

func (s *Spans) setClock() { s.base.Store(time.Now().UnixNano() - int64(task.Now())) }

// Begin implements observe.Sink: it finds out where the request stands, and has it say so to whom it goes.
func (s *Spans) Begin(e *observe.Entry) {
	r, req := e.Record(), e.Request
	if req.Lacks(proxy.NameTrace) && !s.cfg.Link { // as the requests of most apps that begin something
		s.cfg.Start(&r.Trace)
		s.cfg.TellFirst(&req.Fields, &r.Trace, r.Trace.Span, r.Header(0))
		req.Gains(proxy.NameTrace)
		return
	}
	began := s.cfg.Enter(&req.Fields, &r.Trace)
	if s.cfg.Link {
		s.running.begin(e, began)
	}
	s.cfg.Tell(&req.Fields, &r.Trace, r.Trace.Span, r.Header(0))
	req.Gains(proxy.NameTrace)
}

// Head implements observe.Sink.
func (s *Spans) Head(*observe.Entry) {}

// Done implements observe.Sink.
func (s *Spans) Done(e *observe.Entry) {
	if s.cfg.Link {
		defer s.running.end(e)
	}
	r := e.Record()
	if !r.Trace.Valid() || !r.Trace.Sampled && !(s.cfg.KeepErrors && failed(e)) && !(s.cfg.KeepSlow && e.Slow) {
		return
	}
	s.mu.Lock()
	before, n := len(s.pending), s.count
	s.add(e)
	made := s.count - n
	full := len(s.pending) > s.cfg.Pending
	if full {
		s.pending, s.count = s.pending[:before], n
	}
	enough := len(s.pending) > worthSending
	s.mu.Unlock()
	if full {
		s.dropped.Add(uint64(made))
		return
	}
	s.made.Add(uint64(made))
	if enough {
		select {
		case s.ready <- struct{}{}:
		default: // it is told already
		}
	}
}

// Attempts is the layer that gives each attempt the id of its span, and has it say that to the peer. It stands inside of observe.Attempts.
func (s *Spans) Attempts(next proxy.RoundTripper) proxy.RoundTripper {
	return proxy.Before(func(req *proxy.Request) error {
		if r := req.Record; r != nil && r.Trace.Valid() {
			if all := r.Attempts(); len(all) > 0 && all[len(all)-1].SpanID == (proxy.SpanID{}) {
				a := &all[len(all)-1]
				a.SpanID = tracing.NextSpanID(r.Trace.Span, len(all))
				s.cfg.TellNext(&req.Fields, &r.Trace, a.SpanID, r.Header(0), r.Header(len(all)))
			}
		}
		return nil
	}).Layer(next)
}

// Ready is told when there is enough to be worth sending before its time.
func (s *Spans) Ready() <-chan struct{} { return s.ready }

// Take returns the spans that wait, as elements of the field spans of a ScopeSpans, and how many they are. spare, if not nil, is memory that is used for those to come.
func (s *Spans) Take(spare []byte) (encoded []byte, n int) {
	s.setClock()
	s.mu.Lock()
	defer s.mu.Unlock()
	encoded, n = s.pending, s.count
	s.pending, s.count = spare[:0], 0
	return encoded, n
}

// Stats are counts since the start.
type Stats struct {
	Made    uint64 // that were, or will be, taken
	Dropped uint64 // because too many waited
}

// Stats returns the counts.
func (s *Spans) Stats() Stats { return Stats{Made: s.made.Load(), Dropped: s.dropped.Load()} }

// failed reports whether a request counts as an error in its span.
func failed(e *observe.Entry) bool {
	if e.Code != "" || e.Status >= 500 || e.End == observe.Cut {
		return true
	}
	if e.Direction == observe.Outbound {
		return e.Status >= 400 || e.GRPC > 0
	}
	switch e.GRPC { // "Recording errors": of a server, those that are no answer
	case 2, 4, 12, 13, 14, 15:
		return true
	}
	return false
}
