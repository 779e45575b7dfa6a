package proxy

import (
	"time"

	"github.com/pillion-proxy/pillion/proxy/task"
)

// Record is the timeline of one request, bounded: what was decided, and each attempt. Layers add to it with Request.Note. Who keeps it
// (package observe) made it; it is used by one task at a time. Its zero value is empty.
type Record struct {
	n, tries int32
	dropped  int
	// Queued is how long the request has waited for its turn in this sidecar.
	Queued time.Duration
	// Trace is where the request stands in a distributed trace, if anybody asks.
	Trace Trace

	// Most requests have one attempt, and nothing to tell. What only others need is elsewhere: many run at a time, and the first look at memory is what they cost.

	first   [1]Attempt
	headers [2][64]byte
	more    *more // nil while it was never needed
}

// more is room of a Record.
type more struct {
	events   [maxEvents]Event
	attempts [maxAttempts]Attempt // all of them, once there are several
	headers  [maxAttempts + 1][64]byte
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
}

// Add appends e; past the bound it is only counted.
func (r *Record) Add(e Event) {
	if r.n == maxEvents {
		r.dropped++
		return
	}
	r.room().events[r.n] = e
	r.n++
}

func (r *Record) room() *more {
	if r.more == nil {
		r.more = new(more)
	}
	return r.more
}

// Events are those added, in their order, valid until the next Add or Reset; dropped is how many more there were.
func (r *Record) Events() (events []Event, dropped int) {
	if r.n == 0 {
		return nil, r.dropped
	}
	return r.more.events[:r.n], r.dropped
}

// Try begins an attempt and returns it for its outcome to be filled in, before the next one begins; nil past the bound.
func (r *Record) Try(start task.Instant) *Attempt {
	a := &r.first[0]
	switch r.tries {
	case 0:
	case maxAttempts:
		r.dropped++
		return nil
	case 1:
		r.room().attempts[0] = r.first[0]
		fallthrough
	default:
		a = &r.more.attempts[r.tries]
	}
	r.tries++
	a.Start = start
	return a
}

// Attempts are those begun, in their order.
func (r *Record) Attempts() []Attempt {
	if r.tries <= 1 {
		return r.first[:r.tries]
	}
	return r.more.attempts[:r.tries]
}

// Header is room for the traceparent that the request has been told (0), or that its attempt n sends, so that it costs no garbage.
func (r *Record) Header(n int) *[64]byte {
	if n < len(r.headers) {
		return &r.headers[n]
	}
	return &r.room().headers[n]
}

// Reset empties r. It keeps its memory.
func (r *Record) Reset() {
	if r.n > 0 {
		clear(r.more.events[:r.n])
	}
	if r.tries > 1 {
		clear(r.more.attempts[:r.tries])
	}
	r.n, r.tries, r.dropped, r.Queued, r.Trace, r.first[0] = 0, 0, 0, 0, Trace{}, Attempt{}
}

// Note adds a decision about the request to its Record, where it has one. It allocates nothing but room, once for a Record.
func (r *Request) Note(layer, text string, n int64) {
	if r.Record != nil {
		r.Record.Add(Event{At: r.Shard.Now(), Layer: layer, Text: text, N: n, Endpoint: r.Endpoint})
	}
}
