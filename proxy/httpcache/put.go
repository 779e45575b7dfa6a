package httpcache

import (
	"github.com/pillion-proxy/pillion/proxy/httpcache/rules"
)

// put stores a complete entry, unless something happened since its request left that forbids it.
func (c *Cache) put(e *entry, s *site) bool {
	if e.sent < rules.Time(c.purged.Load()) || e.sent < rules.Time(s.changed.Load()) {
		return false
	}
	places := s.places.Load()
	if places != nil && !places.add(e.key, e.sent) {
		return false
	}
	stored, key := false, e.key
	c.change(key, func(r *resource) *resource {
		if r.invalidated != 0 && e.sent <= r.invalidated {
			return r
		}
		stored = true
		if e = r.merged(e); e == nil {
			return r
		}
		kept := r.without(e)
		kept = append(kept, nil)
		copy(kept[1:], kept)
		kept[0] = e
		return &resource{key: r.key, entries: kept[:min(len(kept), maxVariants)], invalidated: r.invalidated}
	})
	if e != nil && e.search != nil {
		c.learnSearch(e, s)
	}
	if places != nil && stored && !c.still(places, key, e, s) {
		return false
	}
	if stored {
		s.counters.stored.Add(1)
		c.save(key)
	}
	return stored
}

// still notes again where an entry is, now that it is there: the note may have gone with an older one that was displaced, and a change may have come meanwhile, for which
// there was nothing to be found. If so the entry goes.
func (c *Cache) still(p *places, text string, e *entry, s *site) bool {
	if e == nil || p.add(text, e.sent) {
		return true
	}
	c.invalidate(text, c.wallNow())
	s.counters.invalidated.Add(1)
	return false
}

// keepFreshened puts an entry with merged fields in the place of the one it was made of, unless these fields say that it must not be kept.
func (c *Cache) keepFreshened(old, e *entry) {
	switch e.policy.Reason {
	case rules.Stored, rules.NoFreshness, rules.Status:
		c.replace(old, e)
	default:
		c.invalidate(old.key, e.policy.Received)
	}
}

// change replaces the resource of a key; f gets an empty one where there is none, and returns what shall be kept, nil for nothing.
func (c *Cache) change(text string, f func(r *resource) *resource) {
	c.store.Update(c.hash([]byte(text)), func(old *resource, ok bool) (*resource, int64, bool) {
		if !ok || old.key != text {
			old = &resource{key: text}
		}
		r := f(old)
		if r == nil || r.empty() {
			return nil, 0, false
		}
		return r, r.size(), true
	})
}

func (r *resource) empty() bool {
	return len(r.entries) == 0 && r.invalidated == 0 && r.pass == 0 && r.search == nil
}

// replace puts e in the place of old, if that is still there.
func (c *Cache) replace(old, e *entry) {
	c.change(old.key, func(r *resource) *resource {
		next := &resource{key: r.key, invalidated: r.invalidated, pass: r.pass, search: r.search}
		found := false
		for _, x := range r.entries {
			if x == old {
				x, found = e, true
			}
			next.entries = append(next.entries, x)
		}
		if !found {
			return r
		}
		return next
	})
}

// forgo says that requests for a key shall not wait for each other for a while.
func (c *Cache) forgo(text string, until rules.Time) {
	c.change(text, func(r *resource) *resource {
		return &resource{key: r.key, entries: r.entries, invalidated: r.invalidated, search: r.search, pass: until}
	})
}

// invalidate forgets what is kept under a key at that time, and lets nobody join what is under way for it.
func (c *Cache) invalidate(text string, at rules.Time) (was bool) {
	c.change(text, func(r *resource) *resource {
		was = len(r.entries) > 0
		return &resource{key: text, invalidated: max(at, r.invalidated), search: r.search} // two changes may come here in another order than they were made
	})
	c.set(c.hash([]byte(text))).drop(text)
	c.unsave(text)
	return was
}
