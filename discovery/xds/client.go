package xds

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/discovery/grpcio"
	"github.com/pillion-proxy/pillion/proxy"
)

// Mode is a variant of the protocol.
type Mode int

// The variants.
const (
	Auto  Mode = iota // Delta, and State where the server does not know it
	Delta             // incremental
	State             // state of the world
)

// Config says where the control plane is and who asks.
type Config struct {
	// Server is host:port, or unix:/path.
	Server string
	// TLS is for the connection to it; nil means none.
	TLS *tls.Config
	// TokenFile holds a bearer token, read for each stream. If empty, none is shown.
	TokenFile string
	// Node is who asks.
	Node Node
	// Mode is the variant of the protocol.
	Mode Mode
	// Grace is how long something must be missing after a reconnect until that is believed. If zero, 30 s.
	Grace time.Duration
	// Retry is the pause after a first failure; it doubles up to a second. If zero, 100 ms.
	Retry time.Duration
	// Patience is how long to wait for a resource before its absence is told. If zero, 15 s.
	Patience time.Duration
}

// Client follows clusters of one control plane, over one stream. It is safe for concurrent use. While nothing is watched it has neither goroutine nor connection.
type Client struct {
	conf Config
	grpc *grpcio.Client

	mu      sync.Mutex
	subs    map[*subscription]struct{}
	session *session // nil if there are no subs
}

// New connects to nothing.
func New(c Config) (*Client, error) {
	if c.Node.ID == "" {
		return nil, errors.New("xds: the node has no id")
	}
	if c.Grace <= 0 {
		c.Grace = 30 * time.Second
	}
	if c.Retry <= 0 {
		c.Retry = 100 * time.Millisecond
	}
	if c.Patience <= 0 {
		c.Patience = 15 * time.Second
	}
	g, err := grpcio.New(grpcio.Config{Address: c.Server, TLS: c.TLS})
	if err != nil {
		return nil, fmt.Errorf("xds: %w", err)
	}
	return &Client{conf: c, grpc: g, subs: make(map[*subscription]struct{})}, nil
}

// Resolver follows one cluster.
func (c *Client) Resolver(cluster string, d discovery.Defaults) (*Resolver, error) {
	if cluster == "" {
		return nil, errors.New("xds: the cluster has no name")
	}
	return &Resolver{client: c, cluster: cluster, defaults: d}, nil
}

// Resolver implements discovery.Resolver.
type Resolver struct {
	client   *Client
	cluster  string
	defaults discovery.Defaults
}

// subscription is one Watch.
type subscription struct {
	cluster string
	news    chan struct{} // one slot: view has changed

	mu   sync.Mutex
	view view
}

// view is what is known of one cluster.
type view struct {
	known bool        // there was an answer
	set   *assignment // nil if there certainly is none
	err   error       // why it may not be the truth any more; set is then the last good one
	flaw  error       // what is wrong with it otherwise
}

func (s *subscription) show(v view) {
	s.mu.Lock()
	same := s.view == v
	s.view = v
	s.mu.Unlock()
	if same {
		return
	}
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// Watch implements discovery.Resolver.
func (r *Resolver) Watch(ctx context.Context, _ proxy.Service, update func([]proxy.Endpoint)) error {
	sub := &subscription{cluster: r.cluster, news: make(chan struct{}, 1)}
	r.client.join(sub)
	defer r.client.leave(sub)
	var p publisher
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-sub.news:
		}
		sub.mu.Lock()
		v := sub.view
		sub.mu.Unlock()
		if v.known {
			p.publish(v.set, r.defaults, update)
		}
		err, flaw := cmp.Or(v.err, p.unusable), cmp.Or(v.flaw, p.flaw)
		if err != nil {
			err = fmt.Errorf("xDS cluster %s: %w", r.cluster, err)
		}
		discovery.Report(ctx, err)
		discovery.Flaw(ctx, flaw)
	}
}

// publisher makes sets of assignments and sends them.
type publisher struct {
	sender   discovery.Sender
	sent     bool
	from     *assignment // what the last set was made of
	unusable error       // why none of it can be used
	flaw     error       // why some of it cannot
}

// publish sends the set of a, if it is new; nil means that there are certainly no endpoints. Where there are some and none can be used, the set that was there stays.
func (p *publisher) publish(a *assignment, d discovery.Defaults, update func([]proxy.Endpoint)) {
	if p.sent && a == p.from {
		return
	}
	p.sent, p.from, p.unusable, p.flaw = true, a, nil, nil
	set := []proxy.Endpoint{}
	if a != nil {
		set, p.flaw = a.build(d)
	}
	if len(set) == 0 && p.flaw != nil {
		p.unusable, p.flaw = p.flaw, nil
		return
	}
	p.sender.Send(set, update)
}

// join adds a subscription, and begins the session with the first.
func (c *Client) join(s *subscription) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subs[s] = struct{}{}
	if c.session == nil {
		ctx, cancel := context.WithCancel(context.Background())
		c.session = newSession(c, cancel)
		go c.session.run(ctx) // leave waits for it
	}
	c.session.kick()
}

// leave removes a subscription, and ends the session with the last.
func (c *Client) leave(s *subscription) {
	c.mu.Lock()
	delete(c.subs, s)
	ending := c.session
	if len(c.subs) > 0 {
		ending = nil
		c.session.kick()
	} else {
		c.session = nil
	}
	c.mu.Unlock()
	if ending != nil {
		ending.cancel()
		<-ending.done
		c.grpc.Close()
	}
}

// subscriptions lists them.
func (c *Client) subscriptions() []*subscription {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]*subscription, 0, len(c.subs))
	for s := range c.subs {
		all = append(all, s)
	}
	return all
}

// metadata of a stream.
func (c *Client) metadata() (grpcio.Metadata, error) {
	if c.conf.TokenFile == "" {
		return nil, nil
	}
	b, err := os.ReadFile(c.conf.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	return grpcio.Metadata{"authorization": "Bearer " + strings.TrimSpace(string(b))}, nil
}
