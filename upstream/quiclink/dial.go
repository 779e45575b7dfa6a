package quiclink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/bridge"
	"github.com/pillion-proxy/pillion/proxy/http3"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/tls/mtls"
	"github.com/pillion-proxy/pillion/upstream/pool"
)

// dial makes a Link, on an ordinary goroutine.
func (d *Dialer) dial(ctx context.Context, near task.Shard, ep *proxy.Endpoint, closed, changed func(pool.Link)) (*Link, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.DialTimeout)
	defer cancel()
	t, err := d.socket(0)
	if err != nil {
		return nil, &proxy.Error{Code: proxy.ConnectFailed, Detail: "connect to the sidecar of " + string(ep.Identity), Unsent: true, Err: err}
	}
	shaking, done := harkened(ctx, ep.Addr)
	q, err := d.connect(shaking, t, ep)
	if cause := context.Cause(shaking); err != nil && errors.Is(cause, syscall.ECONNREFUSED) {
		err = cause
	}
	done()
	if errors.Is(err, quic.ErrTransportClosed) {
		d.drop(t)
	}
	if err != nil {
		return nil, d.refused(ep, err)
	}
	far := d.cfg.Far(near)
	l := &Link{d: d, ep: *ep, near: near, far: far, q: q, since: time.Now(), addresser: pool.Addresser{Shard: near}}
	cfg := d.cfg.HTTP3
	if d.cfg.Idle != nil {
		cfg.IdleTimeout = d.cfg.Idle(ep)
	}
	cfg.OnClose = func(_ *http3.Conn, err error) {
		if d.cfg.EarlyData && err != nil && !l.shaken() {
			d.sessions.forget(ep)
		}
		near.Post(func() { closed(l) })
	}
	cfg.OnChange = func(*http3.Conn) { near.Post(func() { changed(l) }) }
	l.changed = func() { near.Post(func() { changed(l) }) }
	l.conn = http3.NewClient(far, q, cfg)
	if far != near {
		l.bridge = bridge.New(near, far, l.sender())
	}
	task.Start(far, l.serve)
	if d.cfg.EarlyData && !l.shaken() {
		l.addresser.Pillion = d.sessions.get(ep).pillion
		l.watch()
		return l, nil
	}
	// The peer's SETTINGS say whether it is a pillion; and only now is it sure that it accepts our certificate.
	until, _ := ctx.Deadline()
	stop := context.AfterFunc(ctx, l.conn.Close)
	err = l.conn.WaitReady(task.Now().Add(time.Until(until)))
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		l.conn.Close()
		return nil, d.refused(ep, err)
	}
	l.addresser.Pillion = l.conn.Stats().Pillion
	d.sessions.note(ep, l.addresser.Pillion)
	l.watch()
	return l, nil
}

// connect shakes hands.
func (d *Dialer) connect(ctx context.Context, t *transport, ep *proxy.Endpoint) (*quic.Conn, error) {
	conf := d.cfg.TLS(ep.Identity)
	conf.NextProtos = []string{http3.ALPN}
	addr := net.UDPAddrFromAddrPort(ep.Addr)
	if !d.cfg.EarlyData {
		return t.Dial(ctx, addr, conf, d.quic)
	}
	conf.SessionTicketsDisabled = false
	conf.ClientSessionCache = d.sessions.of(ep)
	return t.DialEarly(ctx, addr, conf, d.quic)
}

// refused tells a handshake that ended because of a certificate from one that broke off, as when nobody answers.
func (d *Dialer) refused(ep *proxy.Endpoint, err error) error {
	err = d.cfg.Explain(http3.HandshakeError(err))
	var theirs *mtls.CertificateError
	var ours *mtls.RefusedError
	e := &proxy.Error{Code: proxy.ConnectFailed, Unsent: true, Err: err}
	if errors.As(err, &theirs) || errors.As(err, &ours) {
		e.Code = proxy.BadIdentity
	}
	e.Detail = fmt.Sprintf("the QUIC handshake with %v, expected to be %s", ep, ep.Identity)
	return e
}
