package http3

import (
	"context"
	"io"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

// hello opens the control stream with our SETTINGS. Without QPACK's dynamic table there is nothing to say on its streams, which
// therefore are not opened: RFC 9204 section 4.2.
func (c *Conn) hello() {
	control, err := c.q.OpenUniStream()
	if err != nil {
		c.mu.Lock()
		c.fail(plain(err))
		c.mu.Unlock()
		return
	}
	c.control = control
	settings := appendSetting(nil, settingMaxFieldSection, uint64(c.cfg.MaxHead))
	if c.server {
		settings = appendSetting(settings, settingConnectProtocol, 1)
	}
	if c.q.ConnectionState().SupportsDatagrams.Local {
		settings = appendSetting(settings, settingDatagram, 1)
	}
	if c.cfg.Pillion {
		settings = appendSetting(settings, settingPillion, pillionVersion)
	}
	b := appendFrameHeader([]byte{streamControl}, frameSettings, int64(len(settings)))
	c.say(append(b, settings...))
}

// say writes to the control stream. What does not leave at once is not worth waiting for.
func (c *Conn) say(b []byte) {
	if c.control == nil {
		return
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	if err := c.control.TryWriteAll(b); err != nil {
		c.log("control stream", "err", err)
	}
}

func (c *Conn) sayGoAway(id uint64) { c.say(appendNumberFrame(nil, frameGoAway, id)) }

// acceptUni is the task that takes the peer's unidirectional streams.
func (c *Conn) acceptUni() {
	var seen uniSeen
	for {
		q, err := c.q.AcceptUniStream(context.Background())
		if err != nil {
			return
		}
		if err := c.charge("unidirectional streams"); err != nil {
			c.breakOff(err.(*ConnError))
			return
		}
		c.help(func() { c.readUni(q, &seen) })
	}
}

// uniSeen says which streams the peer has opened; there may be one of each. It is guarded by Conn.mu.
type uniSeen struct{ control, encoder, decoder bool }

func (c *Conn) once(seen *bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if *seen {
		return &ConnError{Code: ErrStreamCreation, Reason: "a second control or QPACK stream"}
	}
	*seen = true
	return nil
}

// readUni is the task of a unidirectional stream.
func (c *Conn) readUni(q *quic.ReceiveStream, seen *uniSeen) {
	defer q.ReleaseStreamCredit()
	r := &uniReader{q: q}
	typ, err := r.number()
	if err != nil {
		return // RFC 9114 section 6.2: "A receiver MUST tolerate unidirectional streams being closed or reset prior to the reception of [...] header."
	}
	switch typ {
	case streamControl:
		if err = c.once(&seen.control); err == nil {
			err = critical(c.readControl(r))
		}
	case streamQPACKEncoder:
		if err = c.once(&seen.encoder); err == nil {
			err = critical(readEncoder(r))
		}
	case streamQPACKDecoder:
		if err = c.once(&seen.decoder); err == nil {
			err = critical(readDecoder(r))
		}
	case streamPush:
		err = &ConnError{Code: ErrID, Reason: "a push, which was not allowed"}
		if c.server {
			err = &ConnError{Code: ErrStreamCreation, Reason: "a client opened a push stream"}
		}
	default:
		q.CancelRead(quic.StreamErrorCode(ErrStreamCreation))
		return
	}
	if broken, ok := err.(*ConnError); ok {
		c.breakOff(broken)
	}
	q.CancelRead(quic.StreamErrorCode(ErrNo))
}

// critical makes an error of the end of a stream that must not end. RFC 9114 section 6.2.1: "If either control stream is closed at any
// point, this MUST be treated as a connection error of type H3_CLOSED_CRITICAL_STREAM"; RFC 9204 section 4.2 has the same.
func critical(err error) error {
	if _, ok := err.(*ConnError); ok {
		return err
	}
	_, reset := err.(*quic.StreamError)
	if err == io.EOF || err == io.ErrUnexpectedEOF || reset {
		return &ConnError{Code: ErrClosedCriticalStream, Reason: "a control or QPACK stream was closed"}
	}
	return err
}

// readControl reads the peer's control stream until it ends, with an error.
func (c *Conn) readControl(r *uniReader) error {
	for first := true; ; first = false {
		typ, err := r.number()
		if err != nil {
			return err
		}
		length, err := r.number()
		if err != nil {
			return err
		}
		if first != (typ == frameSettings) {
			if first {
				// RFC 9114 section 6.2.1: "If the first frame of the control stream is any other frame type, this MUST be treated as a
				// connection error of type H3_MISSING_SETTINGS."
				return &ConnError{Code: ErrMissingSettings, Reason: "the control stream does not begin with SETTINGS"}
			}
			return unexpected("SETTINGS twice")
		}
		if err := c.controlFrame(r, typ, length); err != nil {
			return err
		}
	}
}

func (c *Conn) controlFrame(r *uniReader, typ, length uint64) error {
	switch {
	case typ == frameSettings:
		return c.readSettings(r, length)
	case typ == frameGoAway:
		id, err := r.only(length)
		if err != nil {
			return err
		}
		return c.gotGoAway(id)
	case typ == frameMaxPushID:
		if !c.server {
			return unexpected("MAX_PUSH_ID from a server")
		}
		return c.gotMaxPushID(r, length)
	case typ == frameCancelPush:
		if _, err := r.only(length); err != nil {
			return err
		}
		return &ConnError{Code: ErrID, Reason: "CANCEL_PUSH of a push that does not exist"}
	case typ == frameData, typ == frameHeaders, typ == framePushPromise, reservedFrame(typ):
		return unexpected("a request's frame on the control stream")
	}
	return c.skip(r, length)
}

// skip passes over a frame of a type that we do not know. RFC 9114 section 9: "Implementations MUST discard data on
// unidirectional streams that have unknown or unsupported types", and frames too.
func (c *Conn) skip(r io.Reader, length uint64) error {
	if length > maxUnknown {
		return &ConnError{Code: ErrExcessiveLoad, Reason: "an unknown frame that is too long"}
	}
	if err := c.charge("unknown frames"); err != nil {
		return err
	}
	return discard(r, length)
}

// discard reads n bytes for nobody.
func discard(r io.Reader, n uint64) error {
	var piece [512]byte
	for n > 0 {
		m, err := r.Read(piece[:min(n, uint64(len(piece)))])
		n -= uint64(m)
		if err != nil && n > 0 {
			return err
		}
	}
	return nil
}

// gotMaxPushID notes nothing: there are no pushes. RFC 9114 section 7.2.7: "A MAX_PUSH_ID frame cannot reduce the maximum
// Push ID; receipt of a MAX_PUSH_ID frame that contains a smaller value than previously received MUST be treated as a connection
// error of type H3_ID_ERROR."
func (c *Conn) gotMaxPushID(r *uniReader, length uint64) error {
	id, err := r.only(length)
	if err != nil {
		return err
	}
	if id < r.maxPush {
		return &ConnError{Code: ErrID, Reason: "MAX_PUSH_ID smaller than before"}
	}
	r.maxPush = id
	return c.charge("MAX_PUSH_ID frames")
}

func (c *Conn) readSettings(r *uniReader, length uint64) error {
	if length > maxSettingsLen {
		return &ConnError{Code: ErrExcessiveLoad, Reason: "SETTINGS too long"}
	}
	b := make([]byte, length)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	s, err := parseSettings(b)
	if err != nil {
		return err
	}
	state := c.q.ConnectionState().SupportsDatagrams
	if s.datagram && !state.Remote {
		return &ConnError{Code: ErrSettings, Reason: "SETTINGS_H3_DATAGRAM without QUIC datagrams"}
	}
	c.mu.Lock()
	defer c.unlock()
	if c.failed {
		return nil
	}
	c.ready, c.changed = true, true
	c.peerMaxHead, c.peerConnect = s.maxHead, s.connect
	c.datagrams = s.datagram && state.Local
	c.pillion.Store(s.pillion && c.cfg.Pillion)
	close(c.settled)
	return nil
}

// settings are what the peer says of itself.
type settings struct {
	maxHead           uint64
	connect, datagram bool
	pillion           bool
}

// parseSettings reads the payload of SETTINGS. RFC 9114 section 7.2.4: "An implementation MUST ignore any parameter with an identifier it does
// not understand."
func parseSettings(b []byte) (settings, error) {
	s := settings{maxHead: maxStreamID}
	var seen [maxSettings]uint64
	for n := 0; len(b) > 0; n++ {
		id, used, err := quicvarint.Parse(b)
		if err != nil {
			return s, &ConnError{Code: ErrFrame, Reason: "SETTINGS cut short"}
		}
		v, more, err := quicvarint.Parse(b[used:])
		if err != nil {
			return s, &ConnError{Code: ErrFrame, Reason: "SETTINGS cut short"}
		}
		b = b[used+more:]
		if n == maxSettings {
			return s, &ConnError{Code: ErrExcessiveLoad, Reason: "too many settings"}
		}
		for _, before := range seen[:n] {
			if before == id {
				return s, &ConnError{Code: ErrSettings, Reason: "a setting twice"}
			}
		}
		seen[n] = id
		if err := s.set(id, v); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s *settings) set(id, v uint64) error {
	flag := func(to *bool) error {
		if v > 1 {
			return &ConnError{Code: ErrSettings, Reason: "a setting that is neither 0 nor 1"}
		}
		*to = v == 1
		return nil
	}
	switch {
	case reservedSetting(id):
		return &ConnError{Code: ErrSettings, Reason: "a setting of HTTP/2"}
	case id == settingMaxFieldSection:
		s.maxHead = v
	case id == settingConnectProtocol:
		return flag(&s.connect)
	case id == settingDatagram:
		return flag(&s.datagram)
	case id == settingPillion:
		s.pillion = v == pillionVersion
	}
	return nil
}

// readEncoder reads the peer's QPACK encoder stream. We have announced a capacity of 0, so it may say that it uses none (RFC 9204
// section 4.3.1), and nothing else.
func readEncoder(r *uniReader) error {
	for {
		b, err := r.ReadByte()
		if err != nil {
			return err
		}
		if b != 0x20 {
			return &ConnError{Code: ErrEncoderStream, Reason: "use of a dynamic table, which has no capacity"}
		}
	}
}

// readDecoder reads the peer's QPACK decoder stream. We never refer to its dynamic table, so that all it may say is Stream
// Cancellation: RFC 9204 section 4.4.
func readDecoder(r *uniReader) error {
	for {
		b, err := r.ReadByte()
		if err != nil {
			return err
		}
		if b&0xc0 != 0x40 {
			return &ConnError{Code: ErrDecoderStream, Reason: "acknowledgment of what was not sent"}
		}
		if b&0x3f != 0x3f {
			continue
		}
		for n := 0; ; n++ {
			if b, err = r.ReadByte(); err != nil {
				return err
			}
			if n > 9 {
				return &ConnError{Code: ErrDecoderStream, Reason: "integer too large"}
			}
			if b&0x80 == 0 {
				break
			}
		}
	}
}

// uniReader reads a unidirectional stream through a small buffer.
type uniReader struct {
	q       *quic.ReceiveStream
	buf     [64]byte
	r, w    int
	maxPush uint64
}

func (r *uniReader) Read(p []byte) (int, error) {
	if r.r < r.w {
		n := copy(p, r.buf[r.r:r.w])
		r.r += n
		return n, nil
	}
	return r.q.Read(p)
}

// ReadByte makes r an io.ByteReader.
func (r *uniReader) ReadByte() (byte, error) {
	if r.r == r.w {
		n, err := r.q.Read(r.buf[:])
		if n == 0 {
			return 0, err
		}
		r.r, r.w = 0, n
	}
	r.r++
	return r.buf[r.r-1], nil
}

// number reads a variable-length integer.
func (r *uniReader) number() (uint64, error) { return quicvarint.Read(r) }

// only reads a frame's payload of length bytes that is one number.
func (r *uniReader) only(length uint64) (uint64, error) {
	var b [8]byte
	if length == 0 || length > uint64(len(b)) {
		return 0, &ConnError{Code: ErrFrame, Reason: "a frame of one number has another length"}
	}
	if _, err := io.ReadFull(r, b[:length]); err != nil {
		return 0, err
	}
	v, n, err := quicvarint.Parse(b[:length])
	if err != nil || uint64(n) != length {
		return 0, &ConnError{Code: ErrFrame, Reason: "a frame of one number has another length"}
	}
	return v, nil
}
