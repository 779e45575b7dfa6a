package load

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// h2 is HTTP/2 without TLS, with prior knowledge (RFC 9113, section 3.3), and gRPC's unary calls over it.
type h2 struct {
	// Static after construction.
	request *h2Request
	grpc    bool
	limit   int // streams that we would open

	// Of this connection.
	streams    map[uint32]*h2Stream
	idle       []*h2Stream // for reuse
	queue      []instant   // wait for the peer's limits; they outlive the connection
	nextID     uint32
	begun      bool  // a request has been sent with the table that the peer has now
	settled    bool  // the peer's SETTINGS have come
	leaving    bool  // no more requests on this connection
	small      bool  // the peer's table of fields is smaller than usual: nothing is kept in it
	maxStreams int   // the peer's
	window     int64 // bytes of bodies that the peer takes
	initial    int64 // of which on one stream, at its beginning
	unread     int64 // bytes of bodies that we have taken and not yet said so
	frame      h2Frame
	fields     h2Fields
}

// h2Stream is one request under way.
type h2Stream struct {
	due  instant
	bad  error
	seen bool // the head of the answer
}

// h2Frame is the frame that is being read.
type h2Frame struct {
	head  [9]byte
	n     int // bytes of head that are there
	left  int // bytes of the payload to come
	data  []byte
	block []byte // a field block that is continued
	of    uint32 // its stream; 0 if there is none
	ends  bool   // the stream ends with it
}

// What of RFC 9113 is needed.
const (
	preface       = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	recvWindow    = 1<<30 - 1 // bytes, for a stream and for the connection: what is measured is the target's speed, not our reading
	defaultWindow = 65535     // bytes
	tellAt        = 1 << 24   // bytes taken, after which the peer is told
	maxFrame      = 16384     // bytes of a payload, unless we allow more
	lastID        = 1 << 30   // from here on another connection is made

	frameData, frameHeaders, framePriority, frameReset, frameSettings      = 0, 1, 2, 3, 4
	framePush, framePing, frameGoAway, frameWindowUpdate, frameContinuaton = 5, 6, 7, 8, 9

	flagEndStream, flagAck, flagEndHeaders, flagPadded, flagPriority = 0x1, 0x1, 0x4, 0x8, 0x20

	setTableSize, setPush, setMaxStreams, setWindow = 1, 2, 3, 4
)

func newH2(c *Config) *h2 {
	return &h2{request: newH2Request(c), grpc: c.Protocol == GRPC, limit: c.Streams}
}

// open says the preface. Requests wait for the peer's SETTINGS, which bound them.
func (h *h2) open(c *conn) bool {
	*h = h2{request: h.request, grpc: h.grpc, limit: h.limit, queue: h.queue, streams: map[uint32]*h2Stream{}, nextID: 1, window: defaultWindow, initial: defaultWindow, maxStreams: 1 << 30}
	h.fields.reset()
	c.out = append(c.out, preface...)
	c.out = appendFrame(c.out, 12, frameSettings, 0, 0)
	c.out = binary.BigEndian.AppendUint16(c.out, setPush)
	c.out = binary.BigEndian.AppendUint32(c.out, 0)
	c.out = binary.BigEndian.AppendUint16(c.out, setWindow)
	c.out = binary.BigEndian.AppendUint32(c.out, recvWindow)
	c.out = appendWindowUpdate(c.out, recvWindow-defaultWindow)
	return false
}

func (h *h2) places() int { return h.limit - len(h.queue) - len(h.streams) }

func (h *h2) send(c *conn, due instant) {
	h.queue = append(h.queue, due)
	h.pump(c)
}

// pump sends what waits, as far as the peer allows.
func (h *h2) pump(c *conn) {
	sent := 0
	for _, due := range h.queue {
		if !h.settled || h.leaving || len(h.streams) >= h.maxStreams || int64(len(h.request.body)) > h.window {
			break
		}
		sent++
		s := &h2Stream{}
		if n := len(h.idle); n > 0 {
			s, h.idle = h.idle[n-1], h.idle[:n-1]
		}
		*s = h2Stream{due: due}
		h.streams[h.nextID] = s
		c.out = h.request.append(c.out, h.nextID, h.small, h.begun)
		h.begun = true
		h.window -= int64(len(h.request.body))
		h.nextID += 2
		c.touch()
		if h.nextID >= lastID {
			h.leaving = true
		}
	}
	h.queue = slices.Delete(h.queue, 0, sent)
}

