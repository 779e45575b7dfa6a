package dns

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/discovery/dns/resolvconf"
	"github.com/pillion-proxy/pillion/proxy"
)

// Config says which name.
type Config struct {
	// Name is a host name, or that of SRV or SVCB records. With a dot at its end it is taken as it is, without the search list.
	Name string
	// Kind is what Name has.
	Kind Kind
	// Port, if it is not 0, is used instead of that of the records.
	Port uint16
	// Defaults complete the addresses; Defaults.Port must be set.
	Defaults discovery.Defaults
	// Servers are asked in this order. If empty, those of ResolvConf.
	Servers []netip.AddrPort
	// Skip reports whether a server is not to be asked, because it would ask us, or answer with our own address. May be nil.
	Skip func(netip.AddrPort) bool
	// ResolvConf is the path of resolv.conf. If empty, /etc/resolv.conf.
	ResolvConf string
	// Hosts is the path of the hosts file. If empty, /etc/hosts.
	Hosts string
	// MinTTL and MaxTTL bound how long an answer is used before the name is asked again, in case its TTL lies outside. If zero,
	// 1 s and 5 min.
	MinTTL, MaxTTL time.Duration
	// Grace is how long "there is no such name" must last before a set is emptied. If zero, 30 s.
	Grace time.Duration
	// DialContext connects to a server. If nil, that of a zero net.Dialer.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
}

// Kind is what is asked for.
type Kind int

// The kinds.
const (
	Hosts Kind = iota // A and AAAA
	SRV               // RFC 2782: priority, weight, port and host
	SVCB              // RFC 9460: priority, port, host and hints of its addresses
)

const (
	// negatives is how often "there is no such name" must be heard before a set is emptied.
	negatives = 3
	// hostsTTL is how soon a name found in the hosts file is looked up again, unless MaxTTL is less.
	hostsTTL = 5 * time.Second
	// maxBackoff bounds the pause after a failure, unless MaxTTL is less.
	maxBackoff = 30 * time.Second
)

// Resolver resolves one name for whichever Service it is asked.
type Resolver struct{ conf Config }

// New checks c. It does not ask anybody yet.
func New(c Config) (*Resolver, error) {
	if err := resolvconf.CheckName(c.Name); err != nil {
		return nil, fmt.Errorf("resolve %q: %w", c.Name, err)
	}
	if c.Defaults.Port == 0 {
		return nil, fmt.Errorf("resolve %s: no port is given", c.Name)
	}
	if c.Defaults.Mesh && c.Defaults.Identity == "" {
		return nil, fmt.Errorf("resolve %s: nobody is expected there: no identity is given", c.Name)
	}
	if c.ResolvConf == "" {
		c.ResolvConf = "/etc/resolv.conf"
	}
	if c.Hosts == "" {
		c.Hosts = "/etc/hosts"
	}
	if c.MinTTL <= 0 {
		c.MinTTL = time.Second
	}
	if c.MaxTTL <= 0 {
		c.MaxTTL = 5 * time.Minute
	}
	if c.MinTTL > c.MaxTTL {
		return nil, fmt.Errorf("resolve %s: MinTTL %v is longer than MaxTTL %v", c.Name, c.MinTTL, c.MaxTTL)
	}
	if c.Grace <= 0 {
		c.Grace = 30 * time.Second
	}
	if c.DialContext == nil {
		c.DialContext = new(net.Dialer).DialContext
	}
	return &Resolver{conf: c}, nil
}

// Watch implements discovery.Resolver.
func (r *Resolver) Watch(ctx context.Context, _ proxy.Service, update func([]proxy.Endpoint)) error {
	look := r.hosts(update)
	if r.conf.Kind != Hosts {
		look = r.records(update)
	}
	for {
		pause, err := look(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		discovery.Report(ctx, err)
		if !discovery.Sleep(ctx, pause) {
			return ctx.Err()
		}
	}
}

// watch is what is remembered between two lookups.
type watch struct {
	*Resolver
	update   func([]proxy.Endpoint)
	sender   discovery.Sender
	host     target
	failures int // in a row
}

// hosts returns the function that resolves the name once, and says when to do so again.
func (r *Resolver) hosts(update func([]proxy.Endpoint)) func(ctx context.Context) (time.Duration, error) {
	w := watch{Resolver: r, update: update}
	return func(ctx context.Context) (time.Duration, error) {
		found := r.lookup(ctx)
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		return w.take(found, time.Now()), found.err()
	}
}

// take draws the consequences of a lookup and says how long to wait for the next.
func (w *watch) take(found result, now time.Time) time.Duration {
	w.count(found.failed())
	if w.host.take(&w.conf, found, now) {
		var set []proxy.Endpoint
		for _, a := range w.host.addrs() {
			set = append(set, w.conf.Defaults.Endpoint(netip.AddrPortFrom(a, 0)))
		}
		w.sender.Send(set, w.update)
	}
	switch {
	case found.none():
		return w.pauseNone(found.ttl())
	case found.dead():
		return w.jitter(w.backoff())
	}
	return w.pause(found.ttl(), found.failed())
}

// count counts failures in a row.
func (w *watch) count(failed bool) {
	w.failures++
	if !failed {
		w.failures = 0
	}
}

// pause is how long an answer with this TTL is used.
func (w *watch) pause(ttl time.Duration, failed bool) time.Duration {
	pause := w.clamp(ttl)
	if failed {
		pause = min(pause, w.backoff())
	}
	return w.jitter(pause)
}

// pauseNone is how long "there is no such name" is used: it may have to be repeated.
func (w *watch) pauseNone(ttl time.Duration) time.Duration {
	return w.jitter(min(w.clamp(ttl), max(w.conf.Grace/negatives, w.conf.MinTTL)))
}

func (w *watch) clamp(ttl time.Duration) time.Duration {
	return min(max(ttl, w.conf.MinTTL), w.conf.MaxTTL)
}

func (w *watch) backoff() time.Duration {
	return min(w.conf.MinTTL<<min(max(w.failures-1, 0), 20), maxBackoff, w.conf.MaxTTL)
}

// jitter adds up to a tenth, never takes away: a TTL is respected, and many sidecars do not ask in step.
func (w *watch) jitter(d time.Duration) time.Duration { return d + rand.N(d/10+1) }
