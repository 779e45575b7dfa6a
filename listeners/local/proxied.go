package local

import (
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/proxy/proxyproto"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Sources are clients whose connections begin with a header of the PROXY protocol. The zero value is nobody.
type Sources struct {
	Nets []netip.Prefix
	Unix bool // clients of a Unix socket
}

func (f Sources) none() bool { return len(f.Nets) == 0 && !f.Unix }

// has reports whether c comes from one of them.
func (f Sources) has(c task.Conn) bool {
	if f.none() {
		return false
	}
	a := task.Remote(c).Addr().WithZone("")
	if !a.IsValid() {
		return f.Unix
	}
	for _, n := range f.Nets {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// headerTimeout bounds how long a header is waited for. Its sender has it ready when it connects.
const headerTimeout = 5 * time.Second

// serveProxied serves a connection that begins with a header. It keeps the task for as long as the connection lives, because who the client is
// belongs to the connection.
func (p *port) serveProxied(s task.Shard, c task.Conn) {
	client, err := readHeader(s, c)
	if err != nil {
		p.server.cfg.Logger.Warn("connection refused: it has to begin with a header of the PROXY protocol, as proxy_protocol.from says",
			"port", p.Name, "from", c.RemoteAddr(), "why", err)
		c.Reset()
		return
	}
	x := &proxied{Conn: c, client: client}
	defer x.Close()
	p.accepted(s, x)
	for !x.closed.Load() {
		first := p.next(s, x)
		if first == nil {
			return
		}
		p.serve(s, x, first)
	}
}

// readHeader reads a header and nothing behind it: whoever speaks next may be the server. The result is nil if it names no client.
func readHeader(s task.Shard, c task.Conn) (net.Addr, error) {
	c.SetDeadline(s.Now().Add(headerTimeout))
	defer c.SetDeadline(0)
	buf := s.Buffer()
	defer s.Free(buf)
	for {
		n, err := proxyproto.Need(buf.Unread())
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		n, err = c.Read(buf.Room()[:n])
		buf.W += n
		if n == 0 {
			return nil, err
		}
	}
	h, err := proxyproto.Parse(buf.Unread())
	switch {
	case err != nil:
		return nil, err
	case h.Datagram:
		return nil, errors.New("it is for UDP")
	case !h.Src.IsValid():
		return nil, nil
	}
	return net.TCPAddrFromAddrPort(h.Src), nil
}

// next waits, without a buffer, for the next bytes of an idle connection. nil: there are none.
func (p *port) next(s task.Shard, x *proxied) *task.Buffer {
	x.OnHangup(nil)
	x.OnDrain(nil)
	x.SetDeadline(0)
	leave := p.rest(s, x)
	defer leave()
	if x.WaitReadable() != nil {
		return nil
	}
	first := s.Buffer()
	if first.W, _ = x.Read(first.B); first.W == 0 {
		s.Free(first)
		return nil
	}
	return first
}

// rest has Shutdown close c until leave is called, or closes it now if that was called already.
func (p *port) rest(s task.Shard, c task.Conn) (leave func()) {
	resting := p.server.open[s.Index()].resting
	s.Lock()
	resting[c] = struct{}{}
	s.Unlock()
	if p.server.closing.Load() {
		c.Close()
	}
	return func() {
		s.Lock()
		delete(resting, c)
		s.Unlock()
	}
}

// proxied is a connection with the client that its header named.
type proxied struct {
	task.Conn
	client net.Addr // nil: the one that is there
	closed atomic.Bool
}

func (x *proxied) RemoteAddr() net.Addr {
	if x.client != nil {
		return x.client
	}
	return x.Conn.RemoteAddr()
}

func (x *proxied) Close() error {
	x.closed.Store(true)
	return x.Conn.Close()
}

func (x *proxied) Reset() error {
	x.closed.Store(true)
	return x.Conn.Reset()
}
