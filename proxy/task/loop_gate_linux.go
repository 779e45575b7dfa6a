package task

// loopGate is a Gate on a loop.
type loopGate struct {
	l    *loop     // nil on goroutines
	t    *loopTask // who waits
	kept bool      // a Wake that found nobody
}

func (l *loop) Gate(g *Gate) { g.loop, g.g = loopGate{l: l}, nil }

func (g *Gate) wait(deadline Instant) bool {
	l := g.loop.l
	if l == nil {
		return g.waitHere(deadline)
	}
	t := l.current("Gate.Wait")
	if g.loop.kept {
		g.loop.kept = false
		return true
	}
	if deadline != 0 && l.now >= deadline {
		return false
	}
	if g.loop.t != nil {
		panic("task: two tasks wait at one Gate")
	}
	g.loop.t = t
	t.prepare(deadline)
	t.park()
	g.loop.t = nil
	return !t.timedOut
}

// wake counts even if the deadline has passed in the same turn.
func (g *Gate) wake() {
	l := g.loop.l
	if l == nil {
		g.wakeHere()
		return
	}
	switch t := g.loop.t; {
	case t == nil:
		g.loop.kept = true
	case t.parked:
		l.wake(t)
	default:
		t.timedOut = false
	}
}
