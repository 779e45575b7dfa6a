package tap

import (
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/accesslog"
	"github.com/pillion-proxy/pillion/proxy/observe"
)

// Event is what is shown of a request: of an Exchange when it has ended, of a Stream or Flow when it is open, and when it has ended.
type Event struct {
	Time      time.Time     `json:"time"`
	What      string        `json:"what"` // "opened", "ended"
	Direction string        `json:"direction"`
	Shape     string        `json:"shape"`
	ID        string        `json:"id,omitempty"`
	Trace     string        `json:"trace,omitempty"`
	Client    string        `json:"client,omitempty"`
	Peer      string        `json:"peer,omitempty"`
	Service   string        `json:"service,omitempty"`
	Route     int           `json:"route,omitempty"`
	Endpoint  string        `json:"endpoint,omitempty"`
	Method    string        `json:"method"`
	Authority string        `json:"authority,omitempty"`
	Path      string        `json:"path,omitempty"`
	Status    int           `json:"status,omitempty"`
	Code      string        `json:"code,omitempty"`
	GRPC      *int          `json:"grpc_status,omitempty"`
	End       string        `json:"end,omitempty"`
	Error     string        `json:"error,omitempty"`
	BytesIn   int64         `json:"bytes_in"`
	BytesOut  int64         `json:"bytes_out"`
	Attempts  int           `json:"attempts,omitempty"`
	Head      time.Duration `json:"head_ns,omitempty"`
	Duration  time.Duration `json:"duration_ns"`
	// Parts say where the time to the head went.
	Parts observe.Parts `json:"parts,omitzero"`
	// Request and Response are the fields of the heads, if asked for; the values of those that are secret are "***".
	Request  [][2]string `json:"request,omitempty"`
	Response [][2]string `json:"response,omitempty"`
	// In and Out are the beginnings of the contents, if asked for and permitted.
	In  []byte `json:"in,omitempty"`
	Out []byte `json:"out,omitempty"`
	// Missed is how many that passed the filter were not shown since the Event before this one.
	Missed uint64 `json:"missed,omitempty"`
}

// Watch says what a watcher wants to see.
type Watch struct {
	Filter
	Rate  int  // events a second at most; 0: DefaultRate
	Heads bool // fields too
	Body  int  // bytes of each content
}

const (
	// DefaultRate is how many events a second a watcher gets.
	DefaultRate = 100

	queue = 256 // events that wait for a watcher
)

// Tap is told of requests, and tells its watchers. Make it with New.
type Tap struct {
	now      func() time.Time
	bodies   atomic.Bool
	watching atomic.Int32
	body     atomic.Int32 // the most that a watcher wants

	mu       sync.Mutex
	watchers []*watcher
}

type watcher struct {
	Watch
	out    chan Event
	missed uint64
	second int64 // of the rate
	n      int   // events in it
}

var _ observe.Sink = (*Tap)(nil)

// New returns a Tap. bodies permits watchers to see contents.
func New(bodies bool) *Tap {
	t := &Tap{now: time.Now}
	t.bodies.Store(bodies)
	return t
}

// SetBodies says what New does, for those who begin to watch from now on.
func (t *Tap) SetBodies(bodies bool) { t.bodies.Store(bodies) }

// Bodies reports whether watchers may see contents.
func (t *Tap) Bodies() bool { return t.bodies.Load() }

// Watch begins to watch. The channel is never closed; stop ends it.
func (t *Tap) Watch(w Watch) (events <-chan Event, stop func()) {
	if w.Rate <= 0 {
		w.Rate = DefaultRate
	}
	if !t.bodies.Load() {
		w.Body = 0
	}
	x := &watcher{Watch: w, out: make(chan Event, queue)}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watchers = append(t.watchers, x)
	t.changed()
	return x.out, sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.watchers = slices.DeleteFunc(t.watchers, func(o *watcher) bool { return o == x })
		t.changed()
	})
}

// changed notes what the watchers want in all. The lock is held.
func (t *Tap) changed() {
	most := 0
	for _, w := range t.watchers {
		most = max(most, w.Body)
	}
	t.body.Store(int32(min(most, observe.MaxCapture)))
	t.watching.Store(int32(len(t.watchers)))
}

// Begin implements observe.Sink.
func (t *Tap) Begin(e *observe.Entry) {
	if n := t.body.Load(); n > 0 {
		e.Capture = max(e.Capture, int(n))
	}
}

// Head implements observe.Sink.
func (t *Tap) Head(e *observe.Entry) {
	if t.watching.Load() > 0 && e.Shape != observe.Exchange {
		t.show(e, "opened")
	}
}

// Done implements observe.Sink.
func (t *Tap) Done(e *observe.Entry) {
	if t.watching.Load() > 0 {
		t.show(e, "ended")
	}
}

func (t *Tap) show(e *observe.Entry, what string) {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, w := range t.watchers {
		if !w.match(e) {
			continue
		}
		if s := now.Unix(); s != w.second {
			w.second, w.n = s, 0
		}
		if w.n >= w.Rate || len(w.out) == cap(w.out) {
			w.missed++
			continue
		}
		w.n++
		ev := event(e, what, now)
		if w.Heads {
			ev.Request = heads(e.Request.Fields)
			if e.Response != nil {
				ev.Response = heads(e.Response.Fields)
			}
		}
		if w.Body > 0 && what == "ended" {
			ev.In, ev.Out = first(e.In.Bytes(), w.Body), first(e.Out.Bytes(), w.Body)
		}
		ev.Missed, w.missed = w.missed, 0
		w.out <- ev // there is room, and nobody else sends
	}
}

func first(b []byte, n int) []byte { return slices.Clone(b[:min(len(b), n)]) }

// heads copies fields, but for the values of secrets.
func heads(fields proxy.Fields) [][2]string {
	all := make([][2]string, len(fields))
	for i, f := range fields {
		value := strings.Clone(f.Value)
		if accesslog.Secret(f.Name) {
			value = "***"
		}
		all[i] = [2]string{strings.Clone(f.Name), value}
	}
	return all
}

// maxPath bounds a path that is shown, in bytes.
const maxPath = 1024

func event(e *observe.Entry, what string, now time.Time) Event {
	req := e.Request
	path, query, has := strings.Cut(req.Path[:min(len(req.Path), maxPath)], "?")
	if path = strings.Clone(path); has {
		path += "?" + accesslog.Redact(query)
	}
	ev := Event{
		Time: now, What: what, Direction: e.Direction.String(), Shape: e.Shape.String(), ID: strings.Clone(req.ID), Peer: peer(req),
		Service: req.Service.Name, Route: req.Rule, Method: strings.Clone(req.Method), Authority: strings.Clone(req.Authority), Path: path,
		Status: e.Status, Code: e.Code, BytesIn: e.BytesIn, BytesOut: e.BytesOut, Attempts: len(e.Record().Attempts()),
	}
	if r := e.Record(); r.Trace.Valid() {
		ev.Trace = hex.EncodeToString(r.Trace.ID[:])
	}
	if req.Client.IsValid() {
		ev.Client = req.Client.String()
	}
	if req.Endpoint != nil {
		ev.Endpoint = req.Endpoint.String()
	}
	if e.GRPC >= 0 {
		n := e.GRPC
		ev.GRPC = &n
	}
	if e.Head != 0 {
		ev.Head, ev.Parts = e.Head.Sub(e.Start), e.Parts
		ev.Duration = ev.Head
	}
	if what == "ended" {
		ev.End, ev.Duration = e.End.String(), e.Stop.Sub(e.Start)
		if e.Err != nil {
			ev.Error = e.Err.Error()
		}
	}
	return ev
}
