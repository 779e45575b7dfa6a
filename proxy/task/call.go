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
