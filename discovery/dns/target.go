package dns

import (
	"net/netip"
	"time"
)

// target is what is remembered of one host between two lookups.
type target struct {
	good  [families][]netip.Addr // the last good answers
	known bool                   // there was an answer
	none  absence
}

// absence counts "there is no such name" in a row.
type absence struct {
	times int
	since time.Time
}

// heard counts one more, and reports whether it is to be believed: it has lasted, and often enough.
func (a *absence) heard(c *Config, now time.Time) bool {
	if a.times++; a.times == 1 {
		a.since = now
	}
	return a.times >= negatives && now.Sub(a.since) >= c.Grace
}

// take takes what was found. news is false if that says nothing.
func (t *target) take(c *Config, found result, now time.Time) (news bool) {
	switch {
	case found.none():
		if !t.none.heard(c, now) && t.known {
			return false
		}
		t.good, t.known = [families][]netip.Addr{}, true
		return true
	case found.dead():
		return false
	}
	t.none = absence{}
	for i, f := range found {
		if f.err == nil {
			t.good[i] = f.addrs
		}
	}
	t.known = true
	return true
}

// addrs is the union of the last good answers.
func (t *target) addrs() []netip.Addr {
	var all []netip.Addr
	for _, family := range t.good {
		all = append(all, family...)
	}
	return all
}
