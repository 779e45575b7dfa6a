package balance

import "time"

// Policy is how a Balancer picks.
type Policy int

// The policies.
const (
	PeakEWMA Policy = iota
	LeastRequest
	RoundRobin
	RingHash
	Maglev
)

// Config says how Endpoints are picked. The zero value is usable.
type Config struct {
	Policy Policy
	// Decay is how fast PeakEWMA forgets: after this time a latency counts for a third. If zero, 10 s.
	Decay time.Duration
	// Penalty is how many times its latency an Endpoint counts whose requests all fail. If zero, 10; if negative, 1.
	Penalty float64
	// SlowStart is how long an Endpoint that joins or comes back gets less than its part. If zero, not at all.
	SlowStart time.Duration
	// Zone is where this sidecar runs; "" prefers no zone.
	Zone string
	// Spill is how many times as many requests an Endpoint of the own zone may have in flight as one elsewhere before that one is taken. If zero, 10; if negative, any number.
	Spill float64
	// Bound is how many times its part of the load an Endpoint gets by RingHash and Maglev. If zero, 1.25; if negative, there is no bound.
	Bound float64
	// Label is the label by whose value Pick.Subset chooses; "" for none. If Strict, a value that no Endpoint has leads nowhere, else to all.
	Label  string
	Strict bool
	// Seed makes what is random repeatable. If zero, it is not.
	Seed uint64
}

func (c Config) fill() Config {
	if c.Decay == 0 {
		c.Decay = 10 * time.Second
	}
	if c.Penalty == 0 {
		c.Penalty = 10
	}
	c.Penalty = max(1, c.Penalty)
	if c.Spill == 0 {
		c.Spill = 10
	}
	if c.Bound == 0 {
		c.Bound = 1.25
	}
	return c
}
