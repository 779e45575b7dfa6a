package http3

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/quic-go/quic-go"
)

// Timing says how long a QUIC connection waits.
type Timing struct {
	// Handshake bounds a handshake. If zero, 5 s.
	Handshake time.Duration
	// Silence ends a connection on which nothing is heard, in spite of a PING after a third of it. If zero, 20 s.
	Silence time.Duration
}

func (t Timing) apply(q *quic.Config) *quic.Config {
	if t.Handshake == 0 {
		t.Handshake = 5 * time.Second
	}
	if t.Silence == 0 {
		t.Silence = 20 * time.Second
	}
	q.HandshakeIdleTimeout, q.MaxIdleTimeout, q.KeepAlivePeriod = t.Handshake, t.Silence, t.Silence/3
	return q
}

// Socket is a UDP socket on which connections are dialled or accepted, for who does not need more of QUIC. It is safe for concurrent use, on ordinary
// goroutines.
type Socket struct {
	conn *net.UDPConn
	tr   quic.Transport
}

// NewSocket takes conn over.
func NewSocket(conn *net.UDPConn) *Socket {
	return &Socket{conn: conn, tr: quic.Transport{Conn: conn}}
}

// Dial makes the client's end of a connection to addr, its handshake complete. s is of goroutines; somebody must run Serve there. conf needs a
// ServerName; the protocol that is asked for is set here.
func (k *Socket) Dial(ctx context.Context, s task.Shard, addr netip.AddrPort, conf *tls.Config, cfg Config, t Timing) (*Conn, error) {
	conf = conf.Clone()
	conf.NextProtos = []string{ALPN}
	q, err := k.tr.Dial(ctx, net.UDPAddrFromAddrPort(addr), conf, t.apply(cfg.QUIC()))
	if err != nil {
		return nil, HandshakeError(err)
	}
	return NewClient(s, q, cfg), nil
}

// Close ends the connections of the socket, and closes it.
func (k *Socket) Close() {
	_ = k.tr.Close()
	_ = k.conn.Close()
}

// Addr is where the socket is bound.
func (k *Socket) Addr() net.Addr { return k.conn.LocalAddr() }

// Server accepts connections on a Socket.
type Server struct {
	socket *Socket
	ln     *quic.Listener
	shards []task.Shard
	config func(s task.Shard) Config
	max    int

	mu       sync.Mutex
	conns    map[*Conn]struct{}
	draining bool
}

// Listen makes a Server whose connections are dealt to shards, which are of goroutines; config says how those of a shard behave. No more than max
// are open at once; more are refused. Nothing is accepted before Run.
func (k *Socket) Listen(conf *tls.Config, t Timing, shards []task.Shard, max int, config func(s task.Shard) Config) (*Server, error) {
	conf = conf.Clone()
	conf.NextProtos = []string{ALPN}
	ln, err := k.tr.Listen(conf, t.apply(config(shards[0]).QUIC()))
	if err != nil {
		return nil, err
	}
	return &Server{socket: k, ln: ln, shards: shards, config: config, max: max, conns: make(map[*Conn]struct{})}, nil
}

// Run accepts until ctx ends or the Server is closed. Connections live on until then.
func (v *Server) Run(ctx context.Context) error {
	for i := 0; ; i++ {
		q, err := v.ln.Accept(ctx)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, quic.ErrServerClosed) || errors.Is(err, quic.ErrTransportClosed) {
				return nil
			}
			return err
		}
		s := v.shards[i%len(v.shards)]
		if v.Open() >= v.max {
			q.CloseWithError(quic.ApplicationErrorCode(ErrExcessiveLoad), "too many connections")
			continue
		}
		task.Start(s, func() { v.serve(s, q) })
	}
}

// serve is the task of a connection.
func (v *Server) serve(s task.Shard, q *quic.Conn) {
	c := NewServer(s, q, v.config(s))
	v.mu.Lock()
	v.conns[c] = struct{}{}
	draining := v.draining
	v.mu.Unlock()
	defer func() {
		v.mu.Lock()
		delete(v.conns, c)
		v.mu.Unlock()
	}()
	if draining {
		c.Shutdown()
	}
	_ = c.Serve()
}

// Open is the number of connections.
func (v *Server) Open() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.conns)
}

// Busy is the number of connections on which something runs.
func (v *Server) Busy() int {
	n := 0
	for _, c := range v.all() {
		if c.Stats().Running > 0 {
			n++
		}
	}
	return n
}

func (v *Server) all() []*Conn {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := make([]*Conn, 0, len(v.conns))
	for c := range v.conns {
		all = append(all, c)
	}
	return all
}

// Shutdown takes no new connections, and lets those that are open end in order.
func (v *Server) Shutdown() {
	v.mu.Lock()
	v.draining = true
	v.mu.Unlock()
	_ = v.ln.Close()
	for _, c := range v.all() {
		c.Shutdown()
	}
}

// Close ends every connection, and closes the socket.
func (v *Server) Close() {
	_ = v.ln.Close()
	for _, c := range v.all() {
		c.Close()
	}
	v.socket.Close()
}
