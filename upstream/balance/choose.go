package balance

import "math/bits"

// standing is how good the health of an Endpoint must be.
type standing int

const (
	usable    standing = iota
	reachable          // though it is ejected or sick
	whoever            // though no connection could be made
)

// fits reports whether st may be picked.
func (b *Balancer) fits(st *State, p *Pick, need standing) bool {
	if (len(p.Tried) > 0 || len(p.Avoid) > 0) && p.avoided(st) {
		return false
	}
	switch need {
	case usable:
		return st.Health.Usable(p.Now)
	case reachable:
		return st.Health.Reachable(p.Now)
	default:
		return true
	}
}

// maxDraws bounds how often one is drawn that is out, or was tried, before all are looked at.
const maxDraws = 8

// nearFirst chooses among those who are usable, the near ones first.
func (b *Balancer) nearFirst(g *group, p *Pick) *State {
	l := &g.live
	if g.nearPart == 0 || b.hashes() && p.Keyed || g.nearPart < 1 && !b.chance(g.nearPart) {
		return b.in(g, l, p, usable)
	}
	st := b.in(g, &g.near, p, usable)
	if st == nil {
		return b.in(g, l, p, usable)
	}
	if b.conf.Spill > 0 && st.pending > 0 && !p.Stream {
		if far := b.draw(l); !far.near && float64(st.pending)/st.part >= b.conf.Spill*(1+float64(far.pending)/far.part) && b.fits(far, p, usable) {
			return far
		}
	}
	return st
}

func (b *Balancer) hashes() bool { return b.conf.Policy == RingHash || b.conf.Policy == Maglev }

// in chooses one of l, or returns nil if none fits.
func (b *Balancer) in(g *group, l *list, p *Pick, need standing) *State {
	switch {
	case b.hashes() && p.Keyed && g.table != nil:
		if st := b.hashed(g, p, need); st != nil {
			return st
		}
	case b.conf.Policy == RoundRobin && !p.Stream:
		return b.rotate(g, l, p, need)
	}
	return b.twoChoices(l, p, need)
}

// draw returns one at random, by weight.
func (b *Balancer) draw(l *list) *State { return l.at(b.below(l.total())) }

// twoChoices returns the better of two. Without weights they are two different ones; with them a heavy one may well be drawn twice.
func (b *Balancer) twoChoices(l *list, p *Pick, need standing) *State {
	n := len(l.states)
	if n == 0 {
		return nil
	}
	if n == 1 {
		if st := l.states[0]; b.fits(st, p, need) {
			return st
		}
		return nil
	}
	var first *State
	for range maxDraws {
		st := b.draw(l)
		if st == first {
			if len(l.sums) > 0 {
				return st
			}
			continue
		}
		if f := st.started(p.Now); !b.fits(st, p, need) || f < 1 && !b.chance(f) {
			b.stats.Redraws++
			continue
		}
		if first != nil {
			return better(first, st, p)
		}
		first = st
	}
	if first != nil {
		return first
	}
	return b.scan(l.states, p, need)
}

// better returns the cheaper one, a if they cost the same.
func better(a, b *State, p *Pick) *State {
	if b.cost(p.Now, p.Stream) < a.cost(p.Now, p.Stream) {
		return b
	}
	return a
}

// scan looks at all.
func (b *Balancer) scan(states []*State, p *Pick, need standing) *State {
	b.stats.Scans++
	n := len(states)
	if n == 0 {
		return nil
	}
	var best *State
	start := b.below(n)
	for i := range n {
		st := states[(start+i)%n]
		if !b.fits(st, p, need) {
			continue
		}
		if best == nil || better(best, st, p) == st {
			best = st
		}
	}
	return best
}

// golden is 1<<64 divided by the golden ratio: its multiples are spread as evenly as can be.
const golden = 0x9e3779b97f4a7c15

// rotate takes one after the other.
func (b *Balancer) rotate(g *group, l *list, p *Pick, need standing) *State {
	n := l.total()
	for range min(n, 2*maxDraws) {
		var x int
		if len(l.sums) == 0 {
			g.turn++
			x = int(g.turn % uint64(n))
		} else {
			g.turn += golden
			hi, _ := bits.Mul64(g.turn, uint64(n))
			x = int(hi)
		}
		st := l.at(x)
		if f := st.started(p.Now); !b.fits(st, p, need) || f < 1 && !b.chance(f) {
			b.stats.Redraws++
			continue
		}
		return st
	}
	return b.scan(l.states, p, need)
}
