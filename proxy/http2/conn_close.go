package http2

import (
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// end is the one place where a stream ends: in order (err nil, END_STREAM both ways) or not. It leaves the connection's
// lists, whoever waits on it goes on, its handler's other half is cancelled, and the peer gets RST_STREAM if it has to be told.
// What has been received in order stays readable. The lock is held.
func (c *Conn) end(st *stream, err error, code ErrCode, t telling) {
	if st.over {
		return
	}
	full := c.available() == 0
	st.over, st.err = true, err
	c.streams.remove(st.id)
	st.dequeue()
	if t == tell {
		c.ready()
		c.out = appendRST(c.out, st.id, code)
		c.kick()
	}
	if st.inEnd {
		c.endedIDs.add(st.id)
	} else {
		c.resetIDs.add(st.id)
	}
	if err != nil {
		c.dropChunks(st)
		c.topUp()
		st.noReuse = true
		if c.server && !st.left {
			c.canceled = append(c.canceled, st)
		}
	} else {
		c.limits.rewardReset()
	}
	st.recvGate.Wake()
	st.sendGate.Wake()
	if full && c.available() > 0 {
		c.changed = true
	}
	if c.streams.len() == 0 {
		c.alive.idleSince = c.s.Now()
		c.kick() // flush gives the buffer back
	}
	c.closeIfDone()
}

// closeIfDone closes a connection that is going away after its last stream. The lock is held.
func (c *Conn) closeIfDone() {
	if c.goingAway && c.streams.len() == 0 && !c.failed {
		c.closing = true
		c.kick()
	}
}

// sentEnd notes that we have sent END_STREAM.
func (c *Conn) sentEnd(st *stream) {
	st.outEnd = true
	if st.inEnd {
		c.end(st, nil, ErrNo, silent)
	}
}

// provoked resets a stream on which the peer broke a rule. RFC 9113 section 5.4.2 would let it do so for
// ever; how often it may is bounded.
func (c *Conn) provoked(st *stream, code ErrCode, reason string) error {
	c.log("stream error", "stream", st.id, "code", code.String(), "reason", reason)
	e := &proxy.Error{Code: proxy.PeerReset, Detail: reason, Err: StreamReset{Code: code}}
	if c.server {
		e.Code = proxy.ClientGone
	}
	c.end(st, e, code, tell)
	return c.chargeReset("broken streams")
}

// peerReset is what a stream's users get where the peer reset it.
func (c *Conn) peerReset(code ErrCode) error {
	e := &proxy.Error{Code: proxy.PeerReset, Detail: "the peer reset the stream", Err: StreamReset{Code: code, Peer: true}}
	if c.server {
		e.Code, e.Detail = proxy.ClientGone, "the client reset the stream"
		return e
	}
	if code == ErrRefusedStream {
		// RFC 9113 section 8.7: "The REFUSED_STREAM error code [...] indicate[s] that the stream is being closed prior to
		// any processing having occurred."
		e.Code, e.Detail, e.Unsent = proxy.Refused, "the peer refused the stream before it ran", true
	}
	return e
}

// fail ends every stream, because the connection is over. Serve then returns. The lock is held.
func (c *Conn) fail(err error) {
	if c.failed {
		return
	}
	if c.err == nil && !c.closing {
		c.err = err
	}
	c.failed, c.goingAway, c.changed = true, true, true
	c.closing = c.closing || !c.lingering
	c.alive.stop()
	if c.streams.len() > 0 {
		lost := &proxy.Error{Code: proxy.PeerReset, Detail: "the connection was lost", Err: err}
		if c.server {
			lost.Code, lost.Detail = proxy.ClientGone, "the client's connection was lost"
		}
		unsent := &proxy.Error{Code: proxy.PeerReset, Detail: "the connection was lost before the request was sent", Unsent: true, Err: err}
		for st := range c.streams.all() {
			if !c.server && st.openedAt == c.pushes {
				c.end(st, unsent, ErrInternal, silent)
				continue
			}
			c.end(st, lost, ErrInternal, silent)
		}
	}
	for _, st := range c.settleWait {
		st.recvGate.Wake()
	}
	for st := c.heads.pop(); st != nil; st = c.heads.pop() {
		st.sendGate.Wake()
	}
	c.kick()
}

// farewell tells the peer why the connection ends. The lock is held.
func (c *Conn) farewell(err *ConnError) {
	if c.failed {
		return
	}
	c.log("connection error", "code", err.Code.String(), "reason", err.Reason)
	c.ready()
	c.out = appendGoAway(c.out, c.lastPeer, err.Code, err.Reason)
	c.lingering = true
}

const (
	lingerTime  = time.Second
	lingerBytes = 256 << 10
)

// linger discards what the peer has sent before it read our GOAWAY, for a bounded time: closing
// at once would make the kernel reset the connection, and GOAWAY could be lost.
func (c *Conn) linger() {
	c.flush()
	b := c.s.Buffer()
	c.t.SetDeadline(c.s.Now().Add(lingerTime))
	for n := 0; n < lingerBytes; {
		m, err := c.t.Read(b.B)
		if err != nil {
			break
		}
		n += m
	}
	c.s.Free(b)
}

// Shutdown ends the connection in order. A server first says that it is going to, and after a round trip, so that no
// stream is lost on its way, refuses new ones (RFC 9113 section 6.8); a client opens none. The last stream's end closes.
func (c *Conn) Shutdown() {
	c.s.Lock()
	defer c.unlock()
	if c.warned || c.failed {
		return
	}
	c.warned = true
	c.ready()
	if !c.server {
		c.out = appendGoAway(c.out, 0, ErrNo, "")
		c.goingAway, c.changed = true, true
		c.kick()
		c.closeIfDone()
		return
	}
	c.out = appendGoAway(c.out, maxStreamID, ErrNo, "")
	c.out = appendPing(c.out, 0, pingShutdown)
	c.kick()
	c.alive.shutdown = c.s.After(time.Second, c.lastCall)
}

// lastCall is the second half of a server's Shutdown: the round trip is over, or has taken too long.
func (c *Conn) lastCall() {
	c.s.Lock()
	defer c.unlock()
	c.sayLast()
}

func (c *Conn) sayLast() {
	if c.failed || c.lastAccepted != maxStreamID {
		return
	}
	c.goingAway, c.lastAccepted = true, c.lastPeer
	c.ready()
	c.out = appendGoAway(c.out, c.lastPeer, ErrNo, "")
	c.kick()
	c.closeIfDone()
}

// Close ends the connection at once: GOAWAY, every stream broken.
func (c *Conn) Close() {
	c.s.Lock()
	if !c.failed {
		c.closing = true
		c.ready()
		c.out = appendGoAway(c.out, c.lastPeer, ErrNo, "")
		c.fail(task.ErrClosed)
	}
	c.unlock()
	c.flush()
}

// gotGoAway handles the peer's GOAWAY: what it will not process is unsent, the rest goes on.
func (c *Conn) gotGoAway(last uint32, code ErrCode) error {
	if err := c.charge("GOAWAY frames"); err != nil {
		return err
	}
	c.goingAway, c.changed = true, true
	if code != ErrNo && c.err == nil {
		c.err = &ConnError{Code: code, Reason: "GOAWAY", Peer: true}
	}
	if !c.server {
		e := &proxy.Error{Code: proxy.Refused, Detail: "the peer is going away and has not processed the request", Unsent: true, Err: c.err}
		for st := range c.streams.all() {
			if st.id > last {
				c.end(st, e, ErrRefusedStream, silent)
			}
		}
	}
	if c.server && c.streams.len() == 0 {
		// The client closes, and may still be sending: closing first could answer it with a reset.
		c.s.After(lingerTime, c.closeLate)
		return nil
	}
	c.closeIfDone()
	return nil
}

// closeLate closes for a client that has said GOAWAY and not closed.
func (c *Conn) closeLate() {
	c.s.Lock()
	defer c.unlock()
	if !c.failed {
		c.closeIfDone()
	}
}

// recent remembers the stream ids of the last recentIDs that were added to it; nil remembers none.
type recent []uint32

// recentIDs is the distance of ids, of which every second one is a client's.
const recentIDs = 512

func (r *recent) add(id uint32) {
	if *r == nil {
		*r = make(recent, recentIDs/2)
	}
	(*r)[id/2%(recentIDs/2)] = id
}

func (r recent) has(id uint32) bool { return r != nil && r[id/2%(recentIDs/2)] == id }
