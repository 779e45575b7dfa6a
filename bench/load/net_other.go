//go:build !linux

package load

func newNetwork(w *worker) (network, error) { return newGoroutines(w) }
