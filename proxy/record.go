package proxy

import "github.com/pillion-proxy/pillion/proxy/task"

// Record is the timeline of the decisions about one request, bounded. Layers add to it with Request.Note. Who keeps it (a flight recorder) made it;
// it is used by one task at a time.
type Record struct {
	events  [maxEvents]Event
	n       int
	dropped int
}

const maxEvents = 32

// Event is one decision.
type Event struct {
	At       task.Instant
	Layer    string    // who decided: "retry", "cache"; a constant
	Text     string    // what, in words: "a second try, elsewhere"; a constant, or the text of an error
	N        int64     // a figure that belongs to it, as its Text says; else 0
	Endpoint *Endpoint // which one it was about; may be nil
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

// Reset empties r.
func (r *Record) Reset() { *r = Record{} }

// Note adds a decision about the request to its Record, where it has one. It allocates nothing.
func (r *Request) Note(layer, text string, n int64) {
	if r.Record != nil {
		r.Record.Add(Event{At: r.Shard.Now(), Layer: layer, Text: text, N: n, Endpoint: r.Endpoint})
	}
}
