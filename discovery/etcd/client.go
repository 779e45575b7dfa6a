package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/discovery/grpcio"
	"github.com/pillion-proxy/pillion/proxy"
)

// Config says where etcd is.
type Config struct {
	// Endpoints are members of one cluster: host:port. If empty, 127.0.0.1:2379.
	Endpoints []string
	// TLS is for connections to them, nil for none. Its certificates may say who we are.
	TLS *tls.Config
	// User and Password are sent if User is not empty.
	User, Password string
	// Prefix is what is before <service>/<id> in keys. If empty, /pillion/services/.
	Prefix string
}

// Client follows services in one cluster. All methods are safe for concurrent use.
type Client struct {
	conf    Config
	members []*grpcio.Client
	kick    chan struct{} // one slot: subs has changed

	mu   sync.Mutex
	subs map[*sub]bool
	stop func() // ends what serves them, and waits for it; nil while there are none
	at   int    // the member in use
}

// New returns a Client. It does not connect.
func New(c Config) (*Client, error) {
	if len(c.Endpoints) == 0 {
		c.Endpoints = []string{"127.0.0.1:2379"}
	}
	if c.Prefix == "" {
		c.Prefix = "/pillion/services/"
	}
	if !strings.HasSuffix(c.Prefix, "/") {
		c.Prefix += "/"
	}
	cl := &Client{conf: c, kick: make(chan struct{}, 1), subs: make(map[*sub]bool), at: rand.N(len(c.Endpoints))}
	for _, address := range c.Endpoints {
		const ping = 6 * time.Second // etcd ends connections with a PING in less than five
		g, err := grpcio.New(grpcio.Config{Address: address, TLS: c.TLS, Ping: ping})
		if err != nil {
			return nil, fmt.Errorf("etcd: %w", err)
		}
		cl.members = append(cl.members, g)
	}
	return cl, nil
}

// Close ends the connections on which nothing runs.
func (c *Client) Close() {
	for _, g := range c.members {
		g.Close()
	}
}

// member returns the one in use, and its name.
func (c *Client) member() (*grpcio.Client, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.members[c.at], c.conf.Endpoints[c.at]
}

// next leaves the member in use for another.
func (c *Client) next() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = (c.at + 1) % len(c.members)
}

// patience is what one call may take.
const patience = 5 * time.Second

// authenticate returns what each call says beside its message.
func (c *Client) authenticate(ctx context.Context, g *grpcio.Client) (grpcio.Metadata, error) {
	meta := grpcio.Metadata{"hasleader": "true"}
	if c.conf.User == "" {
		return meta, nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request := message(nil).bytes(1, []byte(c.conf.User)).bytes(2, []byte(c.conf.Password))
	answer, err := g.Call(ctx, methodAuthenticate, request, nil)
	if err != nil {
		if e, ok := errors.AsType[*grpcio.Error](err); ok && strings.Contains(e.Message, "authentication is not enabled") {
			return meta, nil
		}
		return nil, fmt.Errorf("authenticate: %w", err)
	}
	err = fields(answer, func(n protowire.Number, _ int64, b []byte) error {
		if n == 2 {
			meta["token"] = string(b)
		}
		return nil
	})
	return meta, err
}

// Resolver follows one service, for whichever Service it is asked.
type Resolver struct {
	client   *Client
	begin    []byte
	end      []byte
	defaults discovery.Defaults
}

// Resolver returns one for the service of this name; d completes what etcd does not say.
func (c *Client) Resolver(service string, d discovery.Defaults) (*Resolver, error) {
	if service == "" {
		return nil, errors.New("etcd: the name of the service is empty")
	}
	begin := c.conf.Prefix + service
	return &Resolver{client: c, begin: []byte(begin + "/"), end: []byte(begin + string('/'+1)), defaults: d}, nil
}

// Watch implements discovery.Resolver.
func (r *Resolver) Watch(ctx context.Context, service proxy.Service, update func([]proxy.Endpoint)) error {
	stop := r.Subscribe(ctx, service, update)
	<-ctx.Done()
	stop()
	return ctx.Err()
}

// Subscribe implements discovery.Subscriber.
func (r *Resolver) Subscribe(ctx context.Context, _ proxy.Service, update func([]proxy.Endpoint)) (stop func()) {
	s := &sub{Resolver: r, ctx: ctx, update: update}
	r.client.join(s)
	return func() {
		r.client.leave(s)
		s.leave()
	}
}

// join adds a sub; with the first one begins what serves them.
func (c *Client) join(s *sub) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subs[s] = true
	if c.stop == nil {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go c.serve(ctx, done)
		c.stop = func() {
			cancel()
			<-done
		}
	}
	c.changed()
}

// leave removes it; with the last one ends what served them.
func (c *Client) leave(s *sub) {
	c.mu.Lock()
	delete(c.subs, s)
	stop := c.stop
	if len(c.subs) > 0 {
		stop = c.changed
	} else {
		c.stop = nil
	}
	c.mu.Unlock()
	stop()
}

func (c *Client) changed() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// present lists who follows something.
func (c *Client) present() map[*sub]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.subs)
}

// serve does what the Watches want done, at one member after the other, until ctx ends.
func (c *Client) serve(ctx context.Context, done chan<- struct{}) {
	const firstPause, lastPause = 50 * time.Millisecond, 700 * time.Millisecond // a cluster that is back is noticed within a second
	defer close(done)
	defer c.Close()
	for pause := firstPause; ctx.Err() == nil; pause = min(2*pause, lastPause) {
		g, name := c.member()
		began := time.Now()
		err := c.session(ctx, g)
		if ctx.Err() != nil {
			return
		}
		for s := range c.present() {
			s.suspect = s.suspect || nonsense(err) // what came before was perhaps hurt too, and read none the less
			s.fail(fmt.Errorf("etcd at %s: %w", name, err))
		}
		c.next()
		if time.Since(began) > time.Second {
			pause = firstPause
		}
		discovery.Sleep(ctx, pause+rand.N(pause/4))
	}
}
