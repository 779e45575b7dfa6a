package auto

import (
	"errors"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/upstream/pool"
)

// race is one choice between two transports. Its fields below gate are guarded by the shard's lock.
type race struct {
	d    *Dialer
	s    task.Shard
	ep   proxy.Endpoint
	key  Key
	gate task.Gate // where run waits

	runners map[proxy.Transport]*runner
	won     *runner
	left    bool // run has returned
}

// runner is one transport in a race, and the Link that comes of it.
type runner struct {
	r    *race
	t    proxy.Transport
	done bool
	err  error
	link pool.Link
	over bool  // the Link has ended
	of   *Link // whose it is, once it has won
}

var errShortLived = errors.New("the peer closed the connection as soon as it was made")

// run returns the winner, in a task.
func (r *race) run() (*runner, error) {
	first, alone, patient := r.plan()
	r.runners = make(map[proxy.Transport]*runner, 2)
	r.start(first)
	r.await(r.s.Now().Add(alone), first)
	if w := r.winner(); w != nil {
		return w, nil
	}
	// The first has failed, or takes its time. One that lately failed itself is started only in the former case.
	second := other(first)
	if !patient || r.failed(first) {
		r.start(second)
	} else {
		r.await(0, first)
		if w := r.winner(); w != nil {
			return w, nil
		}
		r.start(second)
	}
	return r.finish(first, second)
}

// finish waits for either, both being under way.
func (r *race) finish(first, second proxy.Transport) (*runner, error) {
	until := task.Instant(0)
	for {
		w := r.winner()
		switch {
		case w != nil:
			return w, nil
		case r.failed(first) && r.failed(second), until != 0 && r.s.Now() >= until:
			return nil, r.lost(first, second)
		}
		if t := r.hope(first, second); until == 0 && t != "" {
			if !r.d.cfg.Memory.works(r.key, t) {
				return nil, r.lost(first, second)
			}
			until = r.s.Now().Add(4 * r.d.cfg.HeadStart)
		}
		r.await(until, first, second)
	}
}

// hope returns the transport that is left where the machine said, over the other one, that nobody listens. It goes on, for what
// may be learnt, but only if it has worked before is it waited for, and not long.
func (r *race) hope(first, second proxy.Transport) proxy.Transport {
	switch {
	case r.hopeless(first):
		return second
	case r.hopeless(second):
		return first
	}
	return ""
}

// plan says which transport goes first, how long it is alone, and whether the other one is started only once the first has failed.
func (r *race) plan() (first proxy.Transport, alone time.Duration, patient bool) {
	m := r.d.cfg.Memory
	first = r.d.cfg.Prefer
	if m.failing(r.key, first) && !m.failing(r.key, other(first)) {
		first = other(first)
	}
	alone = r.d.cfg.HeadStart
	if m.works(r.key, first) {
		alone *= 4
	}
	return first, alone, m.failing(r.key, other(first))
}

// start begins a runner.
func (r *race) start(t proxy.Transport) {
	w := &runner{r: r, t: t}
	r.s.Lock()
	r.runners[t] = w
	r.s.Unlock()
	r.s.Go(w.run)
}

// await waits until one of ts has made a Link, all of them have failed or one of them has, or until the deadline.
func (r *race) await(deadline task.Instant, ts ...proxy.Transport) {
	r.s.Lock()
	defer r.s.Unlock()
	before := r.ended(ts)
	for r.won == nil && r.ended(ts) == before {
		if before == len(ts) {
			return
		}
		r.s.Unlock()
		inTime := r.gate.Wait(deadline)
		r.s.Lock()
		if !inTime {
			return
		}
	}
}

func (r *race) ended(ts []proxy.Transport) int {
	n := 0
	for _, t := range ts {
		if w := r.runners[t]; w != nil && w.done {
			n++
		}
	}
	return n
}

// winner returns who has won; after that, or lost, nobody else can.
func (r *race) winner() *runner {
	r.s.Lock()
	defer r.s.Unlock()
	if r.won != nil {
		r.left = true
	}
	return r.won
}

func (r *race) failed(t proxy.Transport) bool {
	r.s.Lock()
	defer r.s.Unlock()
	w := r.runners[t]
	return w != nil && w.done && w.err != nil
}

func (r *race) hopeless(t proxy.Transport) bool {
	r.s.Lock()
	defer r.s.Unlock()
	w := r.runners[t]
	return w != nil && w.done && refused(w.err)
}

// lost ends a race without a winner, and says why: what names a reason, or else what TCP met.
func (r *race) lost(first, second proxy.Transport) error {
	r.s.Lock()
	defer r.s.Unlock()
	r.left = true
	var err error
	for _, t := range []proxy.Transport{proxy.TCP, first, second} {
		w := r.runners[t]
		if w == nil || w.err == nil {
			continue
		}
		if err == nil || badIdentity(w.err) && !badIdentity(err) {
			err = w.err
		}
	}
	return err
}

// run is the task of one transport. It outlives the race: what it learns is kept.
func (w *runner) run() {
	r := w.r
	err := errors.New("the dial was cut short by a bug")
	var l pool.Link
	defer func() {
		r.s.Lock()
		if err == nil && w.over {
			err = errShortLived
		}
		w.done, w.err, w.link = true, err, l
		wins := err == nil && r.won == nil && !r.left
		if wins {
			r.won = w
		}
		r.learn()
		r.s.Unlock()
		r.gate.Wake()
		if err == nil && !wins {
			l.Close() // the other one was quicker
		}
	}()
	l, err = r.d.dial(w.t)(r.s, &r.ep, w.closed, w.changed)
}

// learn keeps what is known by now. A transport that fails alone has failed for a reason of its own; where the other one has failed too, or was
// not tried, it may be the peer, and the failure is only shown. The lock is held.
func (r *race) learn() {
	m := r.d.cfg.Memory
	for t, w := range r.runners {
		if !w.done {
			continue
		}
		o := r.runners[other(t)]
		switch {
		case w.err == nil:
			m.worked(r.key, t)
		case o != nil && o.done && o.err == nil && !badIdentity(w.err):
			m.failed(r.key, t, w.err)
		default:
			m.saw(r.key, t, w.err)
		}
	}
}

func (w *runner) closed(pool.Link) {
	w.r.s.Lock()
	w.over = true
	of := w.of
	w.r.s.Unlock()
	if of != nil {
		of.ended(w)
	}
}

func (w *runner) changed(pool.Link) {
	w.r.s.Lock()
	of := w.of
	w.r.s.Unlock()
	if of != nil {
		of.changed(of)
	}
}
