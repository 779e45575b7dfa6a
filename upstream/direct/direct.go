// Package direct calls apps without a sidecar between: the local app of the inbound side, services with mesh: false, and,
// where that is allowed, names that are no service. Exchanges go over pooled keep-alive connections (HTTP/1.1) or one
// connection per address (h2c, for gRPC, and HTTP/3), Streams over a connection of their own.
package direct

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/http2"
	"github.com/pillion-proxy/pillion/proxy/http3"
	"github.com/pillion-proxy/pillion/proxy/proxyproto"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Protocol is what an app speaks.
type Protocol int

const (
	Auto Protocol = iota // found out: HTTP/1.1, h2c for gRPC, or the only one of them that the app turns out to speak
	HTTP                 // HTTP/1.1
	H2C                  // HTTP/2 without TLS
	H3                   // HTTP/3, for which Config.Far is needed
)

// Config says how apps are called.
type Config struct {
	Shards []task.Shard
	// HTTP2 is the template of h2c connections. OnClose and OnChange are set here; IdleTimeout, if zero, is 1 minute.
	HTTP2 http2.Config
	// HTTP3 is the template of connections to apps that speak HTTP/3. OnClose and OnChange are set here; IdleTimeout, if zero, is 1 minute.
	HTTP3 http3.Config
	// Far is the shard, of goroutines, on which the HTTP/3 of a shard lives; the same one if that is of goroutines itself. If nil, there is no HTTP/3.
	Far func(near task.Shard) task.Shard
	// Socket opens the UDP socket of HTTP/3, when it is first needed.
	Socket func() (*net.UDPConn, error)
	// MaxHead bounds an answer's head, in bytes. If zero, 64 KiB.
	MaxHead int
	// MaxIdle bounds the idle connections to one address, per shard. If zero, 16,384; they close by themselves when unused for Options.Idle.
	MaxIdle int
	// DialTimeout bounds a connect. If zero, 5 s.
	DialTimeout time.Duration
	// Own reports whether an address is a listener of this sidecar, which is never called: that would be a loop. May be nil.
	Own func(network, address string) bool
	// Places bounds the connections to a service whose Endpoints are called by RoundTrip. May be nil, and return nil.
	Places func(service string) *Places
	// Logger gets, at Debug, a line for each Flow, with its client. If nil, nothing is logged.
	Logger *slog.Logger
}

// Direct calls apps. It is shared by the shards; each has its own connections.
type Direct struct {
	cfg    Config
	shards []*shardState
	heard  *speeches
	none   Options // of apps of which nothing is known

	h3Socket h3Socket
}

// New returns a Direct without connections.
func New(cfg Config) *Direct {
	if cfg.MaxIdle == 0 {
		cfg.MaxIdle = 16 << 10
	}
	if cfg.DialTimeout == 0 {
		cfg.DialTimeout = 5 * time.Second
	}
	if cfg.HTTP2.IdleTimeout == 0 {
		cfg.HTTP2.IdleTimeout = time.Minute
	}
	if cfg.HTTP3.IdleTimeout == 0 {
		cfg.HTTP3.IdleTimeout = time.Minute
	}
	d := &Direct{cfg: cfg, heard: newSpeeches()}
	for _, s := range cfg.Shards {
		d.shards = append(d.shards, newShardState(d, s))
	}
	return d
}

// Options are what is known of the app at an address.
type Options struct {
	Protocol Protocol
	// Idle is how long an unused connection is kept. If zero, 4 s: many apps close after 5.
	Idle time.Duration
	// Header begins each connection with a header of the PROXY protocol. One that names a client is used for that client's sidecar
	// alone; one that carries the requests of many (h2c) names none.
	Header proxyproto.Version
	// Flows counts the Flows to the app; may be nil.
	Flows *proxy.FlowStats
	// Places bounds the connections. If nil, nothing does.
	Places *Places
	// TLS is asked before each connection to an app that speaks HTTP/3: whom to expect there.
	TLS func() (*tls.Config, error)
}

// To returns the RoundTripper for the app at ep.
func (d *Direct) To(ep proxy.Endpoint, o Options) proxy.RoundTripper {
	if o.Protocol == H3 {
		app := d.newH3App(&o)
		return proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			req.Endpoint = &ep
			if req.IsConnect() { // bytes go where TCP does
				return d.roundTrip(req, resp, &o)
			}
			return app.RoundTrip(req, resp)
		})
	}
	return &app{d: d, ep: ep, o: o, targets: make([]*target, len(d.shards))}
}

// app is the way to one app.
type app struct {
	d  *Direct
	ep proxy.Endpoint
	o  Options

	targets []*target // by shard, guarded by its lock; may be forgotten, or nil
}

