// Package static is the discovery source whose Endpoints are given once, by the configuration.
package static

import (
	"context"
	"fmt"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/proxy"
)

// Resolver gives every Service the same Endpoints.
type Resolver struct{ endpoints []proxy.Endpoint }

// New returns a Resolver for endpoints, of which there may be none.
func New(endpoints []proxy.Endpoint) (*Resolver, error) {
	for i := range endpoints {
		if err := discovery.Check(&endpoints[i]); err != nil {
			return nil, err
		}
	}
	set := discovery.Normal(endpoints)
	if len(set) != len(endpoints) {
		return nil, fmt.Errorf("%d of the %d endpoints are named twice", len(endpoints)-len(set), len(endpoints))
	}
	return &Resolver{endpoints: set}, nil
}

// Endpoints implements discovery.Fixed.
func (r *Resolver) Endpoints() []proxy.Endpoint { return r.endpoints }

// Watch implements discovery.Resolver: one update, then nothing.
func (r *Resolver) Watch(ctx context.Context, _ proxy.Service, update func([]proxy.Endpoint)) error {
	update(r.endpoints)
	<-ctx.Done()
	return ctx.Err()
}
