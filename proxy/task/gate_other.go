//go:build !linux

package task

// loopGate is a Gate on a loop, of which there is none here.
type loopGate struct{}

func (g *Gate) wait(deadline Instant) bool { return g.waitHere(deadline) }
func (g *Gate) wake()                      { g.wakeHere() }