// RoundTrip implements proxy.RoundTripper.
func (a *app) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	req.Endpoint = &a.ep
	if a.o.Protocol != HTTP || req.Upgrade != "" || req.IsConnect() {
		return a.d.roundTrip(req, resp, &a.o)
	}
	_, err := a.target(req.Shard.Index()).tryHTTP1(req, resp, &a.o)
	return err
}

// target is that of Direct, found again.
func (a *app) target(shard int) *target {
	st := a.d.shards[shard]
	st.shard.Lock()
	t := a.targets[shard]
	if t == nil || !t.listed {
		network, k := address(&a.ep)
		t = st.find(network, k)
		a.targets[shard] = t
	}
	t.set(&a.o)
	st.shard.Unlock()
	return t
}

// RoundTrip implements proxy.RoundTripper for req.Endpoint.
func (d *Direct) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	if d.cfg.Places != nil {
		if p := d.cfg.Places(req.Service.Name); p != nil {
			return d.roundTrip(req, resp, &p.options)
		}
	}
	return d.roundTrip(req, resp, &d.none)
}

// Shutdown closes the idle connections of shard s, lets running requests end, and keeps no connection after that. It is for tasks and callbacks of s.
func (d *Direct) Shutdown(s task.Shard) { d.shards[s.Index()].closeIdle() }

func (d *Direct) roundTrip(req *proxy.Request, resp *proxy.Response, o *Options) error {
	if req.Upgrade == proxy.ConnectUDP {
		return d.openFlow(req, resp, o)
	}
	network, address := address(req.Endpoint)
	t := d.shards[req.Shard.Index()].target(network, address, o)
	switch {
	case req.IsConnect():
		return t.open(req, resp, o)
	case o.Protocol == H2C:
		return t.overH2C(req, resp, o)
	case o.Protocol == Auto:
		return t.findOut(req, resp, o)
	default:
		return t.overHTTP1(req, resp, o)
	}
}

func isGRPC(req *proxy.Request) bool {
	return !req.Lacks(proxy.NameType) && strings.HasPrefix(req.Fields.Get("Content-Type"), "application/grpc")
}

// address returns where ep is.
func address(ep *proxy.Endpoint) (network string, k key) {
	if ep.Unix != "" {
		return "unix", key{unix: ep.Unix}
	}
	return "tcp", key{addr: ep.Addr}
}

// key is an app's address.
type key struct {
	addr netip.AddrPort
	unix string
}

func (k key) String() string {
	if k.unix != "" {
		return k.unix
	}
	return k.addr.String()
}

// dial connects to the app. header, if any, is what the connection begins with.
func (d *Direct) dial(s task.Shard, network string, at key, deadline task.Instant, patience time.Duration, header []byte) (task.Conn, error) {
	address := at.String()
	if d.cfg.Own != nil && d.cfg.Own(network, address) {
		return nil, &proxy.Error{Code: proxy.LoopDetected, Unsent: true,
			Detail: fmt.Sprintf("%s is this sidecar's own listener: the configuration points back at itself", address)}
	}
	if patience == 0 {
		patience = d.cfg.DialTimeout
	}
	limit := s.Now().Add(patience)
	if deadline != 0 && deadline < limit {
		limit = deadline
	}
	c, err := s.Dial(network, address, limit)
	d.shards[s.Index()].dialled(at, err)
	if deadline != 0 && limit == deadline && errors.Is(err, task.ErrDeadline) {
		return nil, &proxy.Error{Code: proxy.Timeout, Detail: "no connection to the app at " + address + " in time", Unsent: true, Err: err}
	}
	if err != nil {
		return nil, &proxy.Error{Code: proxy.AppUnreachable, Detail: "connect to the app at " + address, Unsent: true, Err: err}
	}
	if len(header) > 0 {
		_ = c.Push(header) // an error shows in what is sent next
	}
	return c, nil
}

// open opens a Stream: a connection of its own.
func (t *target) open(req *proxy.Request, resp *proxy.Response, o *Options) error {
	s := t.state.shard
	if err := t.enterAnew(req, o.Places); err != nil {
		return err
	}
	c, err := t.state.d.dial(s, t.network, t.key, req.Deadline, req.ConnectTimeout, t.header(req, o))
	if err != nil {
		o.Places.leave()
		return err
	}
	if gone := req.Cancel.Err(); gone != nil {
		c.Reset()
		o.Places.leave()
		return &proxy.Error{Code: proxy.ClientGone, Detail: "the client left while the app was being dialled", Unsent: true, Err: gone}
	}
	resp.Status = 200
	resp.Version = proxy.HTTP11
	resp.Stream = c
	resp.OnClose(streamCloser{o.Places})
	return nil
}

// streamCloser ends a Stream that its user has not closed.
type streamCloser struct{ places *Places }

// CloseResponse implements proxy.ResponseCloser.
func (c streamCloser) CloseResponse(r *proxy.Response) {
	if r.Stream != nil {
		_ = r.Stream.Reset() // does nothing after Close
	}
	c.places.leave()
}
