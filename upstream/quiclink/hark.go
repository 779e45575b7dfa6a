package quiclink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// harkAfter is how long a handshake may take before it is asked whether anybody listens at all.
const harkAfter = 50 * time.Millisecond

// hark asks addr's machine whether anybody listens, and returns its refusal, or nil once ctx has ended: QUIC's own socket is connected to
// nobody, so that the kernel does not tell it. What is sent is one byte that is no QUIC packet, which a server ignores. It is an ordinary goroutine's.
func hark(ctx context.Context, addr netip.AddrPort) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "udp", addr.String())
	if err != nil {
		return nil
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err = c.Write([]byte{0}); err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("dial udp %v: %w", addr, syscall.ECONNREFUSED)
	}
	return nil
}

// harkened returns a context for a handshake with addr, which ends with the reason if nobody listens there, and what ends it.
func harkened(ctx context.Context, addr netip.AddrPort) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go listenForRefusal(ctx, addr, cancel, done)
	return ctx, func() {
		cancel(nil)
		<-done
	}
}

// listenForRefusal is the ordinary goroutine of harkened.
func listenForRefusal(ctx context.Context, addr netip.AddrPort, cancel context.CancelCauseFunc, done chan struct{}) {
	defer close(done)
	t := time.NewTimer(harkAfter)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return
	case <-t.C:
	}
	if err := hark(ctx, addr); err != nil {
		cancel(err)
	}
}
