package dashboard

import (
	"bytes"
	"encoding/json"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/listeners/admin"
	"github.com/pillion-proxy/pillion/proxy/flight"
	"github.com/pillion-proxy/pillion/proxy/metrics"
	"github.com/pillion-proxy/pillion/proxy/observe"
)

const (
	every       = time.Second            // between two Frames
	fresh       = 900 * time.Millisecond // how long a Frame is given to watchers that come later
	window      = 10                     // Frames that rates are computed over
	forgotten   = 15 * time.Second       // what is older was counted for somebody who has left
	maxWatchers = 16                     // more are refused with 503
	maxStories  = 50                     // in a Frame
	patience    = 10 * time.Second       // for a watcher that does not read
)

// Source is where Frames come from. All fields are needed; they are called by one goroutine at a time.
type Source struct {
	Status   func() admin.Status
	Requests func() metrics.Totals
	Stories  func(n int) ([]*flight.Story, map[flight.Reason]uint64)
}

// Events serves /events. Make it with NewEvents.
type Events struct {
	src      Source
	now      func() time.Time
	every    time.Duration
	watchers atomic.Int32

	mu      sync.Mutex // held while a Frame is made: who comes meanwhile gets the same one
	at      time.Time
	frame   []byte
	samples []sample // the oldest first
}

type sample struct {
	at    time.Time
	edges map[edgeKey]*count
}

// NewEvents returns a handler of Frames.
func NewEvents(src Source) *Events { return &Events{src: src, now: time.Now, every: every} }

// ServeHTTP implements http.Handler.
func (e *Events) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer e.watchers.Add(-1)
	if e.watchers.Add(1) > maxWatchers {
		http.Error(w, "too many watch already: close one of the other windows", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	tick := time.NewTicker(e.every)
	defer tick.Stop()
	for {
		if out.SetWriteDeadline(time.Now().Add(patience)) != nil {
			return
		}
		if _, err := w.Write(e.next()); err != nil || out.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}

// next is a Frame as an event: the last one if that is fresh.
func (e *Events) next() []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	if e.frame != nil && now.Sub(e.at) < fresh {
		return e.frame
	}
	var b bytes.Buffer
	b.WriteString("data: ")
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e.make(now)); err != nil { // a float that is no number
		return []byte(": " + err.Error() + "\n\n")
	}
	b.WriteByte('\n')
	e.at, e.frame = now, b.Bytes()
	return e.frame
}

func (e *Events) make(now time.Time) *Frame {
	t := e.src.Requests()
	stories, kept := e.src.Stories(maxStories)
	st := e.src.Status()
	st.FillLists()
	f := &Frame{At: now, Status: st, Stories: summaries(stories), Kept: kept,
		Running: map[string]int64{"outbound": t.Running[observe.Outbound], "inbound": t.Running[observe.Inbound]}}
	if n := len(e.samples); n > 0 && now.Sub(e.samples[n-1].at) > forgotten {
		e.samples = nil
	}
	mine := sample{now, counted(&t)}
	var before map[edgeKey]*count
	if len(e.samples) > 0 {
		f.Window, before = now.Sub(e.samples[0].at).Seconds(), e.samples[0].edges
	}
	f.Edges = edges(mine.edges, before, f.Window)
	if len(e.samples) == window {
		e.samples = append(e.samples[:0], e.samples[1:]...)
	}
	e.samples = append(e.samples, mine)
	return f
}
