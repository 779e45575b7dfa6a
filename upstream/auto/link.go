package auto

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/upstream/pool"
)

var _ pool.Link = (*Link)(nil)

// Link is a Link that may go on over another transport. All methods are for tasks and callbacks of its shard.
type Link struct {
	// Static after construction.
	r               *race
	closed, changed func(pool.Link)

	now atomic.Pointer[runner] // where new streams go; written under the shard's lock

	// Guarded by the shard's lock.
	before  []*runner // connections that end with their last stream
	gone    bool      // closed was called, or will be by nobody
	leaving bool      // Shutdown or Close was called
	timer   task.Timer
	moves   int
}

func newLink(r *race, first *runner, closed, changed func(pool.Link)) (*Link, error) {
	l := &Link{r: r, closed: closed, changed: changed}
	l.now.Store(first)
	r.s.Lock()
	defer r.s.Unlock()
	if first.over {
		return nil, errShortLived
	}
	first.of = l
	l.plan()
	return l, nil
}

// Inner is the connection that new streams go to.
func (l *Link) Inner() pool.Link { return l.now.Load().link }

// Moves is how often the Link has changed its transport.
func (l *Link) Moves() int {
	l.r.s.Lock()
	defer l.r.s.Unlock()
	return l.moves
}

// RoundTrip implements proxy.RoundTripper.
func (l *Link) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	return l.Inner().RoundTrip(req, resp)
}

// AvailableLocked implements pool.Link.
func (l *Link) AvailableLocked() int {
	if l.leaving {
		return 0
	}
	return l.Inner().AvailableLocked()
}

// LeavingLocked implements pool.Link.
func (l *Link) LeavingLocked() bool { return l.leaving || l.Inner().LeavingLocked() }

// DoubtfulLocked implements pool.Doubtful.
func (l *Link) DoubtfulLocked() bool { return pool.Doubts(l.Inner()) }

// Shutdown implements pool.Link.
func (l *Link) Shutdown() {
	for _, w := range l.leave() {
		w.link.Shutdown()
	}
}

// Close implements pool.Link.
func (l *Link) Close() {
	for _, w := range l.leave() {
		w.link.Close()
	}
}

// leave returns all connections, the present one last.
func (l *Link) leave() []*runner {
	l.r.s.Lock()
	defer l.r.s.Unlock()
	l.leaving = true
	l.stop()
	return append(slices.Clone(l.before), l.now.Load())
}

// stop ends the timer. The lock is held.
func (l *Link) stop() {
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}

// ended is told when one of the connections has.
func (l *Link) ended(w *runner) {
	l.r.s.Lock()
	current := w == l.now.Load() && !l.gone
	if current {
		l.gone = true
		l.stop()
	}
	l.before = slices.DeleteFunc(l.before, func(b *runner) bool { return b == w })
	l.r.s.Unlock()
	if current {
		l.closed(l)
	}
}

// plan lets the preferred transport be tried once its pause is over, if it is not the one in use. The lock is held.
func (l *Link) plan() {
	d := l.r.d
	if l.now.Load().t == d.cfg.Prefer || l.gone || l.leaving {
		return
	}
	wait := max(d.cfg.Memory.pause(l.r.key, d.cfg.Prefer), time.Second)
	l.timer = l.r.s.After(wait, func() { l.r.s.Go(l.better) })
}

// better is the task that tries the preferred transport.
func (l *Link) better() {
	d, s := l.r.d, l.r.s
	w := &runner{r: l.r, t: d.cfg.Prefer}
	link, err := d.dial(w.t)(s, &l.r.ep, w.closed, w.changed)
	s.Lock()
	if err == nil && w.over {
		err = errShortLived
	}
	if err != nil {
		if !badIdentity(err) {
			d.cfg.Memory.failed(l.r.key, w.t, err)
		}
		l.plan()
		s.Unlock()
		return
	}
	d.cfg.Memory.worked(l.r.key, w.t)
	if l.gone || l.leaving {
		s.Unlock()
		link.Close()
		return
	}
	old := l.now.Load()
	w.done, w.link, w.of = true, link, l
	l.now.Store(w)
	l.moves++
	if !old.over {
		l.before = append(l.before, old)
	}
	s.Unlock()
	old.link.Shutdown()
	l.changed(l)
}
