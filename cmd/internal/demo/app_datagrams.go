package demo

import (
	"context"
	"fmt"
	"net"
)

// echoDatagrams answers each datagram with itself until ctx ends.
func echoDatagrams(ctx context.Context, c net.PacketConn) error {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	b := make([]byte, 64<<10)
	for {
		n, from, err := c.ReadFrom(b)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("receive on %v: %w", c.LocalAddr(), err)
		}
		_, _ = c.WriteTo(b[:n], from) // nobody is owed an answer
	}
}
