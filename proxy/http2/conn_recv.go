package http2

import "github.com/pillion-proxy/pillion/proxy"

// beginData accounts for a DATA frame and checks that its stream may have one.
func (c *Conn) beginData(h frameHeader) error {
	n := int64(h.length)
	if n > c.recvWin {
		return &ConnError{Code: ErrFlowControl, Reason: "connection window exceeded"}
	}
	c.recvWin -= n
	if n == 0 && !h.has(flagEndStream) {
		if err := c.charge("empty DATA frames"); err != nil {
			return err
		}
	} else {
		c.limits.reward()
	}
	st := c.streams.get(h.id)
	switch {
	case st == nil && c.idle(h.id):
		return protocolError("DATA on an idle stream")
	case st == nil && c.endedIDs.has(h.id):
		c.ready()
		c.out = appendRST(c.out, h.id, ErrStreamClosed)
		c.kick()
		return c.chargeReset("DATA on closed streams")
	case st == nil:
		return nil // on its way when we reset the stream
	case st.inEnd:
		return c.provoked(st, ErrStreamClosed, "DATA after END_STREAM")
	case !st.headDone:
		return c.provoked(st, ErrProtocol, "DATA before HEADERS")
	case n > st.recvWin+c.grace():
		return c.provoked(st, ErrFlowControl, "stream window exceeded")
	}
	st.recvWin -= n
	return nil
}

// grace is by how much a stream's window may be exceeded: until the peer has acknowledged our SETTINGS
// it goes by the default of RFC 9113 section 6.9.2.
func (c *Conn) grace() int64 {
	if c.acked {
		return 0
	}
	return max(0, initialWindow-int64(c.cfg.StreamWindow))
}

// data takes a piece of a DATA frame's content: into the memory of a waiting reader, the rest into chunks.
func (c *Conn) data(id uint32, p []byte) {
	st := c.streams.get(id)
	if st == nil {
		return
	}
	st.inBytes += int64(len(p))
	if st.discard {
		return
	}
	if st.buffered == 0 && st.wanted == 0 && len(st.want) > 0 {
		st.wanted = copy(st.want, p)
		p = p[st.wanted:]
	}
	for len(p) > 0 {
		i := len(st.chunks) - 1
		if i < 0 || len(st.chunks[i].Room()) == 0 {
			b := c.s.Buffer()
			b.R, b.W = 0, 0
			st.chunks = append(st.chunks, b)
			i++
		}
		b := st.chunks[i]
		n := copy(b.Room(), p)
		b.W += n
		p = p[n:]
		st.buffered += n
		c.unread += int64(n)
	}
	st.recvGate.Wake()
}

// endData completes a DATA frame.
func (c *Conn) endData(h frameHeader) error {
	st := c.streams.get(h.id)
	if st == nil {
		c.topUp()
		return nil
	}
	if st.noBody && st.inBytes > 0 {
		return c.provoked(st, ErrProtocol, "DATA where there is no content")
	}
	if st.inLength != proxy.Unknown && st.inBytes > st.inLength {
		return c.provoked(st, ErrProtocol, "more DATA than content-length")
	}
	if h.has(flagEndStream) {
		if err := c.gotEnd(st); err != nil {
			return err
		}
	}
	c.topUp()
	c.topUpStream(st)
	return nil
}

// gotEnd handles END_STREAM.
func (c *Conn) gotEnd(st *stream) error {
	if st.inLength != proxy.Unknown && st.inBytes != st.inLength && !st.noBody {
		// RFC 9113 section 8.1.1: "A request or response is also malformed if the value of a content-length header
		// field does not equal the sum of the DATA frame payload lengths that form the content".
		return c.provoked(st, ErrProtocol, "less DATA than content-length")
	}
	st.inEnd = true
	st.recvGate.Wake()
	if st.outEnd {
		c.end(st, nil, ErrNo, silent)
	}
	return nil
}

// take moves unread data to p. The lock is held, and there is data.
func (c *Conn) take(st *stream, p []byte) int {
	n, done := 0, 0
	for _, b := range st.chunks {
		m := copy(p[n:], b.Unread())
		b.R += m
		n += m
		if b.R < b.W {
			break
		}
		c.s.Free(b)
		done++
	}
	if done > 0 {
		rest := copy(st.chunks, st.chunks[done:])
		clear(st.chunks[rest:])
		st.chunks = st.chunks[:rest]
	}
	st.buffered -= n
	c.unread -= int64(n)
	c.topUp()
	c.topUpStream(st)
	return n
}

// dropChunks discards what st holds.
func (c *Conn) dropChunks(st *stream) {
	for i, b := range st.chunks {
		c.s.Free(b)
		st.chunks[i] = nil
	}
	st.chunks = st.chunks[:0]
	c.unread -= int64(st.buffered)
	st.buffered = 0
}

// dropUnread discards what a stream that is given back still holds, which few do.
func (c *Conn) dropUnread(st *stream) {
	if len(st.chunks) > 0 {
		c.dropChunks(st)
		c.topUp()
	}
}

// gotWindow handles WINDOW_UPDATE.
func (c *Conn) gotWindow(id uint32, n int64) error {
	if err := c.chargeWindow(); err != nil {
		return err
	}
	if id == 0 {
		if n == 0 {
			return protocolError("WINDOW_UPDATE of 0")
		}
		if c.sendWin += n; c.sendWin > maxWindow {
			return &ConnError{Code: ErrFlowControl, Reason: "connection window too large"}
		}
		c.stalls.Conn.end(&c.stalledConn, c.s)
		c.kick()
		return nil
	}
	st := c.streams.get(id)
	if st == nil {
		if c.idle(id) {
			return protocolError("WINDOW_UPDATE on an idle stream")
		}
		return nil
	}
	if n == 0 {
		return c.provoked(st, ErrProtocol, "WINDOW_UPDATE of 0")
	}
	if st.sendWin+n > maxWindow {
		return c.provoked(st, ErrFlowControl, "stream window too large")
	}
	c.widen(st, n)
	return nil
}

// widen changes what st may send by n, which may be negative, and lets it wait for its turn.
func (c *Conn) widen(st *stream, n int64) {
	st.sendWin += n
	if len(st.pend) > 0 && st.queue == nil && st.sendWin > 0 {
		c.stalls.Stream.end(&st.stalled, c.s)
		c.enqueue(st)
		c.kick()
	}
}
