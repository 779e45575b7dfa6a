package config

import "time"

// Split sends shares of the requests to other services, as for a canary release.
type Split struct {
	// The services and their shares, as in {billing-canary: 10%}. The rest stays. The settings are those of the service that was called; where the other one is, and
	// its identity, are the other's.
	To Shares `yaml:"to" note:"nothing"`
	// What decides, instead of chance, so that who went to one service goes there again: header:NAME, cookie:NAME, or client for the client's address. While
	// a share grows nobody leaves it. A request that has none goes by chance.
	Sticky KeyFrom `yaml:"sticky" note:"chance"`
}

// Mirror sends copies of requests to another service, whose answers go nowhere. Copies have the field "Pillion-Mirror: 1". Nobody waits for them.
type Mirror struct {
	// The service that gets the copies.
	To RouteTo `yaml:"to" note:"none"`
	// How many requests are copied.
	Share Percent `yaml:"share" default:"100%" min:"0%" max:"100%"`
	// The largest body that is copied; a request with more is not.
	Body int64 `yaml:"body" default:"64KiB" min:"0B" max:"16MiB"`
	// How many copies may be under way on each of pillion's loops. While there are as many, nothing is copied.
	Pending int `yaml:"pending" default:"100" min:"1" max:"100000"`
	// The time that a copy may take.
	Timeout time.Duration `yaml:"timeout" default:"10s" min:"1ms" max:"10m"`
}

// Shares are services and their parts, in the order of the file.
type Shares []ShareTo

// ShareTo is one of Shares.
type ShareTo struct {
	To   RouteTo
	Part Percent
}

// On reports whether anything is copied.
func (m Mirror) On() bool { return m.To.Name != "" && m.Share > 0 }
