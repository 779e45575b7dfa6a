package http3

import (
	"context"
	"errors"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

// HTTP datagrams (RFC 9297) in QUIC's (RFC 9221). Both tasks of a connection begin with its first flow.

const (
	// maxOutbox bounds the datagrams of a connection that wait for QUIC; a further one is dropped, and counted.
	maxOutbox = 1024
	// maxOutboxBytes bounds their size together.
	maxOutboxBytes = 4 << 20
	// maxFlowOutbox bounds the bytes of one flow's, so that it leaves room for others. A burst that a socket's own buffer takes fits in.
	maxFlowOutbox = 512 << 10
	// maxQuarter is the largest Quarter Stream ID: RFC 9297 section 2.1.
	maxQuarter = 1<<60 - 1
	// outRoom is what fits before a payload, in bytes: the header of a DATA frame, that of a capsule, the context.
	outRoom = 32
	// maxAhead bounds the datagrams of a stream that come before its head.
	maxAhead = 16
	// outKept is the size of payloads whose buffers are used again, in bytes.
	outKept = 2 << 10
)

// outgoing is a payload on its way to QUIC, with outRoom bytes before it.
type outgoing struct {
	f *flow
	b []byte
}

// knowFlow says whether st's request asks for a flow, which is then made. The connection's tasks for datagrams begin with the first. mu is held.
func (c *Conn) knowFlow(st *stream, wanted bool) {
	ahead := st.ahead
	st.known, st.ahead = true, nil
	if !wanted {
		return
	}
	st.flow = newFlow(st)
	for _, value := range ahead {
		st.flow.deliverValue(value)
	}
	if c.outbox == nil && !c.failed && c.q.ConnectionState().SupportsDatagrams.Local {
		c.outbox = make(chan *outgoing, maxOutbox)
		c.helpers.Add(2)
		c.s.Go(c.sendDatagrams)
		c.s.Go(c.receiveDatagrams)
	}
}

// sendDatagram passes p to QUIC or to the stream without waiting, or drops it.
func (c *Conn) sendDatagram(f *flow, p []byte) {
	o, _ := c.outs.Get().(*outgoing)
	if o == nil {
		o = &outgoing{b: make([]byte, outRoom, outRoom+1500)}
	}
	o.f, o.b = f, append(o.b[:outRoom], p...)
	c.mu.Lock()
	box := c.outbox
	if !c.datagrams {
		box = nil
	}
	c.mu.Unlock()
	if box == nil {
		c.sendCapsule(o)
		c.reuse(o)
		return
	}
	n := int64(len(p))
	mine, all := f.sending.Add(n), c.outboxBytes.Add(n)
	if mine <= maxFlowOutbox && all <= maxOutboxBytes {
		select {
		case box <- o:
			return
		default:
		}
	}
	f.sending.Add(-n)
	c.outboxBytes.Add(-n)
	f.FlowStats().Drop(proxy.DropNoRoom, 1)
	c.reuse(o)
}

func (c *Conn) reuse(o *outgoing) {
	o.f = nil
	if cap(o.b) <= outRoom+outKept {
		c.outs.Put(o)
	}
}

// sendDatagrams is the task that passes datagrams to QUIC, which may let it wait.
func (c *Conn) sendDatagrams() {
	defer c.helpers.Done()
	for {
		select {
		case o := <-c.outbox:
			err := c.q.SendDatagram(o.prefixed())
			var large *quic.DatagramTooLargeError
			if errors.As(err, &large) {
				c.sendCapsule(o)
			}
			n := int64(len(o.b) - outRoom)
			o.f.sending.Add(-n)
			c.outboxBytes.Add(-n)
			c.reuse(o)
		case <-c.q.Context().Done():
			return
		}
	}
}

// prefixed is the payload with Quarter Stream ID and context before it.
func (o *outgoing) prefixed() []byte {
	quarter := uint64(o.f.st.id) / 4
	at := outRoom - 1 - quicvarint.Len(quarter)
	quicvarint.Append(o.b[:at], quarter)
	o.b[outRoom-1] = contextUDP
	return o.b[at:]
}

// sendCapsule writes o as a capsule on its stream, whole and at once, or drops it.
func (c *Conn) sendCapsule(o *outgoing) {
	value := uint64(len(o.b) - outRoom + 1)
	capsule := 1 + quicvarint.Len(value) + int(value)
	at := outRoom - 1 - (capsule - int(value)) - 1 - quicvarint.Len(uint64(capsule))
	b := appendFrameHeader(o.b[:at], frameData, int64(capsule))
	b = append(b, capsuleDatagram)
	quicvarint.Append(b, value)
	o.b[outRoom-1] = contextUDP
	if err := o.f.st.q.TryWriteAll(o.b[at:]); err != nil {
		o.f.FlowStats().Drop(proxy.DropNoRoom, 1)
	}
}

// receiveDatagrams is the task that hands QUIC's datagrams to their flows.
func (c *Conn) receiveDatagrams() {
	defer c.helpers.Done()
	for {
		b, err := c.q.ReceiveDatagram(context.Background())
		if err != nil {
			return // the connection is over
		}
		quarter, n, err := quicvarint.Parse(b)
		if err != nil || quarter > maxQuarter {
			// RFC 9297 section 2.1: "If an HTTP/3 Datagram [...] a larger value [or] is too short [...] MUST be treated as an HTTP/3 connection
			// error of type H3_DATAGRAM_ERROR."
			c.breakOff(&ConnError{Code: ErrDatagram, Reason: "malformed datagram"})
			return
		}
		c.gotDatagram(quic.StreamID(quarter*4), b[n:])
	}
}

// gotDatagram hands on one datagram. One for a stream that is over, or not there yet, is dropped: RFC 9297 section 2.1.
func (c *Conn) gotDatagram(id quic.StreamID, value []byte) {
	c.mu.Lock()
	st := c.streams[id]
	var f *flow
	dropped := true
	if st != nil {
		f = st.flow
		if dropped = !st.known && len(st.ahead) >= maxAhead; !st.known && !dropped {
			st.ahead = append(st.ahead, value)
		}
	}
	known := st != nil && st.known
	c.mu.Unlock()
	switch {
	case dropped:
		c.cfg.FlowStats.Drop(proxy.DropUnopened, 1)
	case !known:
	case f == nil:
		// RFC 9297 section 2: "If an HTTP Datagram is received and it is associated with a request that has no known semantics for HTTP
		// Datagrams, the receiver MUST terminate the request."
		c.failedStream(st, &streamError{ErrDatagram, "a datagram where there are none"})
	default:
		f.deliverValue(value)
	}
}

// Offer implements proxy.Offerer: head and body become one DATA frame, or nothing is written.
func (t *tunnelStream) Offer(head, body []byte) (bool, error) {
	s := t.st.c.s
	buf := s.Buffer()
	defer s.Free(buf)
	b := appendFrameHeader(buf.B[:0], frameData, int64(len(head)+len(body)))
	b = append(append(b, head...), body...)
	switch err := t.st.q.TryWriteAll(b); err {
	case nil:
		return true, nil
	case quic.ErrWouldBlock:
		return false, nil
	default:
		return false, t.st.writeFailed(err)
	}
}

// relayFlow answers that the Flow is there, and hands both ends over.
func (st *stream) relayFlow() {
	c := st.c
	if st.write(st.appendResponse(nil)) != nil {
		return
	}
	var stats *proxy.FlowStats
	if counter, ok := st.resp.Flow.(proxy.FlowCounter); ok {
		stats = counter.FlowStats()
	}
	st.flow.start(stats)
	c.cfg.Flows(c.s, st.flow, st.resp.Flow)
	st.flow.Close()
}

var (
	_ proxy.Flow    = (*flow)(nil)
	_ proxy.Waiter  = (*flow)(nil)
	_ proxy.Offerer = (*tunnelStream)(nil)
)
