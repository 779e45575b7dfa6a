// Package auto makes Links over TCP or QUIC, whichever works: what is known to work for a peer is used at once; where nothing is known TCP is tried first
// and QUIC a quarter of a second behind, and the first handshake that is verified wins. Flows prefer QUIC, everything else TCP, which costs less where both
// work. A transport that fails while the other works is left out for a while, longer each time, and tried again; when the
// preferred one works again the Link moves there: new streams go to the new connection, and the old one ends with its last.
// What was learnt is kept per peer and network (Memory), bounded, and shown by pillion status.
package auto

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/upstream/pool"
)

// Dial makes a Link of one kind; see pool.Config.
type Dial func(s task.Shard, ep *proxy.Endpoint, closed, changed func(pool.Link)) (pool.Link, error)

// Config says what there is to choose from.
type Config struct {
	TCP, QUIC Dial
	// Prefer is what is used where both work. If empty, TCP.
	Prefer proxy.Transport
	// Memory is what was learnt. Several Dialers may share it. Required.
	Memory *Memory
	// HeadStart is how long the first transport is alone. If zero, 250 ms. One that is known to work has four times that.
	HeadStart time.Duration
	// Network names the network over which a peer is reached now; it may wait. If nil, the local address that the system would send from.
	Network func(peer *proxy.Endpoint) string
}

// Dialer makes Links. Make it with New.
type Dialer struct{ cfg Config }

// New returns a Dialer.
func New(cfg Config) *Dialer {
	if cfg.Prefer == "" {
		cfg.Prefer = proxy.TCP
	}
	if cfg.HeadStart == 0 {
		cfg.HeadStart = 250 * time.Millisecond
	}
	if cfg.Network == nil {
		cfg.Network = localAddress
	}
	return &Dialer{cfg: cfg}
}

// Dial makes a Link to ep, by the rules of the package comment, or over the one transport that ep names. It is called by a task of s.
func (d *Dialer) Dial(s task.Shard, ep *proxy.Endpoint, closed, changed func(pool.Link)) (pool.Link, error) {
	var k Key
	s.Offload(func() { k = Key{ep.Addr, d.cfg.Network(ep)} })
	if t := ep.Transport; t == proxy.TCP || t == proxy.QUIC {
		l, err := d.dial(t)(s, ep, closed, changed)
		d.cfg.Memory.saw(k, t, err)
		return l, err
	}
	r := &race{d: d, s: s, ep: *ep, key: k}
	s.Gate(&r.gate)
	first, err := r.run()
	if err != nil {
		return nil, err
	}
	return newLink(r, first, closed, changed)
}

func (d *Dialer) dial(t proxy.Transport) Dial {
	if t == proxy.QUIC {
		return d.cfg.QUIC
	}
	return d.cfg.TCP
}

// other is the transport that t is not.
func other(t proxy.Transport) proxy.Transport {
	if t == proxy.QUIC {
		return proxy.TCP
	}
	return proxy.QUIC
}

// localAddress is the address from which this machine would send to ep, on an ordinary goroutine. Nothing is sent.
func localAddress(ep *proxy.Endpoint) string {
	var d net.Dialer
	c, err := d.DialContext(context.Background(), "udp", ep.Addr.String())
	if err != nil {
		return ""
	}
	defer c.Close()
	host, _, err := net.SplitHostPort(c.LocalAddr().String())
	if err != nil {
		return ""
	}
	return host
}

// refused reports whether the machine is there and nobody listens: no transport will find a sidecar.
func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// badIdentity reports whether err says that somebody else answers, which no other transport changes.
func badIdentity(err error) bool {
	var e *proxy.Error
	return errors.As(err, &e) && e.Code == proxy.BadIdentity
}
