package http2

import (
	"errors"
	"io"

	"github.com/pillion-proxy/pillion/proxy/task"
)

var errNoSettings = errors.New("the peer sent no HTTP/2 SETTINGS in time")

// WaitReady waits until the peer's first SETTINGS have come, which say whether it speaks HTTP/2 at all, accepts our
// certificate, and is a pillion. The error says why the connection ended instead. It is for one task, while another runs Serve.
func (c *Conn) WaitReady(deadline task.Instant) error {
	var gate task.Gate
	c.s.Gate(&gate)
	c.s.Lock()
	c.readyGate = &gate
	defer func() {
		c.readyGate = nil
		c.s.Unlock()
	}()
	for !c.settled && !c.failed {
		if !c.waitUnlocked(&gate, deadline) {
			return errNoSettings
		}
	}
	switch {
	case c.settled:
		return nil
	case c.err == nil:
		return io.ErrUnexpectedEOF
	default:
		return c.err
	}
}

// waitUnlocked waits without the lock, which it holds before and after, even if the task is unwound.
func (c *Conn) waitUnlocked(g *task.Gate, deadline task.Instant) bool {
	c.s.Unlock()
	defer c.s.Lock()
	return g.Wait(deadline)
}

// AvailableLocked is Available for a caller that holds the shard's lock.
func (c *Conn) AvailableLocked() int { return c.available() }

// DoubtfulLocked reports whether the peer is silent in spite of a request and a PING, so that no streams are offered for now. The caller
// holds the shard's lock.
func (c *Conn) DoubtfulLocked() bool { return c.alive.suspect }

// LeavingLocked reports whether the connection will never take a new stream again. The caller holds the shard's lock.
func (c *Conn) LeavingLocked() bool { return c.goingAway || c.failed }
