// Package pool keeps the Links of one shard: a few per peer, made when needed, one dial at a time per Endpoint,
// with jittered backoff after a failed one, so that a dead peer costs a request no more than an error. Which Endpoint is wanted is
// decided by upstream; how a Link is made is in h2link.
package pool

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Link is one multiplexed connection to a peer. Its RoundTrip returns proxy.ErrNoStream, or what is that too, where no stream is free.
type Link interface {
	proxy.RoundTripper
	// AvailableLocked is the number of streams that may be opened now: 0 when it is full or going away. The caller
	// holds the shard's lock.
	AvailableLocked() int
	// LeavingLocked reports whether it will never take a stream again. The caller holds the shard's lock.
	LeavingLocked() bool
	// Shutdown lets running streams end and takes no new ones.
	Shutdown()
	// Close ends it at once.
	Close()
}

// Doubtful is a Link that can tell silence from want of room.
type Doubtful interface {
	// DoubtfulLocked reports whether the peer does not answer at present, so that no stream is available. It may be heard again. The caller
	// holds the shard's lock.
	DoubtfulLocked() bool
}

// Doubts reports whether l does not answer at present. The caller holds the shard's lock.
func Doubts(l Link) bool {
	d, ok := l.(Doubtful)
	return ok && d.DoubtfulLocked()
}

// Config says how a Pool makes Links.
type Config struct {
	Shard task.Shard
	// Dial makes a Link. It runs in a task. closed is to be called once, as a callback or by a task, when the
	// Link has ended; changed whenever Available may have become positive.
	Dial func(s task.Shard, ep *proxy.Endpoint, closed, changed func(Link)) (Link, error)
	// MaxLinks bounds the Links to one peer that take streams; those that are going away come on top. If zero, 4.
	MaxLinks int
	// Timeout bounds how long a request waits for a Link. If zero, 10 s.
	Timeout time.Duration
	// MaxBackoff bounds the pause after failed dials, in which requests fail at once. If zero, 1 s, so that a peer that comes back is found while
	// requests ask for it; five times as much where a certificate was refused, which costs both ends a handshake and heals by hand.
	MaxBackoff time.Duration
}

// firstBackoff is the pause after a failed dial: doubled each time, with half of it random.
const firstBackoff = 50 * time.Millisecond

// A stream that becomes free may be left by the request that was woken for it, without a further word to those who still wait. So somebody
// looks this often.
const lookAgain = 100 * time.Millisecond

// How often one request is given another Link: because the one that it got was full after all, which others' progress
// causes, or because the peer did not take it.
const (
	maxFull    = 100
	maxRefused = 3
	maxEarly   = 1 // Links that are going away before they have carried anything, as of a peer that stops, until that counts as a failed dial
)

// Pool keeps the Links of one shard. All methods are for tasks of that shard.
type Pool struct {
	cfg   Config
	peers map[key]*peer // guarded by the shard's lock
	last  *peer         // one of them, which was asked for last, or nil
	shut  bool
}

// key tells Links apart: the same address with another identity expected, or to be reached in another way, is another peer.
type key struct {
	addr     netip.AddrPort
	unix     string
	identity proxy.Identity
	over     proxy.Transport
}

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

// New returns an empty Pool.
func New(cfg Config) *Pool {
	if cfg.MaxLinks == 0 {
		cfg.MaxLinks = 4
	}
	if cfg.MaxBackoff == 0 {
		cfg.MaxBackoff = time.Second
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	return &Pool{cfg: cfg, peers: make(map[key]*peer)}
}

// RoundTrip carries out req over a Link to ep. A Link that is full or going away by the time the request reaches it is replaced by
// another, as long as the request provably never ran and can be said again.
func (p *Pool) RoundTrip(ep *proxy.Endpoint, req *proxy.Request, resp *proxy.Response) error {
	full, refused := 0, 0
	for {
		l, err := p.Get(ep, req)
		if err != nil {
			return err
		}
		err = l.RoundTrip(req, resp)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, proxy.ErrNoStream) && full < maxFull:
			full++
		case refused < maxRefused && repeatable(req, err):
			refused++
		default:
			return err
		}
	}
}

