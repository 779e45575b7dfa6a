package config

import "time"

// Retry says when a request is sent again.
type Retry struct {
	// How often a request is tried in all; 1 is never again. What provably never ran is repeated whatever it is (no connection, refused by the peer
	// before it ran), GET, HEAD, OPTIONS, TRACE, PUT and DELETE also after 502, 503, 504 and broken connections. Each attempt goes to another endpoint while there is one.
	Attempts int `yaml:"attempts" default:"3" min:"1" max:"10"`
	// How many of the service's requests of the last ten seconds may be repeated, so that retries do not become the load that they suffer from.
	Budget Percent `yaml:"budget" default:"20%" min:"0%" max:"100%"`
	// How many retries per second there may be besides budget, for services that are seldom called.
	Floor int `yaml:"floor" default:"10" min:"0" max:"100000"`
	// How much of a request's body is kept in memory, until an answer begins, to be sent again. A request with a larger one is repeated only if nothing of
	// its body was sent; where that is the reason for an error, the log, "pillion status" and a header of the answer (Pillion-Retry) say so.
	Body int64 `yaml:"body" default:"64KiB" min:"0B" max:"16MiB"`
	// The time that one attempt may take, until the head of the answer. The service's timeout is for all of them together.
	PerTry time.Duration `yaml:"per_try" default:"none" min:"1ms" max:"24h" none:"true"`
	// The mean pause before the second attempt, doubled with each further one; what never ran is first repeated at once.
	Backoff time.Duration `yaml:"backoff" default:"25ms" min:"0s" max:"1m"`
	// The longest mean pause.
	MaxBackoff time.Duration `yaml:"max_backoff" default:"250ms" min:"0s" max:"1m"`
	// Whether gRPC calls are repeated, at another endpoint, whose answer is UNAVAILABLE and nothing else, though they may have run. Those that never ran (refused by the app, with REFUSED_STREAM or
	// GOAWAY, or by the sidecar there) are repeated anyway. It is off because a call is a POST that does not say whether it is idempotent: for services, and routes, of which repeating does no harm.
	Unavailable bool `yaml:"unavailable" default:"false"`
	// Whether any other request may be repeated too, as POST and gRPC, where a connection broke. Where the sidecar of the service is a pillion it remembers the
	// attempts, which go to the same endpoint, so that the app sees such a request once: see "Exactly once" in the README for what that needs. Elsewhere, and with mesh: false, where it is
	// repeated after 502, 503 and 504 as well, it may run twice.
	Unsafe bool `yaml:"unsafe" default:"false"`
}
