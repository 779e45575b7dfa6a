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

// Link is one multiplexed connection to a peer.
type Link interface {
	proxy.RoundTripper
	// AvailableLocked is the number of streams that may be opened now: 0 when it is full or going away. The caller
	// holds the shard's lock.
	AvailableLocked() int
	// Shutdown lets running streams end and takes no new ones.
	Shutdown()
	// Close ends it at once.
	Close()
}

// Config says how a Pool makes Links.
type Config struct {
	Shard task.Shard
	// Dial makes a Link. It runs in a task. closed is to be called once, as a callback or by a task, when the
	// Link has ended; changed whenever Available may have become positive.
	Dial func(s task.Shard, ep *proxy.Endpoint, closed, changed func(Link)) (Link, error)
	// MaxLinks bounds the Links to one peer. If zero, 4.
	MaxLinks int
	// Timeout bounds how long a request waits for a Link. If zero, 10 s.
	Timeout time.Duration
}

// Backoff after a failed dial: doubled each time, with half of it random.
const (
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = 5 * time.Second
)

// Pool keeps the Links of one shard. All methods are for tasks of that shard.
type Pool struct {
	cfg   Config
	peers map[key]*peer // guarded by the shard's lock
	shut  bool
}

// key tells Links apart: the same address with another identity expected is another peer.
type key struct {
	addr     netip.AddrPort
	unix     string
	identity proxy.Identity
}

// peer is guarded by the shard's lock.
type peer struct {
	pool     *Pool
	ep       proxy.Endpoint
	links    []Link
	ended    Link // ended while its dial was still under way
	dialing  bool
	failures int
	until    task.Instant // no dial before
	err      error        // of the last dial
	waiters  []*waiter
}

// waiter is a request that waits for a Link.
type waiter struct {
	gate task.Gate
	err  error // of the dial that it waited for
}

// Canceled implements proxy.Canceled.
func (w *waiter) Canceled(error) { w.gate.Wake() }

