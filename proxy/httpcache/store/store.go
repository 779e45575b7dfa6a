// Package store keeps values under a bound in bytes, for all shards together. It is divided into stripes, each with a mutex of its own that is held for a
// lookup and never over a wait or a call that waits. Each stripe is a segmented LRU over golang-lru: what was asked for once waits in a
// trial segment, and only what is asked for again moves into the protected one, so that a scan over things that nobody wants twice
// displaces nothing that somebody does (Karedla, Love and Wherry, "Caching strategies to improve disk system performance", 1994).
package store

import (
	"math"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	stripes = 16 // a power of two
	// protectedShare is how much of the bound, in percent, the protected segments may hold.
	protectedShare = 80
	// Overhead is what a value costs beside itself: its place in map and list. Bytes.
	Overhead = 160
	// unbounded is the number of entries of a list: it is the bytes that bound it.
	unbounded = math.MaxInt32
)

// Config says how large it is, and who is told.
type Config struct {
	// Max is the bound in bytes, of values with their Overhead.
	Max int64
}

// Store is safe for concurrent use.
type Store[V any] struct {
	max       atomic.Int64
	used      atomic.Int64
	entries   atomic.Int64
	evictions atomic.Uint64
	turn      atomic.Uint32
	evicted   func(V)
	stripes   [stripes]stripe[V]
}

type stripe[V any] struct {
	mu        sync.Mutex
	trial     *simplelru.LRU[uint64, cell[V]]
	protected *simplelru.LRU[uint64, cell[V]]
	guarded   int64 // bytes in protected
}

type cell[V any] struct {
	value V
	size  int64
}

// Stats is a snapshot.
type Stats struct {
	Bytes, Max int64
	Entries    int64
	Evictions  uint64
}

// New returns an empty Store. evicted, if not nil, is called for each value that is displaced, with no lock held.
func New[V any](cfg Config, evicted func(V)) *Store[V] {
	s := &Store[V]{evicted: evicted}
	s.max.Store(cfg.Max)
	for i := range s.stripes {
		st := &s.stripes[i]
		st.trial, st.protected = list[V](), list[V]()
	}
	return s
}

func list[V any]() *simplelru.LRU[uint64, cell[V]] {
	l, err := simplelru.NewLRU[uint64, cell[V]](unbounded, nil)
	if err != nil {
		panic(err) // cannot happen: the size is positive
	}
	return l
}

func (s *Store[V]) stripe(key uint64) *stripe[V] { return &s.stripes[key%stripes] }

// Get returns the value of key and counts as a use of it.
func (s *Store[V]) Get(key uint64) (V, bool) {
	st := s.stripe(key)
	st.mu.Lock()
	defer st.mu.Unlock()
	if c, ok := st.protected.Get(key); ok {
		return c.value, true
	}
	c, ok := st.trial.Peek(key)
	if !ok {
		return c.value, false
	}
	st.trial.Remove(key)
	st.protect(key, c, s.max.Load()/stripes*protectedShare/100)
	return c.value, true
}

// Peek is Get without counting as a use.
func (s *Store[V]) Peek(key uint64) (V, bool) {
	st := s.stripe(key)
	st.mu.Lock()
	defer st.mu.Unlock()
	c, ok, _ := st.peek(key)
	return c.value, ok
}

// protect moves a cell into the protected segment; what is there for longest goes back on trial.
func (st *stripe[V]) protect(key uint64, c cell[V], most int64) {
	st.protected.Add(key, c)
	st.guarded += c.size
	for st.guarded > most && st.protected.Len() > 1 {
		k, old, _ := st.protected.RemoveOldest()
		st.guarded -= old.size
		st.trial.Add(k, old)
	}
}

// Update replaces the value of key by what change returns, of which size says the bytes; keep false removes it. change is called with the stripe locked: it must be short,
// and neither wait nor call the Store. It does not count as a use.
func (s *Store[V]) Update(key uint64, change func(old V, ok bool) (value V, size int64, keep bool)) {
	st := s.stripe(key)
	st.mu.Lock()
	c, ok, guarded := st.peek(key)
	v, size, keep := change(c.value, ok)
	delta := int64(0)
	if ok {
		delta -= c.size
	}
	if keep {
		size += Overhead
		delta += size
		st.put(key, cell[V]{v, size}, guarded)
		if guarded {
			st.guarded += size - c.size
		}
	} else if ok {
		st.remove(key, c, guarded)
	}
	switch {
	case keep && !ok:
		s.entries.Add(1)
	case ok && !keep:
		s.entries.Add(-1)
	}
	s.used.Add(delta)
	st.mu.Unlock()
	if delta > 0 {
		s.shrink(key)
	}
}

func (st *stripe[V]) peek(key uint64) (c cell[V], ok, guarded bool) {
	if c, ok = st.protected.Peek(key); ok {
		return c, true, true
	}
	c, ok = st.trial.Peek(key)
	return c, ok, false
}

func (st *stripe[V]) put(key uint64, c cell[V], guarded bool) {
	if guarded {
		st.protected.Add(key, c)
		return
	}
	st.trial.Add(key, c)
}

func (st *stripe[V]) remove(key uint64, c cell[V], guarded bool) {
	if guarded {
		st.protected.Remove(key)
		st.guarded -= c.size
		return
	}
	st.trial.Remove(key)
}

// shrink evicts until the bound holds: from each stripe in turn, and from that of key, which may hold nothing but what was just put there, only if all others are empty.
func (s *Store[V]) shrink(key uint64) {
	own := uint32(key % stripes)
	for misses := 0; s.used.Load() > s.max.Load() && misses < 2*stripes; {
		at := s.turn.Add(1) % stripes
		if at == own && misses < stripes {
			misses++
			continue
		}
		v, ok := s.evict(&s.stripes[at])
		if !ok {
			misses++
			continue
		}
		misses = 0
		if s.evicted != nil {
			s.evicted(v)
		}
	}
}

// evict removes the oldest of a stripe, from those on trial if there are any.
func (s *Store[V]) evict(st *stripe[V]) (V, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	_, c, ok := st.trial.RemoveOldest()
	if !ok {
		if _, c, ok = st.protected.RemoveOldest(); !ok {
			return c.value, false
		}
		st.guarded -= c.size
	}
	s.used.Add(-c.size)
	s.entries.Add(-1)
	s.evictions.Add(1)
	return c.value, true
}

// Each calls f for every key that was there when its stripe was looked at, with no lock held; f returning false ends it.
func (s *Store[V]) Each(f func(key uint64, v V) bool) {
	for i := range s.stripes {
		for _, kv := range s.stripes[i].all() {
			if !f(kv.key, kv.value) {
				return
			}
		}
	}
}

type pair[V any] struct {
	key   uint64
	value V
}

func (st *stripe[V]) all() []pair[V] {
	st.mu.Lock()
	defer st.mu.Unlock()
	all := make([]pair[V], 0, st.trial.Len()+st.protected.Len())
	for _, l := range []*simplelru.LRU[uint64, cell[V]]{st.protected, st.trial} {
		for _, k := range l.Keys() {
			c, _ := l.Peek(k)
			all = append(all, pair[V]{k, c.value})
		}
	}
	return all
}

// Resize changes the bound.
func (s *Store[V]) Resize(max int64) {
	s.max.Store(max)
	s.shrink(0)
}

// Max is the bound.
func (s *Store[V]) Max() int64 { return s.max.Load() }

// Stats returns what there is.
func (s *Store[V]) Stats() Stats {
	return Stats{Bytes: s.used.Load(), Max: s.max.Load(), Entries: s.entries.Load(), Evictions: s.evictions.Load()}
}
