package http3

import (
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/quic-go/quic-go"
)

// end is the one place where a stream ends: in order (err nil, both halves have) or not. It leaves the connection's list, whoever waits
// on it goes on, its handler's other half is cancelled, and the peer is told with code. mu is held.
func (c *Conn) end(st *stream, err error, code ErrCode) {
	if st.over {
		return
	}
	full := c.available() == 0
	st.over, st.err = true, err
	delete(c.streams, st.id)
	if err != nil {
		st.q.CancelRead(quic.StreamErrorCode(code))
		st.q.CancelWrite(quic.StreamErrorCode(code))
		if c.server && !st.left {
			c.canceled = append(c.canceled, st)
		}
	} else {
		c.limits.resets.give()
	}
	st.release()
	if full && c.available() > 0 {
		c.changed = true
	}
	c.since = c.s.Now()
	c.closeIfDone()
}

// endWith is end for a caller that does not hold mu.
func (c *Conn) endWith(st *stream, err error, code ErrCode) {
	c.mu.Lock()
	c.end(st, err, code)
	c.unlock()
}

// provoked resets a stream on which the peer broke a rule; how often it may is bounded. It returns what the stream's users get.
func (c *Conn) provoked(st *stream, rule *streamError) error {
	c.log("stream error", "stream", st.id, "code", rule.code.String(), "reason", rule.reason)
	e := &proxy.Error{Code: proxy.PeerReset, Detail: rule.reason, Err: StreamReset{Code: rule.code}}
	if c.server {
		e.Code = proxy.ClientGone
	}
	c.mu.Lock()
	c.end(st, e, rule.code)
	c.chargeReset("broken streams")
	c.unlock()
	return e
}

// sentEnd notes that our half of st has ended in order.
func (c *Conn) sentEnd(st *stream) {
	c.mu.Lock()
	st.outEnd = true
	if st.inEnd {
		c.saidLast = c.s.Now()
		c.end(st, nil, ErrNo)
	}
	c.unlock()
}

// gotEnd notes that the peer's half has.
func (c *Conn) gotEnd(st *stream) {
	c.mu.Lock()
	st.inEnd = true
	if st.outEnd {
		c.end(st, nil, ErrNo)
	}
	c.unlock()
}

// breakOff ends the connection because the peer broke a rule.
func (c *Conn) breakOff(err *ConnError) {
	c.mu.Lock()
	c.breakOffLocked(err)
	c.unlock()
}

func (c *Conn) breakOffLocked(err *ConnError) {
	if c.failed {
		return
	}
	c.log("connection error", "code", err.Code.String(), "reason", err.Reason)
	c.closing = err
	c.fail(err)
}

// fail ends every stream, because the connection is over. mu is held.
func (c *Conn) fail(err error) {
	if c.failed {
		return
	}
	if c.err == nil && c.closing == nil {
		c.err = err
	} else if c.closing != nil && c.closing.Code != ErrNo {
		c.err = c.closing
	}
	c.failed, c.goingAway, c.changed = true, true, true
	if c.idle != nil {
		c.idle.Stop()
	}
	if c.shutdown != nil {
		c.shutdown.Stop()
	}
	lost := c.lost(err)
	for _, st := range c.streams {
		c.end(st, lost, ErrInternal)
	}
	if !c.ready {
		close(c.settled)
	}
}

// closeIfDone closes a connection that is going away after its last stream. mu is held.
func (c *Conn) closeIfDone() {
	if !c.goingAway || len(c.streams) > 0 || c.failed {
		return
	}
	// Closing discards what QUIC has not yet delivered: of the last answers, or of a Stream that the server has ended before us. The client, which
	// knows when it has the answers, closes; who has said the last word waits.
	wait := max(closeWait, 10*c.RTT())
	if !c.server {
		if wait -= c.s.Now().Sub(c.saidLast); c.saidLast == 0 || wait <= 0 {
			c.closing = &ConnError{Code: ErrNo}
			c.fail(nil)
			return
		}
	}
	if c.shutdown != nil {
		c.shutdown.Stop()
	}
	c.shutdown = c.s.After(wait, c.closeLate)
}

// closeWait is how long who has said the last word waits for the other end to close.
const closeWait = 2 * time.Second

func (c *Conn) closeLate() {
	c.mu.Lock()
	if len(c.streams) == 0 && !c.failed {
		c.closing = &ConnError{Code: ErrNo}
		c.fail(nil)
	}
	c.unlock()
}

// Shutdown ends the connection in order. A server first says that it is going to, and after a round trip, so that no
// request is lost on its way, refuses new ones (RFC 9114 section 5.2); a client opens none. The last stream's end closes.
func (c *Conn) Shutdown() {
	c.mu.Lock()
	if c.warned || c.failed {
		c.mu.Unlock()
		return
	}
	c.warned = true
	if c.server {
		c.shutdown = c.s.After(max(goAwayWait, 2*c.RTT()), c.lastCall)
		c.mu.Unlock()
		c.sayGoAway(maxStreamID)
		return
	}
	c.goingAway, c.changed = true, true
	c.mu.Unlock()
	c.sayGoAway(0) // a push id: no push will be taken
	c.mu.Lock()
	c.closeIfDone()
	c.unlock()
}

// goAwayWait is what is taken for a round trip between the two GOAWAY of a server, at least.
const goAwayWait = 100 * time.Millisecond

// lastCall is the second half of a server's Shutdown.
func (c *Conn) lastCall() {
	c.mu.Lock()
	if c.failed || c.goingAway {
		c.mu.Unlock()
		return
	}
	c.goingAway, c.lastAccepted = true, c.next
	last := c.next
	c.mu.Unlock()
	c.sayGoAway(uint64(last))
	c.mu.Lock()
	c.closeIfDone()
	c.unlock()
}

// Close ends the connection at once: every stream broken.
func (c *Conn) Close() {
	c.mu.Lock()
	if !c.failed {
		c.closing = &ConnError{Code: ErrNo}
		c.fail(task.ErrClosed)
	}
	c.unlock()
}

// gotGoAway handles the peer's GOAWAY: what it will not process is unsent, the rest goes on.
func (c *Conn) gotGoAway(id uint64) error {
	if err := c.charge("GOAWAY frames"); err != nil {
		return err
	}
	if !c.server && id%4 != 0 {
		// RFC 9114 section 7.2.6: "A client that receives a GOAWAY frame containing a stream ID of any other type MUST treat this as a
		// connection error of type H3_ID_ERROR."
		return &ConnError{Code: ErrID, Reason: "GOAWAY with an id that is no request's"}
	}
	c.mu.Lock()
	defer c.unlock()
	if id > c.peerGoAway {
		// RFC 9114 section 5.2: "Receiving a GOAWAY containing a larger identifier than previously received MUST be treated as a
		// connection error of type H3_ID_ERROR."
		return &ConnError{Code: ErrID, Reason: "GOAWAY with a larger id than before"}
	}
	c.peerGoAway = id
	if c.failed {
		return nil
	}
	c.goingAway, c.changed = true, true
	if !c.server {
		e := &proxy.Error{Code: proxy.Refused, Detail: "the peer is going away and has not processed the request", Unsent: true}
		for _, st := range c.streams {
			if uint64(st.id) >= id {
				c.end(st, e, ErrRequestCancelled)
			}
		}
	}
	c.closeIfDone()
	return nil
}
