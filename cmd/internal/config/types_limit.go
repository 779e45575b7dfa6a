package config

import "time"

// Hedge says when a second endpoint is asked because the first takes long.
type Hedge struct {
	// After how many percent of the service's requests have had their answer, as measured while it runs, a second endpoint is asked: 95% is after its p95. The first good
	// answer is taken, and the other attempt cancelled. Only for GET, HEAD, OPTIONS, TRACE, PUT and DELETE without a body.
	Percentile Percent `yaml:"percentile" default:"none" min:"50%" max:"99.9%" none:"true"`
	// The shortest time after which one is asked.
	Least time.Duration `yaml:"least" default:"10ms" min:"0s" max:"1m"`
	// How many of the requests may be sent twice.
	Budget Percent `yaml:"budget" default:"10%" min:"0%" max:"100%"`
}

// Concurrency bounds the requests that run at a time, and the connections.
type Concurrency struct {
	// How many may run at a time. Those that open streams count until they are open, answers that are text/event-stream until they begin.
	Requests int `yaml:"requests" default:"none" min:"1" max:"1000000" none:"true"`
	// Finds the bound out, from how long answers take (Gradient2): requests is then the most that it may be, 1000 if that is none.
	Adaptive bool `yaml:"adaptive" default:"false"`
	// How many connections may be open at a time, on all of pillion's loops together: to the app, or to all endpoints of a service that are called without a sidecar, those that
	// wait for the next request included. One of these makes room for another where it must. (A service's own listen with protocol auto opens one
	// for each client at once, to hear who speaks first: where connections are scarce, say protocol: http.) Through a sidecar requests share links and take no connection; each stream (CONNECT, TCP, WebSocket)
	// is one, from its request to its end, because it is one at the app there. Requests that find none free wait in the order in which they come, within
	// pending and wait, and are refused with 503 (overloaded) beyond that. It is the service's: a route has none of its own.
	Connections int `yaml:"connections" default:"none" min:"1" max:"1000000" none:"true"`
	// How many more may wait. Beyond that requests are refused with 503 (overloaded) and Retry-After, the least important of those that wait first.
	Pending int `yaml:"pending" default:"100" min:"0" max:"1000000"`
	// How long one may wait.
	Wait time.Duration `yaml:"wait" default:"1s" min:"1ms" max:"1h"`
	// The header that says how important a request is: a number from 0, the most, to 7, or as in RFC 9218 (u=5). Requests without it are 3.
	Priority string `yaml:"priority" default:"Priority"`
}

// Rate bounds the requests per time, at this sidecar.
type Rate struct {
	// How many requests are let through in each per, in the long run. The others are refused with 429 (rate_limited) and Retry-After.
	Requests int `yaml:"requests" default:"none" min:"1" max:"1000000000" none:"true"`
	// The time that requests is for.
	Per time.Duration `yaml:"per" default:"1s" min:"1ms" max:"24h"`
	// How many may come at once.
	Burst int `yaml:"burst" default:"none" min:"1" max:"1000000000" none:"true"`
	// What is counted apart: all is nothing, caller the service that calls (in an app entry), and any other word is the name of a header, whose values are.
	// Of more than 10000 the longest quiet ones are forgotten.
	By string `yaml:"by" default:"all"`
}

// Faults are done on purpose, to test the app that calls.
type Faults struct {
	// The time that requests are held back.
	Delay time.Duration `yaml:"delay" default:"none" min:"1ms" max:"1h" none:"true"`
	// How many are.
	DelayShare Percent `yaml:"delay_share" default:"100%" min:"0%" max:"100%"`
	// The status that requests are answered with, instead of being sent.
	Abort int `yaml:"abort" default:"none" min:"400" max:"599" none:"true"`
	// How many are.
	AbortShare Percent `yaml:"abort_share" default:"100%" min:"0%" max:"100%"`
	// How much of an answer's content comes per second.
	Throttle int64 `yaml:"throttle" default:"0B" min:"0B" max:"1GiB"`
	// How many answers come so; throttle 0B is none.
	ThrottleShare Percent `yaml:"throttle_share" default:"100%" min:"0%" max:"100%"`
	// The header that a request must have for anything of this to happen to it.
	Header string `yaml:"header" note:"every request"`
}
