package auto

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/pillion-proxy/pillion/proxy"
)

// Key is a peer, as reached over one network.
type Key struct {
	Peer    netip.AddrPort
	Network string
}

// maxPaths bounds a Memory: the one not used for longest is forgotten.
const maxPaths = 1024

// The pause of a transport that fails: doubled each time, with a quarter of it random.
const (
	firstPause = 10 * time.Second
	maxPause   = 10 * time.Minute
)

// Memory is what was learnt of paths. It is safe for concurrent use. Make it with NewMemory.
type Memory struct {
	now func() time.Time

	mu    sync.Mutex // never held over a wait or a call
	paths *simplelru.LRU[Key, *record]
}

// record is one path. Guarded by Memory.mu.
type record struct {
	worked map[proxy.Transport]time.Time
	failed map[proxy.Transport]*failure
	seen   map[proxy.Transport]sight // later than both, and only shown
}

// sight is how a dial ended from which nothing is learnt: there was no choice, or it may have been the peer that was not there.
type sight struct {
	since time.Time
	err   error // nil if it worked
}

// failure is why a transport is left out, and until when.
type failure struct {
	times int
	since time.Time
	until time.Time
	err   error
}

// NewMemory returns an empty Memory.
func NewMemory() *Memory {
	paths, err := simplelru.NewLRU[Key, *record](maxPaths, nil)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &Memory{now: time.Now, paths: paths}
}

// path returns k's record. mu is held.
func (m *Memory) path(k Key) *record {
	r, ok := m.paths.Get(k)
	if !ok {
		r = &record{worked: make(map[proxy.Transport]time.Time), failed: make(map[proxy.Transport]*failure), seen: make(map[proxy.Transport]sight)}
		m.paths.Add(k, r)
	}
	return r
}

// works reports whether t is known to have worked, and not to have failed since.
func (m *Memory) works(k Key, t proxy.Transport) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.path(k)
	return !r.worked[t].IsZero() && r.failed[t] == nil
}

// failing reports whether t is to be left out for now.
func (m *Memory) failing(k Key, t proxy.Transport) bool { return m.pause(k, t) > 0 }

// pause is how long t is still to be left out.
func (m *Memory) pause(k Key, t proxy.Transport) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.path(k).failed[t]; f != nil {
		return max(0, f.until.Sub(m.now()))
	}
	return 0
}

func (m *Memory) worked(k Key, t proxy.Transport) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.path(k)
	r.worked[t] = m.now()
	delete(r.failed, t)
	delete(r.seen, t)
}

// saw notes how a dial over t ended, for status alone: no choice depends on it.
func (m *Memory) saw(k Key, t proxy.Transport, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.path(k)
	now := sight{m.now(), err}
	switch last, ok := r.seen[t]; {
	case err == nil:
	case ok && last.err != nil:
		now.since = last.since
	case !ok && r.failed[t] != nil:
		now.since = r.failed[t].since
	}
	r.seen[t] = now
}

func (m *Memory) failed(k Key, t proxy.Transport, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failedLocked(m.path(k), t, err)
}

func (m *Memory) failedLocked(r *record, t proxy.Transport, err error) {
	delete(r.seen, t)
	now := m.now()
	f := r.failed[t]
	if f == nil {
		f = &failure{since: now}
		r.failed[t] = f
	}
	if now.Before(f.until) {
		return // said already
	}
	pause := min(maxPause, firstPause<<min(f.times, 10))
	f.times++
	f.err = err
	f.until = now.Add(pause*3/4 + rand.N(pause/4))
}

// Broken notes that t has stopped to work for a peer over every network that was used: its path does not answer any more.
func (m *Memory) Broken(peer netip.AddrPort, t proxy.Transport, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.paths.Keys() {
		if r, ok := m.paths.Peek(k); ok && k.Peer == peer && !r.worked[t].IsZero() {
			m.failedLocked(r, t, err)
		}
	}
}

// State is what is known of one transport.
type State string

// The states.
const (
	Unknown State = "unknown" // never tried
	Works   State = "works"
	Fails   State = "fails"
)

// Knowledge is one transport of a Path.
type Knowledge struct {
	Transport proxy.Transport
	State     State
	Since     time.Time     // of the last success, or of the first of the failures
	Err       error         // Fails: of the last try
	Again     time.Duration // Fails: when it is tried again; 0 if whenever it is wanted
}

// Path is what is known of a peer over one network.
type Path struct {
	Key
	Transports []Knowledge // TCP, QUIC
}

// Paths returns everything that is known, in order of the peer's address.
func (m *Memory) Paths() []Path {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Path
	for _, k := range m.paths.Keys() {
		r, _ := m.paths.Peek(k)
		p := Path{Key: k}
		for _, t := range []proxy.Transport{proxy.TCP, proxy.QUIC} {
			p.Transports = append(p.Transports, m.knowledge(r, t))
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b Path) int {
		if c := a.Peer.Compare(b.Peer); c != 0 {
			return c
		}
		return strings.Compare(a.Network, b.Network)
	})
	return all
}

func (m *Memory) knowledge(r *record, t proxy.Transport) Knowledge {
	k := Knowledge{Transport: t, State: Unknown}
	if at := r.worked[t]; !at.IsZero() {
		k.State, k.Since = Works, at
	}
	if f := r.failed[t]; f != nil {
		k.State, k.Since, k.Err, k.Again = Fails, f.since, f.err, max(0, f.until.Sub(m.now()))
	}
	switch s, ok := r.seen[t]; {
	case ok && s.err == nil:
		k = Knowledge{Transport: t, State: Works, Since: s.since}
	case ok:
		k.State, k.Since, k.Err = Fails, s.since, s.err
	}
	return k
}
