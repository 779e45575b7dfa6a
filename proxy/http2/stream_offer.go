package http2

// maxOffered is how many bytes may wait for a Transport that takes no more before Offer refuses: less than what ends the connection, maxBacklog.
const maxOffered = 256 << 10

// Offer implements proxy.Offerer: it writes head and body as DATA if the windows, the Transport and the turns of others leave room now. What
// is offered goes before bulk data, which keeps its turns.
func (t *tunnelStream) Offer(head, body []byte) (bool, error) {
	st, c := t.st, t.st.c
	c.s.Lock()
	if len(c.out) >= flushSize && !c.blocked { // many may offer in one turn
		c.unlock()
		c.flush()
		c.s.Lock()
	}
	defer c.unlock()
	if st.over || st.outEnd {
		return false, st.writeErr()
	}
	n := int64(len(head) + len(body))
	if len(st.pend) > 0 || n > min(st.sendWin, c.sendWin) || c.crowded(n) {
		c.kick()
		return false, nil
	}
	for len(head)+len(body) > 0 {
		m := min(len(head)+len(body), c.maxFrame, turnSize)
		c.grow(frameHeaderLen + m)
		c.out = appendFrameHeader(c.out, m, frameData, 0, st.id)
		k := min(m, len(head))
		c.out = append(append(c.out, head[:k]...), body[:m-k]...)
		head, body = head[k:], body[m-k:]
		c.limits.sent++
	}
	st.sent += n
	st.sendWin -= n
	c.sendWin -= n
	c.kick()
	return true, nil
}

// crowded reports whether n more bytes are too many for now. The lock is held.
func (c *Conn) crowded(n int64) bool {
	waits := int64(len(c.out)) + n
	if c.blocked {
		waits += int64(c.t.Queued())
	}
	return waits > maxOffered
}
