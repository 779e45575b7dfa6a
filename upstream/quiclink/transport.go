package quiclink

import (
	"fmt"
	"net"

	"github.com/quic-go/quic-go"

	"github.com/pillion-proxy/pillion/proxy/http3"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// transport is one UDP socket under QUIC.
type transport struct {
	quic.Transport
	conn *net.UDPConn
}

// maxSockets bounds the sockets of a Dialer: the first is that of new Links, the others are for those whose path has died. They are
// shared by all Links, and stay open, for a Link does not outlive a socket that it has used.
const maxSockets = 4

// socket returns the i-th socket, counted round, opening it if need be. It runs on an ordinary goroutine.
func (d *Dialer) socket(i int) (*transport, error) {
	i %= maxSockets
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, task.ErrClosed
	}
	if d.sockets[i] != nil {
		return d.sockets[i], nil
	}
	conn, err := d.cfg.Socket()
	if err != nil {
		return nil, fmt.Errorf("open a UDP socket: %w", err)
	}
	t := &transport{conn: conn}
	t.Conn = http3.Packets(conn)
	d.sockets[i] = t
	return t, nil
}

// drop closes a socket that has failed. The next use opens another.
func (d *Dialer) drop(t *transport) {
	d.mu.Lock()
	for i := range d.sockets {
		if d.sockets[i] == t {
			d.sockets[i] = nil
		}
	}
	d.mu.Unlock()
	t.Close()
}

// Close ends the connections of the socket, and closes it.
func (t *transport) Close() {
	_ = t.Transport.Close()
	_ = t.conn.Close()
}
