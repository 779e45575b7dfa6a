package http3

import (
	"io"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/quic-go/quic-go/quicvarint"
)

const (
	capsuleDatagram = 0x0 // RFC 9297 section 3.5
	contextUDP      = 0x0 // RFC 9298 section 4: the payload of a UDP packet
	maxContext      = 8   // bytes
)

// readCapsules is the task that reads a flow's stream to its end. It holds a buffer only while there is something to read.
func (f *flow) readCapsules() {
	var err error = io.ErrUnexpectedEOF // a panic
	defer func() { f.end(err) }()
	p := capsuleParser{deliver: f.deliverValue, drop: func(why proxy.Drop) { f.FlowStats().Drop(why, 1) }}
	for {
		if err = f.st.waitReadable(); err != nil {
			return
		}
		if err = f.readSome(&p); err != nil {
			if err == io.EOF && !p.atBoundary() {
				err = io.ErrUnexpectedEOF
			}
			return
		}
	}
}

func (f *flow) readSome(p *capsuleParser) error {
	s := f.st.c.s
	b := s.Buffer()
	defer s.Free(b)
	n, err := f.st.read(b.B)
	p.feed(b.B[:n])
	return err
}

// deliverValue takes the value of a DATAGRAM, as capsule or from QUIC, and keeps it.
func (f *flow) deliverValue(value []byte) {
	context, n, err := quicvarint.Parse(value)
	if err != nil || context != contextUDP {
		// RFC 9298 section 4: "If a UDP proxy or a client receives a datagram with an unknown Context ID, the receiver SHALL either drop
		// that datagram silently or buffer it temporarily".
		f.FlowStats().Drop(proxy.DropForeign, 1)
		return
	}
	f.deliver(value[n:])
}

// capsuleParser takes capsules (RFC 9297 section 3.2) apart, in whatever pieces they come.
type capsuleParser struct {
	deliver func(value []byte) // of a DATAGRAM; it may be kept
	drop    func(why proxy.Drop)

	head  [2 * 8]byte // type and length, while they come
	n     int         // bytes in head
	skip  uint64      // bytes of a capsule to pass over
	value []byte      // of a DATAGRAM that is under way; its capacity is its length
}

// atBoundary reports whether no capsule is under way.
func (p *capsuleParser) atBoundary() bool { return p.n == 0 && p.skip == 0 && p.value == nil }

// feed takes the next piece, and does not keep it.
func (p *capsuleParser) feed(b []byte) {
	for len(b) > 0 {
		switch {
		case p.skip > 0:
			n := min(p.skip, uint64(len(b)))
			p.skip -= n
			b = b[n:]
		case p.value != nil:
			n := min(cap(p.value)-len(p.value), len(b))
			p.value = append(p.value, b[:n]...)
			b = b[n:]
			p.whole()
		default:
			p.head[p.n] = b[0]
			p.n++
			b = b[1:]
			p.begin()
		}
	}
}

// begin looks at the head, to which a byte was added.
func (p *capsuleParser) begin() {
	typ, n, err := quicvarint.Parse(p.head[:p.n])
	if err != nil {
		return
	}
	length, _, err := quicvarint.Parse(p.head[n:p.n])
	if err != nil {
		return
	}
	p.n = 0
	switch {
	case typ != capsuleDatagram: // RFC 9297 section 3.2: "unknown [...] capsules [...] MUST be silently dropped"
		p.skip = length
	case length > proxy.MaxDatagram+maxContext:
		p.skip = length
		p.drop(proxy.DropTooLong)
	default:
		p.value = make([]byte, 0, length)
		p.whole()
	}
}

// whole delivers the value once it is complete.
func (p *capsuleParser) whole() {
	if len(p.value) == cap(p.value) {
		v := p.value
		p.value = nil
		p.deliver(v)
	}
}
