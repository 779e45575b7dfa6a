package health

import "time"

// Config says when an Endpoint is ejected. The zero value is usable, and has the defaults of Envoy but for Share.
type Config struct {
	// Consecutive is how many failures in a row eject. If zero, 5; if negative, none do.
	Consecutive int
	// Interval is the time over which rates and latencies are compared. If zero, 10 s.
	Interval time.Duration
	// Base is how long the first ejection lasts; the n-th one in a row n times that, at most Most. If zero, 30 s and 5 minutes.
	Base, Most time.Duration
	// Share is the part of all Endpoints that may be ejected at a time, though always one. If zero, 0.3; if negative, none is ever ejected.
	Share float64
	// MinEndpoints is how many Endpoints must have had MinRequests each in an Interval for a comparison. If zero, 5 and 100.
	MinEndpoints, MinRequests int
	// Deviation is how many standard deviations below the mean success rate eject. If zero, 1.9; if negative, rates are not compared.
	Deviation float64
	// Latency is how many times the median latency (to the head of the answer) ejects. If zero, latencies are not compared.
	Latency float64
	// Panic is the part of the Endpoints that can be reached below which ejections and checks are ignored. If zero, 0.5; if negative, they never are.
	Panic float64
	// Healthy and Unhealthy are how many checks in a row must succeed or fail to change the opinion. If zero, 2 and 3.
	Healthy, Unhealthy int
}

// fill returns c with its defaults.
func (c Config) fill() Config {
	or(&c.Consecutive, 5)
	or(&c.Interval, 10*time.Second)
	or(&c.Base, 30*time.Second)
	or(&c.Most, 5*time.Minute)
	or(&c.Share, 0.3)
	or(&c.MinEndpoints, 5)
	or(&c.MinRequests, 100)
	or(&c.Deviation, 1.9)
	or(&c.Panic, 0.5)
	or(&c.Healthy, 2)
	or(&c.Unhealthy, 3)
	return c
}

func or[T int | float64 | time.Duration](v *T, usual T) {
	if *v == 0 {
		*v = usual
	}
}
