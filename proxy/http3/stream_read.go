package http3

import (
	"io"
	"sync"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

// reader takes frames from a request's stream. It reads ahead only while a head is awaited, so that content goes straight to whoever wants it.
type reader struct {
	q    *quic.Stream
	left uint64 // of the payload of the present frame
	eof  bool   // q has ended in order; what is in buf is the rest

	part [16]byte // of a frame header
	n    int      // bytes in part

	r, w  int
	buf   []byte     // readAhead bytes of a *[readAhead]byte, while something is in it; nil between
	spare *sync.Pool // of *[readAhead]byte, where buf comes from; nil: it stays
}

// readAhead is how much is read with a head, in bytes: a packet, so that content and end which came with the head are there with it.
const readAhead = 1400

// fill reads up to n bytes into the empty buffer.
func (r *reader) fill(n int) error {
	if r.eof {
		return io.EOF
	}
	if r.buf == nil {
		b, _ := r.spare.Get().(*[readAhead]byte)
		if b == nil {
			b = new([readAhead]byte)
		}
		r.buf = b[:]
	}
	n, err := r.q.Read(r.buf[:min(n, len(r.buf))])
	r.r, r.w = 0, n
	if err == io.EOF {
		r.eof = true
	}
	if n > 0 {
		return nil
	}
	r.use(0)
	return err
}

// use takes n bytes out of the buffer, and gives it back once it is empty.
func (r *reader) use(n int) {
	r.r += n
	if r.r == r.w && r.buf != nil && r.spare != nil {
		r.spare.Put((*[readAhead]byte)(r.buf))
		r.buf, r.r, r.w = nil, 0, 0
	}
}

// header reads type and length of the next frame, reading ahead as many bytes as that says at most. io.EOF is the orderly end of the stream.
func (r *reader) header(ahead int) (typ, length uint64, err error) {
	need := 2
	for {
		for r.n < need {
			if r.r == r.w {
				if err := r.fill(max(ahead, need-r.n)); err != nil {
					if err == io.EOF && r.n > 0 {
						err = errTruncated
					}
					return 0, 0, err
				}
			}
			m := copy(r.part[r.n:need], r.buf[r.r:r.w])
			r.use(m)
			r.n += m
		}
		first := 1 << (r.part[0] >> 6)
		if need <= first {
			need = first + 1
			continue
		}
		if whole := first + 1<<(r.part[first]>>6); need < whole {
			need = whole
			continue
		}
		typ, _, _ = quicvarint.Parse(r.part[:first])
		length, _, _ = quicvarint.Parse(r.part[first:need])
		r.n = 0
		return typ, length, nil
	}
}

// Read reads from the payload of the present frame.
func (r *reader) Read(p []byte) (n int, err error) {
	if uint64(len(p)) > r.left {
		p = p[:r.left]
	}
	if len(p) == 0 {
		return 0, io.EOF
	}
	if r.r < r.w {
		n = copy(p, r.buf[r.r:r.w])
		r.use(n)
		r.left -= uint64(n)
		return n, nil
	}
	if r.eof {
		return 0, errTruncated
	}
	n, err = r.q.Read(p)
	r.left -= uint64(n)
	if err == io.EOF {
		r.eof = true
		err = nil
		if n == 0 {
			err = errTruncated
		}
	}
	return n, err
}

// buffered is how many bytes of content are in the buffer: of the present frame, or of a DATA frame that comes next.
func (r *reader) buffered() int {
	b := r.buf[r.r:r.w]
	if r.left > 0 {
		return int(min(uint64(len(b)), r.left))
	}
	if r.n > 0 {
		return 0
	}
	typ, n, err := quicvarint.Parse(b)
	if err != nil || typ != frameData {
		return 0
	}
	length, m, err := quicvarint.Parse(b[n:])
	if err != nil {
		return 0
	}
	return int(min(uint64(len(b)-n-m), length))
}

// text reads the present frame's payload.
func (r *reader) text(s task.Shard) (string, error) {
	if n := uint64(r.w - r.r); r.left <= n {
		t := string(r.buf[r.r : r.r+int(r.left)])
		r.use(int(r.left))
		r.left = 0
		return t, nil
	}
	b := s.Buffer()
	defer s.Free(b)
	p := b.B
	if r.left > uint64(len(p)) {
		p = make([]byte, r.left)
	}
	p = p[:r.left]
	if _, err := io.ReadFull(r, p); err != nil {
		return "", err
	}
	return string(p), nil
}

// ended reports whether the stream has ended and all of it was read.
func (r *reader) ended() bool { return r.eof && r.r == r.w && r.left == 0 && r.n == 0 }

// nextHead reads frames up to a HEADERS frame and decodes it into st.head. io.EOF means that the stream ended instead.
func (st *stream) nextHead() error {
	for {
		typ, length, err := st.in.header(readAhead)
		if err != nil {
			return err
		}
		switch typ {
		case frameHeaders:
			return st.decodeHead(length)
		case frameData:
			// RFC 9114 section 4.1: "Receipt of an invalid sequence of frames MUST be treated as a connection error of type
			// H3_FRAME_UNEXPECTED. In particular, a DATA frame before any HEADERS frame".
			return unexpected("DATA before HEADERS")
		}
		if err := st.otherFrame(typ, length); err != nil {
			return err
		}
	}
}

// decodeHead decodes the field section of length bytes that comes next. A section that is too large is left where it is, with
// st.head.TooLarge.
func (st *stream) decodeHead(length uint64) error {
	c := st.c
	st.in.left = length
	st.head.Begin(c.cfg.MaxHead)
	if length > uint64(c.cfg.MaxHead) {
		st.head.TooLarge = true
		return nil
	}
	section, err := st.in.text(c.s)
	if err != nil {
		return err
	}
	st.head.Verbatim = c.verbatim()
	if err := decodeSection(section, st.head.Add); err != nil {
		return &ConnError{Code: ErrDecompression, Reason: err.Error()}
	}
	return nil
}

// verbatim reports whether both ends are pillions. What the peer's SETTINGS say may still be on its way: packets overtake each other.
func (c *Conn) verbatim() bool {
	if !c.cfg.Pillion {
		return false
	}
	select {
	case <-c.settled:
	default:
		c.awaitSettings(time.Now().Add(settingsWait))
	}
	return c.knows()
}

// settingsWait bounds how long a head waits for SETTINGS that were sent before it.
const settingsWait = 5 * time.Second

// otherFrame deals with a frame on a request's stream that is neither DATA nor HEADERS.
func (st *stream) otherFrame(typ, length uint64) error {
	switch {
	case typ == framePushPromise && !st.c.server:
		// RFC 9114 section 7.2.5: "A client MUST treat receipt of a PUSH_PROMISE frame that contains a larger Push ID than the client
		// has advertised as a connection error of H3_ID_ERROR": it has advertised none.
		return &ConnError{Code: ErrID, Reason: "PUSH_PROMISE, which was not allowed"}
	case typ == frameCancelPush, typ == frameSettings, typ == framePushPromise, typ == frameGoAway, typ == frameMaxPushID, reservedFrame(typ):
		return unexpected("a frame of the control stream on a request's stream")
	}
	st.in.left = length
	return st.c.skip(&st.in, length)
}

// read waits for content. It is Read of all that stands for a stream.
func (st *stream) read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	st.reading.Lock()
	defer st.reading.Unlock()
	if err := st.awaitContent(); err != nil {
		return 0, err
	}
	n, err := st.in.Read(p)
	st.inBytes += int64(n)
	if err == nil && st.in.ended() {
		err = st.finish() // a body that ends here has the right length, or its last bytes are withheld
	}
	if err != nil {
		return 0, st.c.failedStream(st, err)
	}
	return n, nil
}

