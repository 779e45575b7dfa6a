//go:build !linux

package task

// loopGate is a Gate on a loop, of which there is none here.
type loopGate struct{}

func (*loopGate) ready() bool       { return false }
func (*loopGate) wait(Instant) bool { return false }
func (*loopGate) wake()             {}
