package demo

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"time"
)

// How often, and how long, an answer is waited for: a datagram may be lost, and whoever sends one knows.
const (
	datagramTries   = 4
	datagramTimeout = 2 * time.Second
)

// datagrams sends a few of different sizes from a socket of its own, and wants each back.
func (d *driver) datagrams(ctx context.Context) error {
	c, err := new(net.Dialer).DialContext(ctx, "udp", d.t.Datagrams)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	for i := range 1 + rand.IntN(5) {
		if err := wantEcho(c, append(fmt.Appendf(nil, "%d:", i), payload(rand.IntN(4000))...)); err != nil {
			return err
		}
	}
	return nil
}

// wantEcho sends p until it comes back. Any other datagram is wrong, but for a late echo of an earlier one.
func wantEcho(c net.Conn, p []byte) error {
	b := make([]byte, 64<<10)
	for range datagramTries {
		if _, err := c.Write(p); err != nil {
			return err
		}
		if err := c.SetReadDeadline(time.Now().Add(datagramTimeout)); err != nil {
			return err
		}
		for {
			n, err := c.Read(b)
			if err != nil {
				break
			}
			if bytes.Equal(b[:n], p) {
				return nil
			}
			if n == len(p) {
				return fmt.Errorf("a datagram of %d bytes came back as another one", n)
			}
		}
	}
	return fmt.Errorf("a datagram of %d bytes did not come back in %d tries", len(p), datagramTries)
}
