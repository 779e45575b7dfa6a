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
	return g.wait(deadline)
}

// Wake must be called on the gate's shard, by a task or a callback, with or without the shard's lock. It never waits.
func (g *Gate) Wake() {
	g.wake()
}

// waitHere and wakeHere are for gates that are not on a loop.
func (g *Gate) waitHere(deadline Instant) bool {
	if g.g == nil {
		panic("task: Gate.Wait on a Gate that Shard.Gate has not prepared")
	}
	return g.g.wait(deadline)
}

func (g *Gate) wakeHere() {
	if g.g == nil {
		panic("task: Gate.Wake on a Gate that Shard.Gate has not prepared")
	}
	g.g.wake()
}
