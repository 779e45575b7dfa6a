// Package pool keeps the Links of one shard: a few per peer, made when needed, one dial at a time per Endpoint,
// with jittered backoff after a failed one, so that a dead peer costs a request no more than an error. Which Endpoint is wanted is
// decided by upstream; how a Link is made is in h2link.
package pool

import (
	"errors"
	"net/netip"
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
	peers map[key]*peer   // guarded by the shard's lock
	last  *peer           // one of them, which was asked for last, or nil
	by    *proxy.Endpoint // by which it was asked for
	shut  bool
}

// key tells Links apart: the same address with another identity expected, or to be reached in another way, is another peer.
type key struct {
	addr     netip.AddrPort
	unix     string
	identity proxy.Identity
	over     proxy.Transport
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

// peer returns the peer of ep. The caller holds the lock.
func (p *Pool) peer(ep *proxy.Endpoint) *peer {
	if ep == p.by && p.last != nil {
		return p.last
	}
	k := key{ep.Addr, ep.Unix, ep.Identity, ep.Transport}
	pr := p.last
	if pr == nil || pr.key != k {
		pr = p.peers[k]
	}
	if pr == nil {
		if len(p.peers) >= maxPeers {
			p.forget()
		}
		pr = &peer{pool: p, key: k, ep: *ep}
		p.peers[k] = pr
	}
	p.last, p.by = pr, ep
	return pr
}

// maxPeers is when peers without links, dials and waiters are forgotten.
const maxPeers = 1024

func (p *Pool) forget() {
	p.last, p.by = nil, nil
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
