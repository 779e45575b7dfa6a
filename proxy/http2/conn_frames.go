package http2

import "encoding/binary"

// readState says what the next bytes are.
//
//	readPreface → readHeader → readPrefix → readData | readBlock → readPad → readHeader
//	                         → readWhole → (readPad: what is not looked at) → readHeader
type readState uint8

const (
	readHeader  readState = iota // 9 bytes
	readPreface                  // a server's first 24 bytes
	readPrefix                   // pad length and priority of DATA and HEADERS
	readData                     // content, in pieces
	readBlock                    // a fragment of a header block, in pieces
	readWhole                    // a small payload, all at once
	readPad                      // bytes to skip
)

// reading is the state of the reader between pieces of input. No frame is ever collected in memory.
type reading struct {
	state readState
	h     frameHeader
	need  int // bytes of readPrefix and readWhole
	left  int // bytes of the payload to come, padding not counted
	pad   int // bytes to skip at the end
	block block
}

// block is a header block that is arriving; id 0 means none.
type block struct {
	id        uint32
	endStream bool
	selfish   bool // it depends on itself
	bytes     int
	frames    int
}

// maxBlockFrames is the number of frames that a header block may have; an honest one is cut at 16 KiB.
const maxBlockFrames = 64

// step handles the beginning of b and returns how much of it that was; 0 if it takes more bytes.
func (r *reading) step(c *Conn, b []byte) (int, error) {
	switch r.state {
	case readPreface:
		n := min(len(b), len(preface))
		if string(b[:n]) != preface[:n] {
			return 0, protocolError("bad connection preface")
		}
		if n < len(preface) {
			return 0, nil
		}
		r.state = readHeader
		return n, nil
	case readHeader:
		if len(b) < frameHeaderLen {
			return 0, nil
		}
		return frameHeaderLen, r.begin(c, parseFrameHeader(b))
	case readPrefix, readWhole:
		if len(b) < r.need {
			return 0, nil
		}
		n := r.need
		if r.state == readPrefix {
			return n, r.prefix(c, b[:n])
		}
		if err := c.control(r.h, b[:n]); err != nil {
			return 0, err
		}
		r.left -= n
		r.skip(r.left)
		return n, nil
	case readData, readBlock:
		n := min(len(b), r.left)
		r.left -= n
		if r.state == readData {
			c.data(r.h.id, b[:n])
		} else if err := c.head.write(b[:n]); err != nil {
			return 0, &ConnError{Code: ErrCompression, Reason: err.Error()}
		}
		if r.left > 0 {
			return n, nil
		}
		return n, r.end(c)
	default:
		n := min(len(b), r.left)
		r.skip(r.left - n)
		return n, nil
	}
}

// skip makes the next n bytes padding.
func (r *reading) skip(n int) {
	r.state, r.left = readPad, n
	if n == 0 {
		r.state = readHeader
	}
}

func protocolError(reason string) error { return &ConnError{Code: ErrProtocol, Reason: reason} }
func sizeError(reason string) error     { return &ConnError{Code: ErrFrameSize, Reason: reason} }
func calm(reason string) error          { return &ConnError{Code: ErrEnhanceYourCalm, Reason: reason} }

// begin checks a frame's header and decides how its payload is read.
func (r *reading) begin(c *Conn, h frameHeader) error {
	r.h, r.left, r.pad = h, h.length, 0
	switch {
	case h.length > c.cfg.MaxFrame:
		return sizeError("frame larger than SETTINGS_MAX_FRAME_SIZE")
	case !c.settled && (h.typ != frameSettings || h.has(flagAck)):
		// RFC 9113 section 3.4: the preface of either end is or ends with a SETTINGS frame.
		return protocolError("first frame is not SETTINGS")
	case r.block.id != 0 && (h.typ != frameContinuation || h.id != r.block.id):
		// RFC 9113 section 4.3: "with no interleaved frames of any other type or from any other stream".
		return protocolError("header block interrupted")
	}
	switch h.typ {
	case frameData, frameHeaders:
		return r.beginContent(c)
	case frameContinuation:
		return r.beginContinuation(c)
	case framePushPromise:
		return protocolError("PUSH_PROMISE")
	default:
		return r.beginWhole(c)
	}
}

