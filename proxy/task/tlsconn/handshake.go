package tlsconn

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"github.com/pillion-proxy/pillion/proxy/task"
)

// Handshaked is a connection between its handshake and its life on a shard. It must be attached or closed.
type Handshaked struct {
	tls  *tls.Conn
	wire *wire
}

// Client runs the client's side of a handshake over raw, which it takes over: after an error raw is closed. ctx bounds
// the handshake only. It blocks; call it on an ordinary goroutine. In TLS 1.3 it returns before the server has
// looked at the client's certificate: a refusal comes with the first Read.
func Client(ctx context.Context, raw net.Conn, cfg *tls.Config) (*Handshaked, error) {
	w := newWire(raw)
	return handshake(ctx, w, tls.Client(w, cfg))
}

// Server is Client for the other side. If it refuses the client it waits a moment for the client to read
// the alert that says so.
func Server(ctx context.Context, raw net.Conn, cfg *tls.Config) (*Handshaked, error) {
	w := newWire(raw)
	return handshake(ctx, w, tls.Server(w, cfg))
}

func handshake(ctx context.Context, w *wire, c *tls.Conn) (*Handshaked, error) {
	if err := c.HandshakeContext(ctx); err != nil {
		if w.wrote && ctx.Err() == nil {
			letAlertArrive(w.raw)
		}
		w.raw.Close()
		return nil, err
	}
	return &Handshaked{tls: c, wire: w}, nil
}

// letAlertArrive ends our side and reads for a moment what the peer has still sent: a close with unread bytes
// would be a reset, which can overtake the alert that explains it.
func letAlertArrive(raw net.Conn) {
	const (
		patience = 500 * time.Millisecond
		most     = 64 << 10 // bytes
	)
	half, ok := raw.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	raw.SetReadDeadline(time.Now().Add(patience))
	io.CopyN(io.Discard, raw, most)
}

// State describes the connection, as tls.Conn does.
func (h *Handshaked) State() tls.ConnectionState { return h.tls.ConnectionState() }

// LocalAddr is our address.
func (h *Handshaked) LocalAddr() net.Addr { return h.wire.local }

// RemoteAddr is the peer's address.
func (h *Handshaked) RemoteAddr() net.Addr { return h.wire.remote }

// Close says goodbye and closes the connection instead of attaching it; an attached one it leaves alone. It may
// block; call it on an ordinary goroutine.
func (h *Handshaked) Close() error {
	if h.wire.raw == nil {
		return nil
	}
	err := h.tls.Close()
	h.wire.raw = nil
	return err
}

var errAttached = errors.New("attach TLS connection: it was attached or closed before")

// Attach moves the connection to s, on which it must be called, by a task or a callback. It can be done once.
// After an error the connection is closed.
func (h *Handshaked) Attach(s task.Shard) (*Conn, error) {
	w := h.wire
	if w.raw == nil {
		return nil, errAttached
	}
	raw := w.raw
	w.raw = nil
	inner, err := s.Adopt(raw)
	if err != nil {
		raw.Close()
		return nil, err
	}
	w.inner = inner
	return &Conn{tls: h.tls, wire: w, inner: inner}, nil
}
