package httpcache

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"sync"

	"github.com/pillion-proxy/pillion/proxy/httpcache/rules"
)

// digest stands for a path, or a surrogate key, in what sidecars tell each other: who does not know the path learns nothing from it.
type digest [16]byte

func digestOf(text string) digest {
	sum := sha256.Sum256([]byte(text))
	return digest(sum[:16])
}

// parseDigest reads what digest.text has written.
func parseDigest(text string) (d digest, ok bool) {
	if len(text) != hex.EncodedLen(len(d)) {
		return d, false
	}
	_, err := hex.Decode(d[:], []byte(text))
	return d, err == nil
}

// maxChanged is how many paths that have changed, and of which nothing is kept, are remembered; past it, answers that were asked for before the oldest are not stored.
const maxChanged = 4096

// places finds what is kept of a service by path, whatever the authority, and knows when each path has changed. A service has one if its changes are told by or to peers.
type places struct {
	mu      sync.Mutex // never held over a wait
	all     map[digest]*place
	changed []digest   // in their order
	floor   rules.Time // what was asked for before is not stored
}

// place is one path.
type place struct {
	keys    []string
	changed rules.Time
}

func newPlaces() *places { return &places{all: make(map[digest]*place)} }

// index returns the site's places. From the first call on what is stored is in them.
func (c *Cache) index(s *site) *places {
	if p := s.places.Load(); p != nil {
		return p
	}
	p := newPlaces()
	if !s.places.CompareAndSwap(nil, p) {
		return s.places.Load()
	}
	c.indexes.Store(true)
	c.store.Each(func(_ uint64, r *resource) bool {
		if len(r.entries) > 0 && siteOf(r.key) == s.name {
			p.add(r.key, r.entries[0].sent)
		}
		return true
	})
	return p
}

// add notes that something is kept under a key. It returns false if its path has changed since it was asked for.
func (p *places) add(text string, sent rules.Time) bool {
	d := digestOf(pathOf(text))
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.all[d]
	if at == nil {
		at = &place{}
		p.all[d] = at
	}
	if !slices.Contains(at.keys, text) {
		at.keys = append(at.keys, text)
	}
	return sent > at.changed && sent >= p.floor
}

// change notes that a path has changed and returns the keys under which something may be kept.
func (p *places) change(d digest, now rules.Time) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.all[d]
	if at == nil {
		at = &place{}
		p.all[d] = at
	}
	if at.changed == 0 {
		p.changed = append(p.changed, d)
		p.trimLocked()
	}
	at.changed = max(at.changed, now)
	return slices.Clone(at.keys)
}

// trimLocked forgets the oldest changes past the bound.
func (p *places) trimLocked() {
	if len(p.changed) <= maxChanged {
		return
	}
	for _, d := range p.changed[:maxChanged/4] {
		at := p.all[d]
		p.floor = max(p.floor, at.changed)
		if at.changed = 0; len(at.keys) == 0 {
			delete(p.all, d)
		}
	}
	p.changed = slices.Clone(p.changed[maxChanged/4:])
}

// drop notes that nothing is kept under a key any more, if kept, which is called with the lock held, does not know better.
func (p *places) drop(text string, kept func() bool) {
	d := digestOf(pathOf(text))
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.all[d]
	if at == nil || kept() {
		return
	}
	at.keys = slices.DeleteFunc(at.keys, func(k string) bool { return k == text })
	if len(at.keys) == 0 && at.changed == 0 {
		delete(p.all, d)
	}
}

// evicted is told of what the store has displaced.
func (c *Cache) evicted(r *resource) {
	if !c.indexes.Load() {
		return
	}
	if p := c.site(siteOf(r.key)).places.Load(); p != nil {
		p.drop(r.key, func() bool {
			_, ok := c.store.Peek(c.hash([]byte(r.key)))
			return ok
		})
	}
}

// changedPath forgets all that is kept of a service under a path, and lets nobody join what is under way for it.
func (c *Cache) changedPath(s *site, d digest, at rules.Time) (n int) {
	for _, k := range c.index(s).change(d, at) {
		if c.invalidate(k, at) {
			n++
		}
	}
	for i := range c.flights {
		c.flights[i].dropIf(func(key string) bool { return siteOf(key) == s.name && digestOf(pathOf(key)) == d })
	}
	s.counters.invalidated.Add(uint64(n))
	return n
}

// changedTag forgets all that is kept of a service with a surrogate key. It looks at everything.
func (c *Cache) changedTag(s *site, d digest) {
	has := func(e *entry) bool {
		return slices.ContainsFunc(e.policy.Tags, func(t string) bool { return digestOf(t) == d })
	}
	n := c.purge(func(r *resource) bool { return siteOf(r.key) == s.name && slices.ContainsFunc(r.entries, has) })
	n += c.sweep(func(text string, data []byte) bool {
		return siteOf(text) == s.name && slices.ContainsFunc(decode(text, data), has)
	})
	s.counters.invalidated.Add(uint64(n))
}

// changedAll forgets all that is kept of a service.
func (c *Cache) changedAll(s *site) {
	n := c.purge(func(r *resource) bool { return siteOf(r.key) == s.name })
	n += c.sweep(func(text string, _ []byte) bool { return siteOf(text) == s.name })
	s.counters.invalidated.Add(uint64(n))
}
