package task

// Gate lets one task at a time wait for an event of its shard. A Wake before Wait is kept, once.
// Prepare it with Shard.Gate. It must not be copied after that.
type Gate struct {
	loop loopGate
	g    *goGate // set on goroutines
}

// Wait returns true after Wake, false once deadline (0: none) has passed. Recheck the condition: wakes may be spurious.
// It must be called by a task of the gate's shard, without the shard's lock.
func (g *Gate) Wait(deadline Instant) bool {
	switch {
	case g.loop.ready():
		return g.loop.wait(deadline)
	case g.g != nil:
		return g.g.wait(deadline)
	}
	panic("task: Gate.Wait on a Gate that Shard.Gate has not prepared")
}

// Wake must be called on the gate's shard, by a task or a callback, with or without the shard's lock. It never waits.
func (g *Gate) Wake() {
	switch {
	case g.loop.ready():
		g.loop.wake()
	case g.g != nil:
		g.g.wake()
	default:
		panic("task: Gate.Wake on a Gate that Shard.Gate has not prepared")
	}
}
