package http3

import (
	"errors"
	"io"
	"time"

	"github.com/pillion-proxy/pillion/proxy/task"
)

var errNoSettings = errors.New("the peer sent no HTTP/3 SETTINGS in time")

// WaitReady waits until the peer's SETTINGS have come, which say whether it speaks HTTP/3 at all, accepts our
// certificate, and is a pillion. The error says why the connection ended instead. Another task runs Serve meanwhile.
func (c *Conn) WaitReady(deadline task.Instant) error {
	if !c.awaitSettings(c.wall(deadline)) {
		return errNoSettings
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ready:
		return nil
	case c.err == nil:
		return io.ErrUnexpectedEOF
	default:
		return c.err
	}
}

// awaitSettings waits until the peer's SETTINGS have been seen or the connection has ended, and reports whether that was in time.
func (c *Conn) awaitSettings(until time.Time) bool {
	select {
	case <-c.settled:
		return true
	default:
	}
	var expired <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		expired = t.C
	}
	select {
	case <-c.settled:
		return true
	case <-expired:
		return false
	}
}
