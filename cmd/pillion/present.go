package main

import (
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/proxy"
)

// present is what is in force now. A reload replaces it whole; who reads it twice for one purpose reads it once.
type present struct{ now atomic.Pointer[generation] }

// generation is one configuration that is, or was, in force, with its sockets. It does not change.
type generation struct {
	cfg    *config.Config
	socks  *sockets
	number int // 1 is what the sidecar began with
	since  time.Time

	idle map[proxy.Identity]time.Duration // how long a Link without streams is kept, by who is there; 0 is for ever
	own  func(network, address string) bool
}

func newPresent(cfg *config.Config, socks *sockets) *present {
	p := new(present)
	p.replace(cfg, socks)
	return p
}

// replace puts another configuration into force.
func (p *present) replace(cfg *config.Config, socks *sockets) {
	g := &generation{cfg: cfg, socks: socks, number: 1, since: time.Now(), idle: linkIdle(cfg), own: socks.own()}
	if before := p.now.Load(); before != nil {
		g.number = before.number + 1
	}
	p.now.Store(g)
}

// linkIdle is for the rooms that make Links.
func (p *present) linkIdle(ep *proxy.Endpoint) time.Duration { return p.now.Load().idle[ep.Identity] }

// own recognises the sidecar's own listeners.
func (p *present) own(network, address string) bool { return p.now.Load().own(network, address) }

func (s *sidecar) config() *config.Config { return s.Present.now.Load().cfg }
func (s *sidecar) sockets() *sockets      { return s.Present.now.Load().socks }

// linkIdle is how long a Link without streams is kept: services with one identity may share it, so the longest of theirs; 0 is for ever.
func linkIdle(cfg *config.Config) map[proxy.Identity]time.Duration {
	longest := make(map[proxy.Identity]time.Duration)
	for _, s := range cfg.Services {
		before, seen := longest[s.Identity]
		switch {
		case !s.Mesh:
		case s.Idle == 0, seen && before == 0:
			longest[s.Identity] = 0
		default:
			longest[s.Identity] = max(before, s.Idle)
		}
	}
	return longest
}