func (h *h2) unfinished(f func(instant)) {
	for _, s := range h.streams {
		f(s.due)
	}
	for _, due := range h.queue {
		f(due)
	}
}

func (h *h2) end(c *conn, now instant, cause error) {
	for _, s := range h.streams {
		c.failed(s.due, now, cause)
	}
	clear(h.streams)
}

// feed reads frames. The payload of DATA is counted as it comes, others are gathered.
func (h *h2) feed(c *conn, p []byte, now instant) error {
	life := c.life
	f := &h.frame
	for len(p) > 0 {
		if f.n < len(f.head) {
			k := copy(f.head[f.n:], p)
			f.n, p = f.n+k, p[k:]
			if f.n < len(f.head) {
				return nil
			}
			f.left, f.data = int(f.head[0])<<16|int(f.head[1])<<8|int(f.head[2]), f.data[:0]
			if f.left > maxFrame {
				return fmt.Errorf("a frame of %d bytes, which is no HTTP/2 or more than was allowed", f.left)
			}
		}
		k := min(f.left, len(p))
		payload := p[:k]
		f.left, p = f.left-k, p[k:]
		if f.head[3] != frameData && (f.left > 0 || len(f.data) > 0) {
			f.data = append(f.data, payload...)
			payload = f.data
		}
		if f.head[3] == frameData {
			h.unread += int64(k)
		}
		if f.left > 0 {
			return nil
		}
		f.n = 0
		if err := h.handle(c, payload, now); err != nil || c.life != life {
			return err
		}
	}
	if h.unread >= tellAt {
		c.out = appendWindowUpdate(c.out, uint32(h.unread))
		h.unread = 0
		c.touch()
	}
	return nil
}

// handle deals with a whole frame.
func (h *h2) handle(c *conn, p []byte, now instant) error {
	f := &h.frame
	kind, flags, id := f.head[3], f.head[4], binary.BigEndian.Uint32(f.head[5:])&(1<<31-1)
	if f.of != 0 && (kind != frameContinuaton || id != f.of) {
		return fmt.Errorf("frame type %d within a field block", kind)
	}
	switch kind {
	case frameData:
		if flags&flagEndStream != 0 {
			h.finish(c, id, now, nil)
		}
	case frameHeaders:
		block, err := stripHeaders(p, flags)
		if err != nil {
			return err
		}
		f.ends = flags&flagEndStream != 0
		return h.fieldBlock(c, id, block, flags, now)
	case frameContinuaton:
		return h.fieldBlock(c, id, p, flags, now)
	case frameReset:
		if len(p) == 4 {
			h.finish(c, id, now, fmt.Errorf("the stream was reset with code %d", binary.BigEndian.Uint32(p)))
		}
	case frameSettings:
		if flags&flagAck == 0 {
			return h.settings(c, p)
		}
	case framePing:
		if flags&flagAck == 0 && len(p) == 8 {
			c.out = appendFrame(c.out, 8, framePing, flagAck, 0)
			c.out = append(c.out, p...)
			c.touch()
		}
	case frameGoAway:
		if len(p) >= 8 {
			h.goAway(c, binary.BigEndian.Uint32(p)&(1<<31-1), binary.BigEndian.Uint32(p[4:]), now)
		}
	case frameWindowUpdate:
		if len(p) == 4 && id == 0 {
			h.window += int64(binary.BigEndian.Uint32(p) & (1<<31 - 1))
			h.pump(c)
		}
	}
	return nil
}

// stripHeaders returns the field block of a HEADERS frame.
func stripHeaders(p []byte, flags byte) ([]byte, error) {
	pad := 0
	if flags&flagPadded != 0 && len(p) > 0 {
		pad, p = int(p[0]), p[1:]
	}
	if flags&flagPriority != 0 {
		p = p[min(5, len(p)):]
	}
	if pad > len(p) {
		return nil, fmt.Errorf("%d bytes of padding in a frame with %d", pad, len(p))
	}
	return p[:len(p)-pad], nil
}

