package pool

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// A stream that becomes free may be left by the request that was woken for it, without a further word to those who still wait. So somebody
// looks this often.
const lookAgain = 100 * time.Millisecond

// peer is guarded by the shard's lock.
type peer struct {
	pool     *Pool
	key      key
	ep       proxy.Endpoint
	links    []Link
	dialing  bool
	failures int
	early    int          // Links in a row that were going away as soon as they were made
	until    task.Instant // no dial before
	err      error        // of the last dial
	waiters  []*waiter    // in the order of their arrival
	timer    task.Timer   // of look; nil when nobody waits
}

// waiter is a request that waits for a Link.
type waiter struct {
	s    task.Shard
	gate task.Gate

	// Guarded by the shard's lock.

	woken  bool           // and taken off the list
	err    error          // of the dial that it waited for
	before proxy.Canceled // who was registered with the request's Cancel
}

// Canceled implements proxy.Canceled.
func (w *waiter) Canceled(err error) {
	w.gate.Wake()
	w.s.Lock()
	before := w.before
	w.s.Unlock()
	if before != nil {
		before.Canceled(err)
	}
}

// join adds req to those who wait for a Link, if waiting is of use. The caller holds the lock.
func (pr *peer) join(req *proxy.Request) (*waiter, error) {
	if err := pr.mayWait(); err != nil {
		return nil, err
	}
	w := &waiter{s: pr.pool.cfg.Shard}
	w.s.Gate(&w.gate)
	before, err := req.Cancel.Watch(w)
	if err != nil {
		return nil, clientGone(err)
	}
	w.before = before
	pr.waiters = append(pr.waiters, w)
	if pr.timer == nil {
		pr.timer = pr.pool.cfg.Shard.After(lookAgain, pr.look)
	}
	return w, nil
}

// leave ends a wait, and says why it was the last one of its request. A request that leaves hands on what it may have been woken for.
func (pr *peer) leave(w *waiter, req *proxy.Request, inTime bool) error {
	s := pr.pool.cfg.Shard
	s.Lock()
	defer s.Unlock()
	if w.before != nil {
		_, _ = req.Cancel.Watch(w.before) // not if it is cancelled: then w has passed that on
	} else {
		req.Cancel.Unwatch(w)
	}
	pr.drop(w)
	err := w.err
	switch gone := req.Cancel.Err(); {
	case gone != nil:
		err = clientGone(gone)
	case err != nil || inTime:
	case req.Deadline != 0 && s.Now() >= req.Deadline:
		err = &proxy.Error{Code: proxy.Timeout, Detail: "no link to " + pr.ep.String() + " in time", Unsent: true}
	default:
		err = &proxy.Error{Code: proxy.ConnectFailed, Detail: fmt.Sprintf("no link to %v within %v", &pr.ep, pr.pool.patience(req)), Unsent: true}
	}
	if err != nil && pr.pick() != nil {
		pr.wake(1)
	}
	return err
}

func clientGone(err error) error {
	return &proxy.Error{Code: proxy.ClientGone, Detail: "the client left while a link was being made", Unsent: true, Err: err}
}

// mayWait starts a dial if one may be made, and says why waiting is of no use otherwise. The caller holds the lock.
func (pr *peer) mayWait() error {
	p := pr.pool
	live := pr.live()
	switch {
	case p.shut:
		return &proxy.Error{Code: proxy.Draining, Detail: "this sidecar is stopping", Unsent: true}
	case pr.dialing || live-pr.doubtful() >= p.cfg.MaxLinks:
		return nil
	case p.cfg.Shard.Now() >= pr.until:
		pr.dialing = true
		p.cfg.Shard.Go(pr.dial)
		return nil
	case live > 0: // a stream may become free
		return nil
	}
	return pr.err
}

// live is the number of Links that take streams, now or later. The caller holds the lock.
func (pr *peer) live() int {
	n := 0
	for _, l := range pr.links {
		if !l.LeavingLocked() {
			n++
		}
	}
	return n
}

// doubtful is how many of live do not answer at present. The caller holds the lock.
func (pr *peer) doubtful() int {
	n := 0
	for _, l := range pr.links {
		if !l.LeavingLocked() && Doubts(l) {
			n++
		}
	}
	return n
}

