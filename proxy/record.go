package proxy

import (
	"time"

	"github.com/pillion-proxy/pillion/proxy/task"
)

// Record is the timeline of one request, bounded: what was decided, and each attempt. Layers add to it with Request.Note. Who keeps it
// (package observe) made it; it is used by one task at a time. Its zero value is empty.
type Record struct {
	// What every request needs stands together.

	n, tries int
	dropped  int
	// Queued is how long the request has waited for its turn in this sidecar.
	Queued   time.Duration
	attempts [maxAttempts]Attempt

	// Trace is where the request stands in a distributed trace, if anybody asks.
	Trace Trace
	// Header is room for the traceparent that the request has been told, so that it costs no garbage.
	Header [64]byte
	events [maxEvents]Event
}

const (
	maxEvents   = 32
	maxAttempts = 8
)

// Event is one decision.
type Event struct {
	At       task.Instant
	Layer    string    // who decided: "retry", "cache"; a constant
	Text     string    // what, in words: "a second try, elsewhere"; a constant, or the text of an error
	N        int64     // a figure that belongs to it, as its Text says; else 0
	Endpoint *Endpoint // which one it was about; may be nil
}

// Attempt is one try at an Endpoint. Instants are 0 for what did not happen.
type Attempt struct {
	Start, Head task.Instant // it was sent; the head of an answer came
	End         task.Instant // it failed; 0 for the one whose answer was taken
	Endpoint    *Endpoint
	Status      int  // of the answer
	Code        Code // why there was none, "" if there was
	// Took and AppTook are those of the Response.
	Took, AppTook time.Duration
	SpanID        SpanID // of the attempt's span, zero if it is not traced

	// Header is room for the traceparent that the attempt sends, so that it costs no garbage.
	Header [64]byte
}

// Add appends e; past the bound it is only counted.
func (r *Record) Add(e Event) {
	if r.n == len(r.events) {
		r.dropped++
		return
	}
	r.events[r.n] = e
	r.n++
}

// Events are those added, in their order, valid until the next Add or Reset; dropped is how many more there were.
func (r *Record) Events() (events []Event, dropped int) { return r.events[:r.n], r.dropped }

// Try begins an attempt and returns it for its outcome to be filled in; nil past the bound.
func (r *Record) Try(start task.Instant) *Attempt {
	if r.tries == len(r.attempts) {
		r.dropped++
		return nil
	}
	a := &r.attempts[r.tries]
	r.tries++
	a.Start = start
	return a
}

// Attempts are those begun, in their order.
func (r *Record) Attempts() []Attempt { return r.attempts[:r.tries] }

// Reset empties r.
func (r *Record) Reset() {
	clear(r.events[:r.n])
	clear(r.attempts[:r.tries])
	r.n, r.tries, r.dropped, r.Trace, r.Queued = 0, 0, 0, Trace{}, 0
}

// Note adds a decision about the request to its Record, where it has one. It allocates nothing.
func (r *Request) Note(layer, text string, n int64) {
	if r.Record != nil {
		r.Record.Add(Event{At: r.Shard.Now(), Layer: layer, Text: text, N: n, Endpoint: r.Endpoint})
	}
}
