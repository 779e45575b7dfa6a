// Package local accepts the app's connections: the outbound port, which understands whatever an HTTP client says (proxy
// requests in absolute form, CONNECT, HTTP/1 and prior-knowledge h2c routed by Host), SOCKS, and TLS of the app's own, routed by the name in its
// ClientHello; and a port per service for apps that only know host:port. It finds out what a connection speaks, hands it to the codec, and never decides where anything goes.
package local

import (
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/answer"
	"github.com/pillion-proxy/pillion/proxy/detect"
	"github.com/pillion-proxy/pillion/proxy/http1"
	"github.com/pillion-proxy/pillion/proxy/http2"
	"github.com/pillion-proxy/pillion/proxy/socks"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Protocol is what is spoken on a port.
type Protocol int

const (
	Auto Protocol = iota // found out, without waiting
	HTTP                 // HTTP/1 and h2c
	TCP                  // anything
)

// Config is shared by all ports.
type Config struct {
	// Handler is the outbound stack.
	Handler proxy.RoundTripper
	// Tunnel relays two Streams until both have ended.
	Tunnel func(s task.Shard, client, upstream proxy.Stream)
	// Answer makes pillion's own answers to what is no valid request.
	Answer func(req *proxy.Request, resp *proxy.Response, err error)
	// MaxHead bounds a request's head, in bytes. If zero, 64 KiB.
	MaxHead int
	// TLSPorts are the ports asked for, by name of the service, where TLS on the outbound port names that. Those missing ask for none.
	TLSPorts map[string]uint16
	// Flows are the settings of the Flows that datagrams of SOCKS have, by name of the service. Those missing are not counted, and live for a minute
	// without a datagram.
	Flows  map[string]Flows
	Shards []task.Shard
	Logger *slog.Logger
}

// Flows says how a service's Flows are kept.
type Flows struct {
	// Idle is how long one lives without a datagram. If zero, one minute.
	Idle time.Duration
	// Stats counts; may be nil.
	Stats *proxy.FlowStats
}

// Port is one listening socket.
type Port struct {
	// Name is the setting that asked for it, for logs.
	Name     string
	Listener net.Listener
	// Service is where everything on this port goes; zero for the outbound port, which routes by Host.
	Service  proxy.Service
	Protocol Protocol
	// ProxyFrom are those whose connections must begin with a header of the PROXY protocol, which says who the client is.
	ProxyFrom Sources
	// MaxConns bounds the open connections. Zero means no bound.
	MaxConns int
}

// detectTimeout bounds how long the first bytes of a request may take to show what they are.
const detectTimeout = 10 * time.Second

// Server serves the app's connections. Make it with New.
type Server struct {
	cfg     Config // but for TLSPorts and Flows, which are in known
	known   atomic.Pointer[known]
	memory  *memory
	closing atomic.Bool
	open    []opened // by Shard.Index

	patience time.Duration // the constants, but in tests
	tick     time.Duration
}

// opened is what Shutdown has to tell on one shard. Guarded by its lock.
type opened struct {
	h2     map[*http2.Conn]struct{} // connections of the app
	silent map[*opening]struct{}    // connections on which nobody has spoken
	// resting are connections whose task only waits, so that the listener does not know that they are idle: after a header of the PROXY protocol, and
	// those that hold an association of SOCKS.
	resting map[task.Conn]struct{}
}

// known is what a Server knows of services, by their names. It does not change.
type known struct {
	tlsPorts map[string]uint16
	flows    map[string]Flows
}

// Replace puts other TLSPorts and Flows in the place of those of the Config. What is open goes on as it was.
func (l *Server) Replace(tlsPorts map[string]uint16, flows map[string]Flows) {
	l.known.Store(&known{tlsPorts, flows})
}

// New returns a Server without ports.
func New(cfg Config) (*Server, error) {
	memory, err := newMemory()
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, memory: memory, open: make([]opened, len(cfg.Shards)), patience: patience, tick: maxTick}
	s.Replace(cfg.TLSPorts, cfg.Flows)
	for i := range s.open {
		s.open[i] = opened{make(map[*http2.Conn]struct{}), make(map[*opening]struct{}), make(map[task.Conn]struct{})}
	}
	return s, nil
}