// attempt is one dial and the life of the Link that comes of it.
type attempt struct {
	pr    *peer
	ended bool // guarded by the shard's lock
}

// dial runs in a task of its own, so that the client that asked first may leave without harm to the others.
func (pr *peer) dial() {
	p, s := pr.pool, pr.pool.cfg.Shard
	a := &attempt{pr: pr}
	var l Link
	err := errors.New("the dial was cut short by a bug")
	defer func() { // also when Dial panics: nobody must wait for ever
		s.Lock()
		pr.dialing = false
		gone := err == nil && (a.ended || l.LeavingLocked())
		if gone && pr.early >= maxEarly {
			err = errors.New("the peer closed the connection as soon as it was made")
		}
		switch {
		case err != nil:
			pr.failed(err)
		case gone:
			pr.early++ // who waits dials again
		default:
			pr.failures, pr.early, pr.until, pr.err = 0, 0, 0, nil
			pr.links = append(pr.links, l)
		}
		if err != nil && pr.live() == 0 {
			for _, w := range pr.waiters {
				w.err = pr.err
			}
		}
		pr.wakeAll()
		shut := p.shut
		s.Unlock()
		if shut && err == nil && !gone {
			l.Shutdown()
		}
	}()
	l, err = p.cfg.Dial(s, &pr.ep, a.closed, pr.changed)
}

// failed notes a failed dial. The caller holds the lock.
func (pr *peer) failed(err error) {
	var known *proxy.Error
	if !errors.As(err, &known) {
		known = &proxy.Error{Code: proxy.ConnectFailed, Detail: "connect to " + pr.ep.String(), Err: err}
	}
	failure := *known
	failure.Unsent = true
	pr.err = &failure
	most := pr.pool.cfg.MaxBackoff
	if failure.Code == proxy.BadIdentity {
		most *= 5
	}
	d := min(most, firstBackoff<<min(pr.failures, 10))
	pr.failures++
	pr.until = pr.pool.cfg.Shard.Now().Add(d/2 + rand.N(d/2))
}

// closed removes a Link that has ended.
func (a *attempt) closed(l Link) {
	pr := a.pr
	s := pr.pool.cfg.Shard
	s.Lock()
	defer s.Unlock()
	a.ended = true
	if i := slices.Index(pr.links, l); i >= 0 {
		pr.links = slices.Delete(pr.links, i, i+1)
	}
	pr.wakeAll() // each looks again, and dials if it must
}

// changed wakes who waits for a stream, or for another Link if l is going away.
func (pr *peer) changed(l Link) {
	s := pr.pool.cfg.Shard
	s.Lock()
	defer s.Unlock()
	if l.LeavingLocked() {
		pr.wakeAll()
		return
	}
	pr.wake(l.AvailableLocked())
}

// look is a callback, for as long as somebody waits.
func (pr *peer) look() {
	s := pr.pool.cfg.Shard
	s.Lock()
	defer s.Unlock()
	pr.timer = nil
	if !pr.dialing {
		for _, l := range pr.links {
			pr.wake(l.AvailableLocked())
		}
	}
	if len(pr.waiters) == 0 {
		return
	}
	_ = pr.mayWait() // dials, if that is possible by now
	pr.timer = s.After(lookAgain, pr.look)
}

// wake lets up to n requests look again, those first that have waited longest. The caller holds the lock.
func (pr *peer) wake(n int) {
	for ; n > 0 && len(pr.waiters) > 0; n-- {
		w := pr.waiters[0]
		pr.waiters[0] = nil
		pr.waiters = pr.waiters[1:]
		w.woken = true
		w.gate.Wake()
	}
}

// wakeAll lets every waiting request look again. The caller holds the lock.
func (pr *peer) wakeAll() { pr.wake(len(pr.waiters)) }

// pick returns the Link with room, the oldest first, so that later ones fall idle and close. The caller holds the lock.
func (pr *peer) pick() Link {
	for _, l := range pr.links {
		if l.AvailableLocked() > 0 {
			return l
		}
	}
	return nil
}

// drop removes w from the waiters. The caller holds the lock.
func (pr *peer) drop(w *waiter) {
	if w.woken {
		return
	}
	if i := slices.Index(pr.waiters, w); i >= 0 {
		pr.waiters = slices.Delete(pr.waiters, i, i+1)
	}
}
