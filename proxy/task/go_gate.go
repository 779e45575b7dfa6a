package task

import "time"

// goGate is a Gate on goroutines: a channel with one slot.
type goGate struct {
	s    *goShard
	slot chan struct{}

	// Owned by the waiting task.
	timer *time.Timer
}

func (s *goShard) Gate(g *Gate) {
	if g.g == nil || g.g.s != s {
		g.g = &goGate{s: s, slot: make(chan struct{}, 1)}
		return
	}
	select {
	case <-g.g.slot:
	default:
	}
}

func (g *goGate) wake() {
	select {
	case g.slot <- struct{}{}:
	default:
	}
}

func (g *goGate) wait(deadline Instant) bool {
	select {
	case <-g.slot:
		return true
	default:
	}
	var expired <-chan time.Time
	if deadline != 0 {
		d := deadline.Sub(Now())
		if d <= 0 {
			return false
		}
		if g.timer == nil {
			g.timer = time.NewTimer(d)
		} else {
			g.timer.Reset(d)
		}
		defer g.timer.Stop()
		expired = g.timer.C
	}
	select {
	case <-g.slot:
		return true
	case <-expired:
		return false
	case <-g.s.rt.unwind:
		g.s.rt.unwindTask()
		return false
	}
}
