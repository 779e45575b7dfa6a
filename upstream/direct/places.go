package direct

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/http1"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Places counts the connections that are open for one service or app entry, idle ones included, and keeps them within a bound. It outlives the bound: see
// Set. It is safe for all shards; nil has no bound.
type Places struct {
	what    string
	options Options      // of a service whose connections these are
	waits   atomic.Int32 // the length of queue, to be read without mu

	mu      sync.Mutex // never held over a wait or a call
	set     PlaceSettings
	open    int
	queue   []*seeker // in the order of their arrival
	refused uint64
}

// PlaceSettings bound connections.
type PlaceSettings struct {
	// Most is how many may be open; 0 is any number.
	Most int
	// Pending requests may wait for one, each for Wait at most.
	Pending int
	Wait    time.Duration
}

// PlaceStats says how many connections are open, how many may be, and how many requests wait for one, or were refused so far.
type PlaceStats struct {
	Open, Most, Waiting int
	Refused             uint64
}

// NewPlaces returns Places without a bound, for what, as errors call it.
func NewPlaces(what string) *Places {
	p := &Places{what: what}
	p.options.Places = p
	return p
}

// Set changes the bound. No connection is closed for it; those that are too many are not replaced.
func (p *Places) Set(s PlaceSettings) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set = s
	for len(p.queue) > 0 && (s.Most == 0 || p.open < s.Most) {
		p.open++
		p.grantLocked(0, nil)
	}
}

// Stats returns the present numbers.
func (p *Places) Stats() PlaceStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return PlaceStats{Open: p.open, Most: p.set.Most, Waiting: len(p.queue), Refused: p.refused}
}

// seeker is who waits for a connection, or for the place of one.
type seeker struct {
	s      task.Shard
	t      *target     // a connection to it will do; nil: none will
	caller *proxy.Peer // for whom it must be
	gate   task.Gate
	wake   func()         // on s
	before proxy.Canceled // who was registered with the request's Cancel; guarded by the shard's lock

	// Guarded by Places.mu.
	granted bool
	conn    *http1.ClientConn // one that became idle; nil is a place
}

// Canceled implements proxy.Canceled.
func (w *seeker) Canceled(err error) {
	w.gate.Wake()
	w.s.Lock()
	before := w.before
	w.s.Unlock()
	if before != nil {
		before.Canceled(err)
	}
}

// enter takes a place for a connection of st's shard, after a wait if need be. It may return a connection instead that somebody else is done with, if t is not nil: one to
// t for caller. req is nil where it is not one request alone that waits. Who has a place calls leave once.
func (p *Places) enter(st *shardState, req *proxy.Request, t *target, caller *proxy.Peer) (*http1.ClientConn, error) {
	if p == nil {
		return nil, nil
	}
	p.mu.Lock()
	if p.set.Most == 0 || p.open < p.set.Most && len(p.queue) == 0 {
		p.open++
		p.mu.Unlock()
		return nil, nil
	}
	if len(p.queue) >= p.set.Pending {
		p.refused++
		p.mu.Unlock()
		note(req, "refused: too many connections are open")
		return nil, p.full()
	}
	s := st.shard
	w := &seeker{s: s, t: t, caller: caller}
	s.Gate(&w.gate)
	w.wake = w.gate.Wake
	p.queue = append(p.queue, w)
	p.waits.Store(int32(len(p.queue)))
	until := s.Now().Add(p.set.Wait)
	p.mu.Unlock()
	note(req, "waits for a connection to become free")
	st.d.giveUp(p, st)
	if req == nil {
		w.wait(p, until, nil)
	} else {
		w.waitFor(p, req, until)
	}
	return p.settle(w, req)
}

func note(req *proxy.Request, text string) {
	if req != nil {
		req.Note("limit", text, 0)
	}
}

// waitFor waits until w has what it seeks, until has passed, or req wants no more.
func (w *seeker) waitFor(p *Places, req *proxy.Request, until task.Instant) {
	began := w.s.Now()
	if req.Deadline != 0 {
		until = min(until, req.Deadline)
	}
	before, gone := req.Cancel.Watch(w)
	if gone != nil {
		return
	}
	w.s.Lock()
	w.before = before
	w.s.Unlock()
	w.wait(p, until, req.Cancel)
	if req.Record != nil {
		req.Record.Queued += w.s.Now().Sub(began)
	}
	if before != nil {
		_, _ = req.Cancel.Watch(before)
	} else {
		req.Cancel.Unwatch(w)
	}
}

