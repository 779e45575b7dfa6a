package direct

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"
	"sync"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/bridge"
	"github.com/pillion-proxy/pillion/proxy/http3"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/upstream/pool"
)

// h3App is an app that speaks HTTP/3: a pool of connections for each shard, all of one socket.
type h3App struct {
	d     *Direct
	o     *Options
	pools []*pool.Pool // by shard
}

// h3Socket is the socket of all apps that speak HTTP/3, opened with the first connection. It is used by ordinary goroutines only: of Offload, and of Close.
type h3Socket struct {
	mu     sync.Mutex
	socket *http3.Socket
	closed bool
}

func (d *Direct) newH3App(o *Options) *h3App {
	a := &h3App{d: d, o: o}
	for _, s := range d.cfg.Shards {
		p := pool.New(pool.Config{Shard: s, Dial: a.dial, MaxLinks: 4})
		a.pools = append(a.pools, p)
		st := d.shards[s.Index()]
		st.h3 = append(st.h3, p)
	}
	return a
}

// RoundTrip carries out an Exchange, or opens a Stream by extended CONNECT.
func (a *h3App) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	network, k := address(req.Endpoint)
	a.d.shards[req.Shard.Index()].target(network, k, a.o) // where its health is noted
	scheme := req.Scheme
	req.Scheme = "https" // there is no HTTP/3 without TLS
	err := a.pools[req.Shard.Index()].RoundTrip(req.Endpoint, req, resp)
	req.Scheme = scheme
	return err
}

// dial is pool.Config.Dial.
func (a *h3App) dial(s task.Shard, ep *proxy.Endpoint, closed, changed func(pool.Link)) (pool.Link, error) {
	network, k := address(ep)
	if a.d.cfg.Own != nil && a.d.cfg.Own("udp", k.String()) {
		return nil, &proxy.Error{Code: proxy.LoopDetected, Unsent: true,
			Detail: k.String() + " is this sidecar's own listener: the configuration points back at itself"}
	}
	p, err := a.d.shards[s.Index()].enter(network, k)
	if err != nil {
		return nil, err
	}
	var l *h3Conn
	s.Offload(func() { l, err = a.connect(s, k.addr, func(l pool.Link) { p.leave(); closed(l) }, changed) })
	a.d.shards[s.Index()].dialled(k, err)
	if err != nil {
		p.leave()
		return nil, &proxy.Error{Code: proxy.AppUnreachable, Detail: "connect to the app at " + k.String() + " over HTTP/3" + advice(err), Unsent: true, Err: err}
	}
	return l, nil
}

// advice says which setting is about a certificate that was not accepted.
func advice(err error) string {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case errors.As(err, &unknown):
		return " (the app's tls.roots says who must have signed its certificate)"
	case errors.As(err, &name):
		return " (the app's tls.name says for whom its certificate must be)"
	}
	return ""
}

// connect makes a connection, on an ordinary goroutine.
func (a *h3App) connect(near task.Shard, addr netip.AddrPort, closed, changed func(pool.Link)) (*h3Conn, error) {
	conf, err := a.o.TLS()
	if err != nil {
		return nil, err
	}
	socket, err := a.d.h3Socket.open(a.d.cfg)
	if err != nil {
		return nil, err
	}
	far := a.d.cfg.Far(near)
	l := &h3Conn{}
	cfg := a.d.cfg.HTTP3
	cfg.OnClose = func(*http3.Conn, error) { near.Post(func() { closed(l) }) }
	cfg.OnChange = func(*http3.Conn) { near.Post(func() { changed(l) }) }
	ctx, cancel := context.WithTimeout(context.Background(), a.d.cfg.DialTimeout)
	defer cancel()
	c, err := socket.Dial(ctx, far, addr, conf, cfg, http3.Timing{Handshake: a.d.cfg.DialTimeout})
	if err != nil {
		return nil, err
	}
	l.Conn, l.to = c, c
	if far != near {
		l.to = bridge.New(near, far, c)
	}
	task.Start(far, func() { _ = c.Serve() })
	return l, nil
}

// h3Conn is a connection as one shard uses it.
type h3Conn struct {
	*http3.Conn
	to proxy.RoundTripper // the connection, or the way to its shard
}

// RoundTrip implements proxy.RoundTripper.
func (l *h3Conn) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	return l.to.RoundTrip(req, resp)
}

func (k *h3Socket) open(cfg Config) (*http3.Socket, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, task.ErrClosed
	}
	if k.socket == nil {
		c, err := cfg.Socket()
		if err != nil {
			return nil, err
		}
		k.socket = http3.NewSocket(c)
	}
	return k.socket, nil
}

// Close ends the connections that are not of a shard: those over QUIC. It is for ordinary goroutines, after Shutdown of every shard.
func (d *Direct) Close() {
	k := &d.h3Socket
	k.mu.Lock()
	socket := k.socket
	k.closed = true
	k.mu.Unlock()
	if socket != nil {
		socket.Close()
	}
}