// repeatable reports whether a request that ended in err has not run, and is still whole.
func repeatable(req *proxy.Request, err error) bool {
	var e *proxy.Error
	if req.Body != nil || req.Cancel.Err() != nil || !errors.As(err, &e) || !e.Unsent {
		return false
	}
	return e.Code == proxy.Refused || e.Code == proxy.PeerReset
}

// Silent reports whether the peer at ep is known not to answer at present: whoever can go elsewhere should. Another Link is tried meanwhile.
func (p *Pool) Silent(ep *proxy.Endpoint) bool {
	s := p.cfg.Shard
	s.Lock()
	defer s.Unlock()
	pr := p.peer(ep)
	if pr.pick() != nil || pr.doubtful() == 0 {
		return false
	}
	_ = pr.mayWait()
	return true
}

// Get returns a Link to ep on which a stream may be opened, dialling if there is none. It waits until the request's deadline, its
// cancellation, or the Pool's Timeout. Its errors are *proxy.Error and Unsent.
func (p *Pool) Get(ep *proxy.Endpoint, req *proxy.Request) (Link, error) {
	s := p.cfg.Shard
	s.Lock()
	l := p.peer(ep).pick()
	s.Unlock()
	if l != nil {
		return l, nil
	}
	return p.wait(ep, req)
}

// patience is how long req waits for a Link.
func (p *Pool) patience(req *proxy.Request) time.Duration {
	if t := req.ConnectTimeout; t != 0 {
		return min(t, p.cfg.Timeout)
	}
	return p.cfg.Timeout
}

// wait is the slow path of Get.
func (p *Pool) wait(ep *proxy.Endpoint, req *proxy.Request) (Link, error) {
	s := p.cfg.Shard
	deadline := s.Now().Add(p.patience(req))
	if req.Deadline != 0 && req.Deadline < deadline {
		deadline = req.Deadline
	}
	for {
		s.Lock()
		pr := p.peer(ep)
		l := pr.pick()
		if l != nil {
			if l.AvailableLocked() > 1 {
				pr.wake(1)
			}
			s.Unlock()
			return l, nil
		}
		w, err := pr.join(req)
		if err != nil {
			s.Unlock()
			return nil, err
		}
		s.Unlock()
		inTime := w.gate.Wait(deadline)
		if err := pr.leave(w, req, inTime); err != nil {
			return nil, err
		}
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

// peer returns the peer of ep. The caller holds the lock.
func (p *Pool) peer(ep *proxy.Endpoint) *peer {
	k := key{ep.Addr, ep.Unix, ep.Identity, ep.Transport}
	if pr := p.last; pr != nil && pr.key == k {
		return pr
	}
	pr := p.peers[k]
	if pr == nil {
		if len(p.peers) >= maxPeers {
			p.forget()
		}
		pr = &peer{pool: p, key: k, ep: *ep}
		p.peers[k] = pr
	}
	p.last = pr
	return pr
}

// maxPeers is when peers without links, dials and waiters are forgotten.
const maxPeers = 1024

func (p *Pool) forget() {
	p.last = nil
	for k, pr := range p.peers {
		if len(pr.links) == 0 && !pr.dialing && len(pr.waiters) == 0 {
			delete(p.peers, k)
		}
	}
}

// Each calls f for each Link and its Endpoint, without the shard's lock.
func (p *Pool) Each(f func(ep *proxy.Endpoint, l Link)) {
	type one struct {
		ep *proxy.Endpoint
		l  Link
	}
	var all []one
	p.cfg.Shard.Lock()
	for _, pr := range p.peers {
		for _, l := range pr.links {
			all = append(all, one{&pr.ep, l})
		}
	}
	p.cfg.Shard.Unlock()
	for _, x := range all {
		f(x.ep, x.l)
	}
}

// Shutdown takes no new requests and lets the running ones end.
func (p *Pool) Shutdown() {
	s := p.cfg.Shard
	s.Lock()
	p.shut = true
	var links []Link
	for _, pr := range p.peers {
		links = append(links, pr.links...)
		pr.wakeAll()
	}
	s.Unlock()
	for _, l := range links {
		l.Shutdown()
	}
}