// New returns an empty Pool.
func New(cfg Config) *Pool {
	if cfg.MaxLinks == 0 {
		cfg.MaxLinks = 4
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	return &Pool{cfg: cfg, peers: make(map[key]*peer)}
}

// Get returns a Link to ep on which a stream may be opened, dialling if there is none. It waits until the request's deadline, its
// cancellation, or the Pool's Timeout. Its errors are *proxy.Error and Unsent.
func (p *Pool) Get(ep *proxy.Endpoint, req *proxy.Request) (Link, error) {
	s := p.cfg.Shard
	s.Lock()
	pr := p.peer(ep)
	if l := pr.pick(); l != nil {
		s.Unlock()
		return l, nil
	}
	s.Unlock()
	return pr.wait(req)
}

// wait is the slow path of Get.
func (pr *peer) wait(req *proxy.Request) (Link, error) {
	p, s := pr.pool, pr.pool.cfg.Shard
	deadline := s.Now().Add(p.cfg.Timeout)
	if req.Deadline != 0 && req.Deadline < deadline {
		deadline = req.Deadline
	}
	for {
		s.Lock()
		if l := pr.pick(); l != nil {
			s.Unlock()
			return l, nil
		}
		if err := pr.mayWait(); err != nil {
			s.Unlock()
			return nil, err
		}
		w := new(waiter)
		s.Gate(&w.gate)
		if _, err := req.Cancel.Watch(w); err != nil {
			s.Unlock()
			return nil, &proxy.Error{Code: proxy.ClientGone, Detail: "the client left while a link was being made", Unsent: true, Err: err}
		}
		pr.waiters = append(pr.waiters, w)
		s.Unlock()

		inTime := w.gate.Wait(deadline)

		s.Lock()
		req.Cancel.Unwatch(w)
		pr.drop(w)
		err, gone := w.err, req.Cancel.Err()
		s.Unlock()
		switch {
		case gone != nil:
			return nil, &proxy.Error{Code: proxy.ClientGone, Detail: "the client left while a link was being made", Unsent: true, Err: gone}
		case err != nil:
			return nil, err
		case !inTime && req.Deadline != 0 && deadline == req.Deadline:
			return nil, &proxy.Error{Code: proxy.Timeout, Detail: "no link to " + pr.ep.String() + " in time", Unsent: true}
		case !inTime:
			return nil, &proxy.Error{Code: proxy.ConnectFailed, Detail: fmt.Sprintf("no link to %v within %v", &pr.ep, p.cfg.Timeout), Unsent: true}
		}
	}
}

// mayWait starts a dial if one may be made, and says why waiting is of no use otherwise. The caller holds the lock.
func (pr *peer) mayWait() error {
	s := pr.pool.cfg.Shard
	if pr.pool.shut {
		return &proxy.Error{Code: proxy.Draining, Detail: "this sidecar is stopping", Unsent: true}
	}
	if pr.dialing || len(pr.links) >= pr.pool.cfg.MaxLinks {
		return nil
	}
	if s.Now() < pr.until {
		return pr.err
	}
	pr.dialing = true
	s.Go(pr.dial)
	return nil
}

// dial runs in a task of its own, so that the client that asked first may leave without harm to the others.
func (pr *peer) dial() {
	s := pr.pool.cfg.Shard
	var l Link
	err := errors.New("the dial was cut short by a bug")
	defer func() { // also when Dial panics: nobody must wait for ever
		s.Lock()
		pr.dialing = false
		if err != nil {
			pr.failed(err)
		} else {
			pr.failures, pr.until, pr.err = 0, 0, nil
			if l != pr.ended {
				pr.links = append(pr.links, l)
			}
			pr.ended = nil
		}
		waiters := pr.waiters
		pr.waiters = nil
		for _, w := range waiters {
			if err != nil {
				w.err = pr.err
			}
		}
		shut := pr.pool.shut
		s.Unlock()
		for _, w := range waiters {
			w.gate.Wake()
		}
		if shut && l != nil {
			l.Shutdown()
		}
	}()
	l, err = pr.pool.cfg.Dial(s, &pr.ep, pr.closed, pr.changed)
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
	d := min(lastBackoff, firstBackoff<<min(pr.failures, 10))
	pr.failures++
	pr.until = pr.pool.cfg.Shard.Now().Add(d/2 + rand.N(d/2))
}

// closed removes a Link that has ended, and the peer with its last one.
func (pr *peer) closed(l Link) {
	s := pr.pool.cfg.Shard
	s.Lock()
	if i := slices.Index(pr.links, l); i >= 0 {
		pr.links = slices.Delete(pr.links, i, i+1)
	} else if pr.dialing {
		pr.ended = l
	}
	waiters := pr.waiters
	pr.waiters = nil
	s.Unlock()
	for _, w := range waiters { // each looks again, and dials if it must
		w.gate.Wake()
	}
}

// changed wakes who waits for a stream.
func (pr *peer) changed(l Link) {
	s := pr.pool.cfg.Shard
	s.Lock()
	n := min(len(pr.waiters), max(0, l.AvailableLocked()))
	waiters := slices.Clone(pr.waiters[:n])
	pr.waiters = slices.Delete(pr.waiters, 0, n)
	s.Unlock()
	for _, w := range waiters {
		w.gate.Wake()
	}
}

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
	if i := slices.Index(pr.waiters, w); i >= 0 {
		pr.waiters = slices.Delete(pr.waiters, i, i+1)
	}
}

// peer returns the peer of ep. The caller holds the lock.
func (p *Pool) peer(ep *proxy.Endpoint) *peer {
	k := key{ep.Addr, ep.Unix, ep.Identity}
	pr := p.peers[k]
	if pr == nil {
		if len(p.peers) >= maxPeers {
			p.forget()
		}
		pr = &peer{pool: p, ep: *ep}
		p.peers[k] = pr
	}
	return pr
}

// maxPeers is when peers without links, dials and waiters are forgotten.
const maxPeers = 1024

func (p *Pool) forget() {
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
	}
	s.Unlock()
	for _, l := range links {
		l.Shutdown()
	}
}
