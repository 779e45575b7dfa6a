package task

import "context"

// Call runs f as a callback on s and waits for it, or until ctx ends; then f may still run later. It is for foreign
// goroutines only: a task that called it would stop its own shard.
func Call(ctx context.Context, s Shard, f func()) error {
	done := make(chan struct{})
	s.Post(func() {
		defer close(done)
		f()
	})
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Start is Shard.Go for whoever is not on s: it runs f in a task of s, from any goroutine.
func Start(s Shard, f func()) {
	if g, ok := s.(*goShard); ok {
		g.Go(f)
		return
	}
	s.Post(func() { s.Go(f) })
}

// Waker returns Gate.Wake for whoever is not on s: a function that wakes g, a Gate of s, from any goroutine. What a loop is told
// in this way within one turn costs it one interruption.
func Waker(s Shard, g *Gate) func() {
	wake := g.Wake
	if _, ok := s.(*goShard); ok {
		return wake
	}
	return func() { s.Post(wake) }
}

// HandOver is called by a task of s, or a callback, that has given goroutines something to do. A loop then lets these go first, once, before it sleeps:
// the scheduler takes a goroutine that was made ready last from nobody who seems to run, as a loop does in its sleep.
func HandOver(s Shard) {
	if h, ok := s.(interface{ handOver() }); ok {
		h.handOver()
	}
}