// settings takes the peer's in and acknowledges them.
func (h *h2) settings(c *conn, p []byte) error {
	for ; len(p) >= 6; p = p[6:] {
		value := binary.BigEndian.Uint32(p[2:])
		switch binary.BigEndian.Uint16(p) {
		case setTableSize:
			if small := value < 4096; small != h.small {
				h.small, h.begun = small, false
			}
		case setMaxStreams:
			h.maxStreams = int(min(value, 1<<30))
		case setWindow:
			h.initial = int64(value)
		}
	}
	c.out = appendFrame(c.out, 0, frameSettings, flagAck, 0)
	c.touch()
	if int64(len(h.request.body)) > h.initial {
		return fmt.Errorf("the target takes %d bytes on a new stream, and a request has %d", h.initial, len(h.request.body))
	}
	if h.settled {
		h.pump(c)
		return nil
	}
	h.settled = true
	h.pump(c) // of a former connection
	c.ready()
	return nil
}

// goAway replaces the connection once the rest is answered. What the peer has not looked at is sent again on the next one
// (RFC 9113, section 6.8), unless this one answered nothing: a target that refuses all is not asked for ever.
func (h *h2) goAway(c *conn, last, code uint32, now instant) {
	h.leaving = true
	for _, id := range slices.Sorted(maps.Keys(h.streams)) {
		switch {
		case id <= last:
		case c.useful || last > 0:
			h.queue = append(h.queue, h.streams[id].due)
			delete(h.streams, id)
		default:
			h.finish(c, id, now, fmt.Errorf("the target said goodbye, with code %d", code))
		}
	}
	h.leave(c)
}

// leave replaces a connection on which nothing is under way and nothing more may be sent.
func (h *h2) leave(c *conn) {
	if h.leaving && len(h.streams) == 0 && c.state == open {
		c.replace()
	}
}

// fieldBlock takes a part of a field block, and looks at it when it is whole.
func (h *h2) fieldBlock(c *conn, id uint32, p []byte, flags byte, now instant) error {
	f := &h.frame
	if flags&flagEndHeaders == 0 || f.of != 0 {
		if f.of == 0 {
			f.of, f.block = id, f.block[:0]
		}
		if f.block = append(f.block, p...); len(f.block) > maxHead {
			return fmt.Errorf("a field block is longer than %d bytes", maxHead)
		}
		if flags&flagEndHeaders == 0 {
			return nil
		}
		p, f.of = f.block, 0
	}
	said, err := h.fields.read(p)
	if err != nil {
		return fmt.Errorf("field block: %w", err)
	}
	s := h.streams[id]
	if s == nil || said.status >= 100 && said.status < 200 {
		return nil
	}
	if !s.seen {
		s.seen = true
		if said.status < 200 || said.status > 399 {
			s.bad = fmt.Errorf("answered %d", said.status)
		}
	}
	if f.ends {
		if h.grpc && s.bad == nil && said.grpc != "0" {
			s.bad = fmt.Errorf("the call ended with grpc-status %s", strconv.Quote(said.grpc))
		}
		h.finish(c, id, now, nil)
	}
	return nil
}

// finish ends a stream: with an answer, or with a failure.
func (h *h2) finish(c *conn, id uint32, now instant, failure error) {
	s := h.streams[id]
	if s == nil {
		return
	}
	delete(h.streams, id)
	h.idle = append(h.idle, s)
	if failure == nil {
		failure = s.bad
	}
	if failure == nil && !s.seen {
		failure = errCut
	}
	if h.leaving {
		c.failed(s.due, now, failure)
		h.leave(c)
		return
	}
	h.pump(c)
	c.answer(s.due, now, failure)
}

// appendFrame appends the head of a frame.
func appendFrame(out []byte, length int, kind, flags byte, id uint32) []byte {
	out = append(out, byte(length>>16), byte(length>>8), byte(length), kind, flags)
	return binary.BigEndian.AppendUint32(out, id)
}

// appendWindowUpdate lets the peer send more on the connection.
func appendWindowUpdate(out []byte, n uint32) []byte {
	return binary.BigEndian.AppendUint32(appendFrame(out, 4, frameWindowUpdate, 0, 0), n)
}