// Listen serves p on rt.
func (l *Server) Listen(rt task.Runtime, p Port) (task.Listener, error) {
	pt := &port{Port: p, server: l, handler: l.cfg.Handler}
	if pt.findsOut() {
		pt.handler = pt.learn(l.cfg.Handler)
	}
	h1, err := http1.NewServer(http1.ServerConfig{
		Handler: pt.handler, Prepare: pt.prepare, Tunnel: l.cfg.Tunnel, Answer: l.cfg.Answer,
		Closing: l.closing.Load, MaxHead: l.cfg.MaxHead, Logger: l.cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	pt.http1 = h1
	return rt.Listen(p.Listener, task.ServeOptions{
		Serve: pt.serve,
		Eager: pt.mayBeServerFirst() || !p.ProxyFrom.none(),
		Max:   p.MaxConns,
	})
}

// Shutdown makes each running request the last of its connection, and ends connections on which nobody has said anything. Idle
// HTTP/1 connections are closed by task.Listener.CloseIdle.
func (l *Server) Shutdown() {
	l.closing.Store(true)
	for i, s := range l.cfg.Shards {
		s.Post(func() {
			s.Lock()
			h2 := make([]*http2.Conn, 0, len(l.open[i].h2))
			for c := range l.open[i].h2 {
				h2 = append(h2, c)
			}
			for o := range l.open[i].silent {
				o.stop = true
				o.gate.Wake()
			}
			resting := slices.Collect(maps.Keys(l.open[i].resting))
			s.Unlock()
			for _, c := range resting {
				c.Close()
			}
			for _, c := range h2 {
				c.Shutdown()
			}
		})
	}
}

// Speaks returns what has been found out about a service's own port, for status.
func (l *Server) Speaks(s proxy.Service) detect.Verdict { return l.memory.recall(s) }

type port struct {
	Port
	server  *Server
	handler proxy.RoundTripper
	http1   *http1.Server
	noted   noted
}

// note remembers what the service speaks.
func (p *port) note(v detect.Verdict) { p.noted.set(v, p.server.memory.note(p.Service, v)) }

// learn remembers that a service speaks HTTP once it has answered a request, and not because a client tried.
func (p *port) learn(next proxy.RoundTripper) proxy.RoundTripper {
	return proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
		err := next.RoundTrip(req, resp)
		v := detect.HTTP1
		if req.Version == proxy.HTTP2 {
			v = detect.HTTP2
		}
		if err == nil && !p.noted.is(p.server.memory, v) && !req.IsConnect() && !resp.Fields.Has(answer.CodeField) {
			p.note(v)
		}
		return err
	})
}

// prepare completes an HTTP/1 request.
func (p *port) prepare(req *proxy.Request, c task.Conn) {
	req.Client = task.Remote(c)
	p.claim(req)
}

func (p *port) claim(req *proxy.Request) {
	req.Local = true
	req.Service = p.Service
}

// mayBeServerFirst reports whether a connection may need an answer before its client has said a word.
func (p *port) mayBeServerFirst() bool { return p.Protocol != HTTP && p.Service.Name != "" }