func (w *seeker) wait(p *Places, until task.Instant, cancel *proxy.Cancel) {
	for inTime := true; inTime && !p.decided(w) && (cancel == nil || cancel.Err() == nil); {
		inTime = w.gate.Wait(until)
	}
}

func (p *Places) decided(w *seeker) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return w.granted
}

// settle ends w's wait, and says what came of it.
func (p *Places) settle(w *seeker, req *proxy.Request) (*http1.ClientConn, error) {
	p.mu.Lock()
	if !w.granted {
		p.queue = slices.DeleteFunc(p.queue, func(x *seeker) bool { return x == w })
		p.waits.Store(int32(len(p.queue)))
		p.refused++
	}
	p.mu.Unlock()
	if req != nil && req.Cancel.Err() != nil {
		switch {
		case w.granted && w.conn == nil:
			p.leave()
		case w.granted && w.conn.Idle():
			w.t.put(w.conn, w.caller, p)
		}
		return nil, &proxy.Error{Code: proxy.ClientGone, Detail: "the client left while its request waited for a connection", Unsent: true, Err: req.Cancel.Err()}
	}
	if !w.granted {
		return nil, p.full()
	}
	return w.conn, nil
}

// leave gives up the place of a connection that is closed, or was not made.
func (p *Places) leave() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) > 0 && p.open <= p.set.Most {
		p.grantLocked(0, nil)
		return
	}
	p.open--
}

// pass gives a connection that has become idle to who waits for it, and reports whether anybody waits: for a place, if not for this connection, which is then
// to be closed.
func (p *Places) pass(t *target, c *http1.ClientConn, caller *proxy.Peer) (given, wanted bool) {
	if !p.wanted() {
		return false, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.IndexFunc(p.queue, func(w *seeker) bool { return w.t == t && w.caller == caller }); i >= 0 && p.open <= p.set.Most {
		p.grantLocked(i, c)
		return true, true
	}
	return false, len(p.queue) > 0
}

// grantLocked gives the i-th of the queue a place that counts already, or the connection that has it.
func (p *Places) grantLocked(i int, c *http1.ClientConn) {
	w := p.queue[i]
	p.queue = slices.Delete(p.queue, i, i+1)
	p.waits.Store(int32(len(p.queue)))
	w.granted, w.conn = true, c
	w.s.Post(w.wake)
}

func (p *Places) full() error {
	return &proxy.Error{Code: proxy.Overloaded, Unsent: true, Detail: "as many connections to " + p.what + " are open as may be, and as many requests wait for one",
		Fields: proxy.Fields{{Name: "Retry-After", Value: "1"}}}
}

// giveUp has each shard close an idle connection of p, for those who wait for its place. It is for tasks and callbacks of own's shard.
func (d *Direct) giveUp(p *Places, own *shardState) {
	own.giveUp(p)
	for _, st := range d.shards {
		if st != own {
			st.shard.Post(func() { st.giveUp(p) })
		}
	}
}

// wanted reports whether somebody waits.
func (p *Places) wanted() bool { return p != nil && p.waits.Load() > 0 }

// giveUp closes the connection of p that has been idle for longest, if somebody waits for its place.
func (st *shardState) giveUp(p *Places) {
	if !p.wanted() {
		return
	}
	st.shard.Lock()
	var of *target
	at := 0
	for _, t := range st.targets {
		if i := slices.IndexFunc(t.idle, func(x idleConn) bool { return x.places == p }); i >= 0 && (of == nil || t.idle[i].since < of.idle[at].since) {
			of, at = t, i
		}
	}
	var c *http1.ClientConn
	if of != nil {
		c = of.idle[at].conn
		of.idle = slices.Delete(of.idle, at, at+1)
	}
	st.shard.Unlock()
	if c != nil {
		_ = c.Close()
	}
}
