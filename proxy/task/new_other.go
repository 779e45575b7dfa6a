//go:build !linux

package task

// New returns the best runtime of this platform, not yet running.
func New(c Config) (Runtime, error) { return NewGoroutines(c), nil }
