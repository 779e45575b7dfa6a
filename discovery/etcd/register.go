package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/discovery/grpcio"
)

// Registry enters one sidecar, under a key with a lease.
type Registry struct {
	client *Client
	mu     sync.Mutex // one call at a time; guards what follows
	lease  int64      // 0: none
	at     string     // the member that meta is for
	meta   grpcio.Metadata
}

// Registry returns one. It needs no Watch.
func (c *Client) Registry() *Registry { return &Registry{client: c} }

// Enter implements discovery.Registry: the key is there while the instance is fit, and lapses with its lease.
func (g *Registry) Enter(ctx context.Context, r *discovery.Registration, unfit error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.enter(ctx, r, unfit)
	if err != nil {
		g.at = "" // who we are may have been forgotten
		g.client.next()
	}
	return err
}

func (g *Registry) enter(ctx context.Context, r *discovery.Registration, unfit error) error {
	if err := g.renewLease(ctx, r); err != nil {
		return err
	}
	key := g.key(r)
	if unfit != nil {
		_, err := g.call(ctx, methodDelete, message(nil).bytes(1, key))
		return err
	}
	answer, err := g.call(ctx, methodRange, rangeRequest(key, nil))
	if err != nil {
		return err
	}
	there, err := parseListing(answer)
	if err != nil {
		return err
	}
	text, err := json.Marshal(describe(r))
	if err != nil {
		return err
	}
	if len(there.pairs) == 1 && there.pairs[0].lease == g.lease && string(there.pairs[0].value) == string(text) {
		return nil
	}
	_, err = g.call(ctx, methodPut, message(nil).bytes(1, key).bytes(2, text).number(3, g.lease))
	return err
}

// renewLease keeps the lease, or gets a new one where it has lapsed.
func (g *Registry) renewLease(ctx context.Context, r *discovery.Registration) error {
	if g.lease != 0 {
		answer, err := g.call(ctx, methodKeepAlive, message(nil).number(1, g.lease))
		if err != nil {
			return err
		}
		left, err := numberIn(answer, 3)
		if err != nil || left > 0 {
			return err
		}
	}
	answer, err := g.call(ctx, methodGrant, message(nil).number(1, int64(max(r.TTL/time.Second, 1))))
	if err != nil {
		return err
	}
	if g.lease, err = numberIn(answer, 2); err == nil && g.lease == 0 {
		err = errors.New("etcd granted no lease")
	}
	return err
}

// Leave implements discovery.Registry.
func (g *Registry) Leave(ctx context.Context, r *discovery.Registration) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lease == 0 {
		return nil
	}
	_, err := g.call(ctx, methodRevoke, message(nil).number(1, g.lease))
	if err != nil && ctx.Err() == nil { // perhaps at another member
		g.at = ""
		g.client.next()
		_, err = g.call(ctx, methodRevoke, message(nil).number(1, g.lease))
	}
	return err
}

func (g *Registry) key(r *discovery.Registration) []byte {
	return []byte(g.client.conf.Prefix + r.Service + "/" + r.ID)
}

func describe(r *discovery.Registration) value {
	mesh := true
	return value{Address: r.Addr.String(), Identity: string(r.Identity), Weight: r.Weight, Zone: r.Zone, Mesh: &mesh, Transport: string(r.Transport), Labels: r.Labels, Ports: r.Ports}
}

// call asks the member in use.
func (g *Registry) call(ctx context.Context, method string, m message) ([]byte, error) {
	member, name := g.client.member()
	if g.at != name {
		meta, err := g.client.authenticate(ctx, member)
		if err != nil {
			return nil, fmt.Errorf("etcd at %s: %w", name, err)
		}
		g.at, g.meta = name, meta
	}
	answer, err := member.Call(ctx, method, m, g.meta)
	if err != nil {
		return nil, fmt.Errorf("etcd at %s: %w", name, err)
	}
	return answer, nil
}
