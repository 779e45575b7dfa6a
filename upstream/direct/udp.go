package direct

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"syscall"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/datagram"
	"github.com/pillion-proxy/pillion/proxy/proxyproto"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// openFlow opens a Flow: a connected socket of its own, so that the app sees each client at a port of its own, and answers find their way.
func (d *Direct) openFlow(req *proxy.Request, resp *proxy.Response, o *Options) error {
	s, ep := req.Shard, req.Endpoint
	if ep.Unix != "" {
		return &proxy.Error{Code: proxy.Unsupported, Detail: "datagrams go to an address and port, not to " + ep.String(), Unsent: true}
	}
	if d.cfg.Own != nil && d.cfg.Own("udp", ep.Addr.String()) {
		return &proxy.Error{Code: proxy.LoopDetected, Unsent: true,
			Detail: fmt.Sprintf("%v is this sidecar's own UDP port: the configuration points back at itself", ep.Addr)}
	}
	c, err := s.DialPacket(ep.Addr)
	if err != nil {
		return &proxy.Error{Code: proxy.AppUnreachable, Detail: "a socket for datagrams to " + ep.String(), Unsent: true, Err: err}
	}
	f := &udpFlow{s: s, c: c, app: o.Flows, stats: o.Flows}
	if o.Header != proxyproto.None && req.Peer != nil {
		f.header = proxyproto.Append(nil, o.Header, proxyproto.Header{Src: req.Client, Dst: ep.Addr, Datagram: true, Identity: string(req.Peer.Identity)})
	}
	o.Flows.Opened()
	if d.cfg.Logger != nil && d.cfg.Logger.Enabled(context.Background(), slog.LevelDebug) {
		d.cfg.Logger.Debug("flow opened", "app", ep.Addr, "from", c.LocalAddr(), "client", req.Client, "caller", callerOf(req))
	}
	resp.Status, resp.Version = 101, proxy.HTTP11
	// RFC 9297 section 3.4: the field says that the content is capsules.
	resp.Fields.Add(datagram.CapsuleField, datagram.CapsuleValue)
	resp.Flow = f
	resp.OnClose(f)
	return nil
}

func callerOf(req *proxy.Request) proxy.Identity {
	if req.Peer == nil {
		return ""
	}
	return req.Peer.Identity
}

// udpFlow is the Flow between pillion and one app. An app that does not listen is not its end: it may be starting again.
type udpFlow struct {
	// Static after construction.
	s     task.Shard
	c     task.PacketConn
	app   *proxy.FlowStats // of the app entry; nil for an app that is called without a sidecar, where the caller counts
	stats *proxy.FlowStats // for what is dropped
	// header begins each datagram to the app: the PROXY protocol has no connection to say it once for.
	header []byte

	// Guarded by the shard's lock.
	closed bool
}

// FlowStats implements proxy.FlowCounter.
func (f *udpFlow) FlowStats() *proxy.FlowStats { return f.stats }

// CountIn implements proxy.FlowCounter. An app entry's own counter stays.
func (f *udpFlow) CountIn(stats *proxy.FlowStats) {
	if f.stats == nil {
		f.stats = stats
	}
}

// WaitReadable implements proxy.Waiter.
func (f *udpFlow) WaitReadable() error {
	for {
		err := f.c.WaitReadable()
		if !task.Unreachable(err) {
			return err
		}
		f.stats.Drop(proxy.DropRefused, 1)
	}
}

// Receive implements proxy.Flow.
func (f *udpFlow) Receive(p []byte) (int, error) {
	for {
		n, _, err := f.c.Receive(p)
		if !task.Unreachable(err) {
			if err == nil {
				f.app.Answer()
			}
			return n, err
		}
		f.stats.Drop(proxy.DropRefused, 1)
	}
}

// Send implements proxy.Flow. The kernel tells of a datagram that found nobody when the next one is sent, which is then sent again.
func (f *udpFlow) Send(p []byte) error {
	f.app.Request()
	if len(p) > proxy.MaxDatagram {
		f.stats.Drop(proxy.DropTooLong, 1)
		return proxy.ErrDatagramTooLong
	}
	if len(f.header) > 0 {
		b := f.s.Datagram()
		defer f.s.Free(b)
		p = append(append(b.B[:0], f.header...), p...)
	}
	err := f.c.Send(p, task.Route{})
	if task.Unreachable(err) && !errors.Is(err, syscall.EMSGSIZE) {
		f.stats.Drop(proxy.DropRefused, 1)
		err = f.c.Send(p, task.Route{})
	}
	switch {
	case err == nil, errors.Is(err, task.ErrClosed):
		return err
	case errors.Is(err, syscall.EMSGSIZE):
		f.stats.Drop(proxy.DropTooLong, 1)
	case task.Unreachable(err):
		f.stats.Drop(proxy.DropRefused, 1)
	default:
		f.stats.Drop(proxy.DropSocket, 1)
	}
	return nil
}

// Close implements proxy.Flow.
func (f *udpFlow) Close() error {
	f.s.Lock()
	closed := f.closed
	f.closed = true
	f.s.Unlock()
	if closed {
		return nil
	}
	lost := f.c.Lost()
	f.stats.Drop(proxy.DropOverflow, int(lost))
	f.app.Closed()
	return f.c.Close()
}

// CloseResponse implements proxy.ResponseCloser.
func (f *udpFlow) CloseResponse(*proxy.Response) { _ = f.Close() }
