package task

// Gate lets one task at a time wait for an event of its shard. A Wake before Wait is kept, once.
// Prepare it with Shard.Gate.
type Gate struct {
	impl gateImpl
}

type gateImpl interface {
	wait(deadline Instant) bool
	wake()
}

// Wait returns true after Wake, false once deadline (0: none) has passed. Recheck the condition: wakes may be spurious.
// It must be called by a task of the gate's shard, without the shard's lock.
func (g *Gate) Wait(deadline Instant) bool { return g.impl.wait(deadline) }

// Wake must be called on the gate's shard, by a task or a callback, with or without the shard's lock. It never waits.
func (g *Gate) Wake() { g.impl.wake() }
