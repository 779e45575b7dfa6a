package quiclink

import (
	"fmt"
	"net"

	"github.com/quic-go/quic-go"

	"github.com/pillion-proxy/pillion/proxy/task"
)

// transport is one UDP socket under QUIC.
type transport struct {
	quic.Transport
	d    *Dialer
	conn *net.UDPConn
}

// transport opens a socket, on an ordinary goroutine.
func (d *Dialer) transport() (*transport, error) {
	conn, err := d.cfg.Socket()
	if err != nil {
		return nil, fmt.Errorf("open a UDP socket: %w", err)
	}
	t := &transport{d: d, conn: conn}
	t.Conn = conn
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		conn.Close()
		return nil, task.ErrClosed
	}
	d.open[t] = struct{}{}
	return t, nil
}

// first returns the socket of new Links, opening it if need be. It runs on an ordinary goroutine.
func (d *Dialer) first() (*transport, error) {
	d.mu.Lock()
	t := d.shared
	d.mu.Unlock()
	if t != nil {
		return t, nil
	}
	t, err := d.transport()
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	won := d.shared == nil
	if won {
		d.shared = t
	}
	kept := d.shared
	d.mu.Unlock()
	if !won {
		t.Close()
	}
	return kept, nil
}

// Close ends the connections of the socket, and closes it.
func (t *transport) Close() {
	t.d.mu.Lock()
	delete(t.d.open, t)
	if t.d.shared == t {
		t.d.shared = nil
	}
	t.d.mu.Unlock()
	_ = t.Transport.Close()
	_ = t.conn.Close()
}