// awaitContent waits until the header of a DATA frame with content was read. Its errors are those of read, io.EOF among them.
func (st *stream) awaitContent() error {
	for st.in.left == 0 {
		if st.whole {
			return io.EOF
		}
		if st.in.r == st.in.w && st.owesContinue() {
			st.sayContinue()
		}
		err := st.nextContent()
		if err == io.EOF {
			if err = st.finish(); err == nil {
				return io.EOF
			}
		}
		if err != nil {
			return st.c.failedStream(st, err)
		}
	}
	return nil
}

// nextContent reads one frame header. io.EOF is the orderly end of the message.
func (st *stream) nextContent() error {
	typ, length, err := st.in.header(0)
	if err != nil {
		return err
	}
	switch typ {
	case frameData:
		return st.gotData(length)
	case frameHeaders:
		return st.gotTrailers(length)
	}
	return st.otherFrame(typ, length)
}

// gotData begins a DATA frame.
func (st *stream) gotData(length uint64) error {
	if st.trailing {
		return unexpected("DATA after the trailers")
	}
	if length == 0 {
		return st.c.charge("empty DATA frames")
	}
	if st.noBody {
		return &streamError{ErrMessage, "content where there is none"}
	}
	if st.inLength != proxy.Unknown && length > uint64(st.inLength-st.inBytes) {
		// RFC 9114 section 4.1.2: a message is malformed if it "[includes] a Content-Length header field that does not equal the sum of
		// the DATA frame lengths received".
		return &streamError{ErrMessage, "more content than content-length says"}
	}
	st.in.left = length
	return nil
}

