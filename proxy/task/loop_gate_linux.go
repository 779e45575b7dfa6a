package task

// loopGate is a Gate on a loop.
type loopGate struct {
	l    *loop
	t    *loopTask // who waits
	kept bool      // a Wake that found nobody
}

func (l *loop) Gate(g *Gate) { g.loop, g.g = loopGate{l: l}, nil }

func (g *loopGate) ready() bool { return g.l != nil }

func (g *loopGate) wait(deadline Instant) bool {
	l := g.l
	t := l.current("Gate.Wait")
	if g.kept {
		g.kept = false
		return true
	}
	if deadline != 0 && l.now >= deadline {
		return false
	}
	if g.t != nil {
		panic("task: two tasks wait at one Gate")
	}
	g.t = t
	woken := l.wait(t, deadline)
	g.t = nil
	return woken
}

// wake counts even if the deadline has passed in the same turn.
func (g *loopGate) wake() {
	switch t := g.t; {
	case t == nil:
		g.kept = true
	case t.parked:
		g.l.wake(t)
	default:
		t.timedOut = false
	}
}
