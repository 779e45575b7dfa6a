package main

import (
	"fmt"
	"sync"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/upstream/direct"
)

// targets are the ways to the app that have been made, by what they were made from.
type targets struct {
	mu        sync.Mutex
	all, next map[string]proxy.RoundTripper
}

func newTargets() *targets { return new(targets) }

// to returns the way that there is, or makes one.
func (t *targets) to(d *direct.Direct, ep proxy.Endpoint, o direct.Options, a *config.App) proxy.RoundTripper {
	key := fmt.Sprintf("%v %+v %p %p", ep, []any{a.Protocol, a.Idle, a.ProxyProtocol, a.TLS}, o.Flows, o.Places)
	t.mu.Lock()
	defer t.mu.Unlock()
	rt := t.all[key]
	if rt == nil {
		rt = d.To(ep, o)
	}
	if t.next == nil {
		t.next = make(map[string]proxy.RoundTripper)
	}
	t.next[key] = rt
	return rt
}

// settle forgets those that were not asked for since the last time.
func (t *targets) settle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all, t.next = t.next, nil
}