// gotTrailers reads the HEADERS frame that ends a message.
func (st *stream) gotTrailers(length uint64) error {
	if st.trailing || st.tunnel {
		return unexpected("HEADERS after the end of the content")
	}
	st.trailing = true
	if err := st.decodeHead(length); err != nil {
		return err
	}
	if st.head.TooLarge {
		return &streamError{ErrExcessiveLoad, "trailers too large"}
	}
	if bad := st.head.Trailers(); bad != "" {
		return &streamError{ErrMessage, bad}
	}
	st.trailers = st.head.Fields
	st.head.Fields = nil
	return nil
}

// finish notes the end of the message.
func (st *stream) finish() error {
	if st.inLength != proxy.Unknown && st.inBytes != st.inLength && !st.noBody {
		return &streamError{ErrMessage, "less content than content-length says"}
	}
	st.whole = true
	st.c.gotEnd(st)
	return nil
}

// isEnded reports whether the message has been read to its end.
func (st *stream) isEnded() bool {
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	return st.inEnd
}

// waitReadable waits until read would not wait.
func (st *stream) waitReadable() error {
	st.reading.Lock()
	defer st.reading.Unlock()
	if err := st.awaitContent(); err != nil {
		if err == io.EOF {
			return nil
		}
		return err
	}
	if st.in.r < st.in.w || st.in.eof {
		return nil
	}
	var one [1]byte
	if n, err := st.q.Peek(one[:]); err != nil && n == 0 && err != io.EOF {
		return st.c.failedStream(st, err)
	}
	return nil
}

// buffered is Buffered of a Body.
func (st *stream) buffered() int {
	if !st.reading.TryLock() {
		return 0
	}
	defer st.reading.Unlock()
	if n := st.in.buffered(); n > 0 {
		return n
	}
	if st.whole {
		return -1
	}
	return 0
}

// past is a deadline that has passed: a read with it does not wait.
func past() time.Time { return time.Unix(1, 0) }

// probe looks, for no longer than until, whether the message ends here, and reports whether it does.
func (st *stream) probe(until time.Time) bool {
	if st.in.ended() {
		return st.finish() == nil
	}
	if st.in.r < st.in.w || st.in.n > 0 {
		return false
	}
	st.q.SetReadDeadline(until)
	defer st.q.SetReadDeadline(time.Time{})
	if err := st.in.fill(readAhead); err == io.EOF {
		return st.finish() == nil
	}
	return false // errors come again
}