// serve runs when a connection is accepted (first is nil) on a port where the server may speak first or a header names the client, and whenever
// bytes arrive on an idle connection.
func (p *port) serve(s task.Shard, c task.Conn, first *task.Buffer) {
	switch {
	case first != nil:
	case p.ProxyFrom.has(c):
		p.serveProxied(s, c)
		return
	default:
		p.accepted(s, c)
		return
	}
	if p.Protocol == TCP {
		p.tunnel(s, c, first)
		return
	}
	if p.findsOut() { // it has spoken HTTP/1, or nobody has spoken
		p.serveFound(s, c, first)
		return
	}
	if p.Service.Name == "" && p.other(s, c, first) {
		return
	}
	v := p.sniff(s, c, first)
	switch {
	case v == detect.HTTP1:
		p.http1.Serve(s, c, first)
	case v == detect.HTTP2:
		p.serveHTTP2(s, c, first)
	case v == detect.TLS || v == detect.SOCKS5, p.server.memory.recall(p.Service) == detect.HTTP2: // an answer in HTTP/1 would be noise to who meant HTTP/2
		p.refuse(s, c, first, v)
	default:
		p.http1.Serve(s, c, first) // which says what is wrong with it
	}
}

// other serves what an app may speak on the outbound port besides HTTP, told by its first byte, with which no HTTP begins.
func (p *port) other(s task.Shard, c task.Conn, first *task.Buffer) bool {
	switch first.Unread()[0] {
	case socks.Version4, socks.Version5:
		p.serveSOCKS(s, c, first)
	case recordHandshake:
		p.passTLS(s, c, first)
	default:
		return false
	}
	return true
}

// findsOut reports whether nobody has said what is spoken on the port, and there is a server that may say it.
func (p *port) findsOut() bool { return p.Protocol == Auto && p.Service.Name != "" }

// accepted decides, before a byte has come, whether to wait for one.
func (p *port) accepted(s task.Shard, c task.Conn) {
	switch {
	case !p.mayBeServerFirst():
	case p.Protocol == TCP:
		p.tunnel(s, c, nil)
	case p.findsOut():
		switch p.server.memory.recall(p.Service) {
		case detect.HTTP1, detect.HTTP2:
			p.expectHTTP(s, c)
		default: // what one client said first binds no other
			p.findOut(s, c, nil, 0)
		}
	}
}

// sniff reads until the first bytes tell what they are, or returns detect.Unknown.
func (p *port) sniff(s task.Shard, c task.Conn, first *task.Buffer) detect.Verdict {
	v, ok := detect.Sniff(first.Unread())
	if ok {
		return v
	}
	c.SetDeadline(s.Now().Add(detectTimeout))
	defer c.SetDeadline(0)
	for len(first.Room()) > 0 {
		n, err := c.Read(first.Room())
		first.W += n
		if v, ok = detect.Sniff(first.Unread()); ok {
			return v
		}
		if err != nil {
			break
		}
	}
	return detect.Unknown
}

func (p *port) serveHTTP2(s task.Shard, c task.Conn, first *task.Buffer) {
	client := task.Remote(c)
	l := p.server
	said := slices.Clone(first.Unread()) // a Buffer would be held as long as the connection lives
	s.Free(first)
	h2 := http2.NewServer(s, c, http2.Config{
		Handler: p.handler, Tunnel: l.cfg.Tunnel, Answer: l.cfg.Answer, MaxHead: l.cfg.MaxHead, Logger: l.cfg.Logger,
		Prepare: func(req *proxy.Request) {
			req.Client = client
			p.claim(req)
		},
	})
	open := l.open[s.Index()].h2
	s.Lock()
	open[h2] = struct{}{}
	s.Unlock()
	defer func() {
		s.Lock()
		delete(open, h2)
		s.Unlock()
		c.Close()
	}()
	if l.closing.Load() { // Shutdown may have missed it
		h2.Shutdown()
	}
	if err := h2.Serve(said); err != nil && err != io.EOF {
		l.cfg.Logger.Debug("HTTP/2 connection of the app ended", "port", p.Name, "client", client, "err", err)
	}
}

// refuse ends a connection that speaks what this port does not understand.
func (p *port) refuse(s task.Shard, c task.Conn, first *task.Buffer, v detect.Verdict) {
	p.server.cfg.Logger.Warn("connection refused: this port takes HTTP/1 and HTTP/2 without TLS; give the service a port of its own for other protocols",
		"port", p.Name, "client", c.RemoteAddr(), "speaks", v.String())
	s.Free(first)
	c.Close()
}