func (r *reading) beginContent(c *Conn) error {
	h := r.h
	if h.id == 0 {
		return protocolError("DATA or HEADERS on stream 0")
	}
	r.need = 0
	if h.has(flagPadded) {
		r.need = 1
	}
	if h.typ == frameHeaders {
		r.block = block{id: h.id, endStream: h.has(flagEndStream), frames: 1}
		c.head.begin()
		if h.has(flagPriority) {
			r.need += 5
		}
	} else if err := c.beginData(h); err != nil {
		return err
	}
	if r.need > h.length {
		return sizeError("frame too short for its flags")
	}
	if r.need > 0 {
		r.state = readPrefix
		return nil
	}
	return r.content(c)
}

// prefix reads what stands before the content of a padded frame, or of HEADERS with priority.
func (r *reading) prefix(c *Conn, b []byte) error {
	r.left -= len(b)
	if r.h.has(flagPadded) {
		r.pad = int(b[0])
		b = b[1:]
		if r.pad > r.left {
			// RFC 9113 section 6.1: "If the length of the padding is the length of the frame payload or greater, the
			// recipient MUST treat this as a connection error (Section 5.4.1) of type PROTOCOL_ERROR."
			return protocolError("padding longer than the frame")
		}
		r.left -= r.pad
	}
	if len(b) == 5 {
		r.block.selfish = binary.BigEndian.Uint32(b)&maxStreamID == r.h.id
	}
	return r.content(c)
}

// content begins the content proper.
func (r *reading) content(c *Conn) error {
	r.state = readData
	if r.h.typ != frameData {
		r.state = readBlock
		r.block.bytes += r.left
		if r.block.bytes > 2*c.cfg.MaxHead+minMaxFrame {
			return calm("header block too large")
		}
	}
	if r.left == 0 {
		return r.end(c)
	}
	return nil
}

func (r *reading) beginContinuation(c *Conn) error {
	if r.block.id == 0 {
		return protocolError("CONTINUATION without HEADERS")
	}
	r.block.frames++
	if r.block.frames > maxBlockFrames {
		return calm("too many CONTINUATION frames")
	}
	return r.content(c)
}

// end completes DATA, or a fragment of a header block.
func (r *reading) end(c *Conn) error {
	r.skip(r.pad)
	if r.h.typ == frameData {
		return c.endData(r.h)
	}
	if !r.h.has(flagEndHeaders) {
		return nil
	}
	b := r.block
	r.block = block{}
	if err := c.head.finish(); err != nil {
		return &ConnError{Code: ErrCompression, Reason: err.Error()}
	}
	return c.headers(b)
}

// beginWhole checks the frames that have a small payload, and skips those of types that nobody knows.
func (r *reading) beginWhole(c *Conn) error {
	h := r.h
	switch h.typ {
	case frameSettings:
		if h.length%settingLen != 0 || h.has(flagAck) && h.length != 0 {
			return sizeError("bad length of SETTINGS")
		}
		if h.length > maxSettings*settingLen {
			return calm("too many SETTINGS")
		}
		r.need = h.length
	case framePriority:
		if h.length != 5 {
			return c.badPriority(h.id, ErrFrameSize, r)
		}
		r.need = 5
	case frameRST, frameWindowUpdate:
		if h.length != 4 {
			return sizeError("bad length of RST_STREAM or WINDOW_UPDATE")
		}
		r.need = 4
	case framePing:
		if h.length != 8 {
			return sizeError("bad length of PING")
		}
		r.need = 8
	case frameGoAway:
		if h.length < 8 {
			return sizeError("bad length of GOAWAY")
		}
		r.need = 8
	default:
		// RFC 9113 section 5.5: "Implementations MUST discard frames that have unknown or unsupported types."
		r.skip(h.length)
		return c.charge("unknown frames")
	}
	zero := h.typ == frameSettings || h.typ == framePing || h.typ == frameGoAway
	if h.typ != frameWindowUpdate && zero != (h.id == 0) {
		return protocolError("frame on the wrong stream")
	}
	if r.need == 0 {
		r.skip(0)
		return c.control(h, nil)
	}
	r.state = readWhole
	return nil
}

// control handles a frame that is no content.
func (c *Conn) control(h frameHeader, b []byte) error {
	switch h.typ {
	case frameSettings:
		return c.gotSettings(h, b)
	case framePriority:
		if err := c.charge("PRIORITY frames"); err != nil {
			return err
		}
		if binary.BigEndian.Uint32(b)&maxStreamID == h.id && !c.closedByUs(h.id) {
			return c.badPriority(h.id, ErrProtocol, nil)
		}
		return nil
	case frameRST:
		return c.gotReset(h.id, ErrCode(binary.BigEndian.Uint32(b)))
	case frameWindowUpdate:
		return c.gotWindow(h.id, int64(binary.BigEndian.Uint32(b)&maxStreamID))
	case framePing:
		return c.gotPing(h, binary.BigEndian.Uint64(b))
	default:
		return c.gotGoAway(binary.BigEndian.Uint32(b)&maxStreamID, ErrCode(binary.BigEndian.Uint32(b[4:])))
	}
}

