package peers

import "github.com/pillion-proxy/pillion/bench/meter"

// Usage and Memory are those of a pair.
type (
	Usage  = meter.Usage
	Memory = meter.Memory
)