// badPriority resets the stream of a wrong PRIORITY frame, or ends the connection if there is none. r is nil once the payload is read.
func (c *Conn) badPriority(id uint32, code ErrCode, r *reading) error {
	st := c.streams.get(id)
	if st == nil {
		return &ConnError{Code: code, Reason: "bad PRIORITY"}
	}
	if r != nil {
		r.skip(r.h.length)
	}
	return c.provoked(st, code, "bad PRIORITY")
}

// idle reports whether no stream with this id has been opened yet.
func (c *Conn) idle(id uint32) bool {
	if c.server {
		return id%2 == 0 || id > c.lastPeer
	}
	return id%2 == 0 || id >= c.nextID
}

func (c *Conn) gotReset(id uint32, code ErrCode) error {
	st := c.streams.get(id)
	if st == nil {
		if c.idle(id) {
			// RFC 9113 section 6.4: "RST_STREAM frames MUST NOT be sent for a stream in the "idle" state."
			return protocolError("RST_STREAM on an idle stream")
		}
		return c.charge("RST_STREAM frames")
	}
	c.endedIDs.add(id)
	if !c.server && code == ErrNo && st.inEnd {
		// RFC 9113 section 8.1: "A server can send a complete response prior to the client sending an entire request";
		// then it resets with NO_ERROR, and "Clients MUST NOT discard responses as a result".
		c.end(st, nil, ErrNo, silent)
		return nil
	}
	c.end(st, c.peerReset(code), code, silent)
	if c.server {
		return c.chargeReset("streams reset by the peer")
	}
	return nil
}

func (c *Conn) gotPing(h frameHeader, payload uint64) error {
	if h.has(flagAck) {
		c.gotPong(payload)
		return nil
	}
	if err := c.charge("PING frames"); err != nil {
		return err
	}
	c.ready()
	c.out = appendPing(c.out, flagAck, payload)
	c.kick()
	return nil
}

// headers handles a complete header block, which is in c.head.
func (c *Conn) headers(b block) error {
	if len(c.head.Fields) == 0 && c.head.Have == 0 && !b.endStream {
		if err := c.charge("empty HEADERS frames"); err != nil {
			return err
		}
	}
	st := c.streams.get(b.id)
	switch {
	case st != nil && b.selfish:
		return c.provoked(st, ErrProtocol, "stream depends on itself")
	case st != nil && st.inEnd:
		return c.provoked(st, ErrStreamClosed, "HEADERS after END_STREAM")
	case st != nil && st.headDone:
		return c.gotTrailers(st, b)
	case st != nil:
		return c.gotResponse(st, b)
	case c.server && b.id%2 == 1 && b.id > c.lastPeer:
		return c.gotRequest(b)
	case c.idle(b.id):
		return protocolError("HEADERS on a stream that is not the sender's to open")
	case c.endedIDs.has(b.id):
		return &ConnError{Code: ErrStreamClosed, Reason: "HEADERS on a closed stream"}
	case c.server && b.id > c.forgotten && c.lastPeer-b.id < recentIDs && !c.resetIDs.has(b.id):
		// RFC 9113 section 5.1.1: "The identifier of a newly established stream MUST be numerically greater than all
		// streams that the initiating endpoint has opened or reserved."
		return protocolError("stream id lower than before")
	}
	return nil // on its way when we reset the stream
}

func (c *Conn) gotTrailers(st *stream, b block) error {
	if !b.endStream {
		return c.provoked(st, ErrProtocol, "second HEADERS without END_STREAM")
	}
	if bad := c.head.Trailers(); bad != "" || st.tunnel {
		return c.provoked(st, ErrProtocol, "malformed trailers: "+bad)
	}
	if c.head.TooLarge {
		return c.provoked(st, ErrEnhanceYourCalm, "trailers too large")
	}
	if c.head.lent {
		c.head.own(new([parentLen]byte))
	}
	st.trailers = append(st.trailers[:0], c.head.Fields...)
	return c.gotEnd(st)
}

// closedByUs reports whether we have reset the stream lately: what is still on its way does not matter.
func (c *Conn) closedByUs(id uint32) bool { return c.resetIDs.has(id) && c.streams.get(id) == nil }
