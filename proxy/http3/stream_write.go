package http3

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/head"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

const (
	// firstPiece is how much of a Write is put behind its frame header in one piece, in bytes: about a packet.
	firstPiece = 1200
	// maxHeader is room for a frame header, in bytes.
	maxHeader = 16
	// dataHeader is room for the header of a DATA frame whose length is not known yet: 1 byte of type, 2 of length.
	dataHeader = 3
	// headersHeader is room for the header of a HEADERS frame: 1 byte of type, 4 of length.
	headersHeader = 5
)

// encoder writes heads, one at a time.
type encoder struct {
	w     fieldWriter
	e     head.Encoder
	begun []byte // memory for a request that is begun
}

// appendHead appends a HEADERS frame with what write writes.
func (c *Conn) appendHead(b []byte, verbatim bool, write func(*head.Encoder)) []byte {
	h, _ := c.encoders.Get().(*encoder)
	if h == nil {
		h = new(encoder)
	}
	b = h.append(b, verbatim, write)
	c.encoders.Put(h)
	return b
}

func (h *encoder) append(b []byte, verbatim bool, write func(*head.Encoder)) []byte {
	at := len(b)
	h.w.b = append(b, "\x01\x00\x00\x00\x00"+sectionPrefix...)
	h.e.W, h.e.Verbatim = &h.w, verbatim
	write(&h.e)
	b, h.w.b = h.w.b, nil
	n := len(b) - at - headersHeader
	quicvarint.AppendWithLen(b[:at+1], uint64(n), 4)
	return b
}

// knows reports whether both ends are pillions, as far as we know.
func (c *Conn) knows() bool { return c.pillion.Load() }

// write writes frames, or pieces of them.
func (st *stream) write(p []byte) error {
	start := time.Now()
	_, err := st.q.Write(p)
	st.c.stalls.note(start)
	if err != nil {
		return st.writeFailed(err)
	}
	return nil
}

// closeWrite ends our half in order.
func (st *stream) closeWrite() error {
	if err := st.ended(); err != nil {
		return err
	}
	if st.q.Close() != nil { // it was cancelled before
		return st.writeFailed(context.Cause(st.q.Context()))
	}
	st.c.sentEnd(st)
	return nil
}

// errStopped says that the server wants no more of a request. Its answer may be complete all the same: RFC 9114 section 4.1: "Clients
// MUST NOT discard complete responses as a result of having their request terminated abruptly".
var errStopped = errors.New("the peer wants no more")

// writeFailed deals with an error of QUIC in writing.
func (st *stream) writeFailed(err error) error {
	var reset *quic.StreamError
	if !st.c.server && !st.asks && errors.As(err, &reset) && reset.Remote {
		st.c.sentEnd(st)
		return errStopped
	}
	return st.c.failedStream(st, err)
}

// send writes p as one DATA frame.
func (st *stream) send(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, st.ended()
	}
	buf := st.c.s.Buffer()
	b := appendFrameHeader(buf.B[:0], frameData, int64(len(p)))
	n := min(len(p), firstPiece)
	b = append(b, p[:n]...)
	err := st.write(b)
	st.c.s.Free(buf)
	if err == nil && n < len(p) {
		err = st.write(p[n:])
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// content sends a body, with b, which is frames already encoded and in buf's memory, before it, and ends the stream's half. It frees buf.
type content struct {
	st     *stream
	buf    *task.Buffer
	b      []byte // to be written
	body   proxy.Body
	length int64
	total  int64
}

// copy sends everything. A body of known length is one DATA frame, so that both ends pass it on without looking at it.
func (o *content) copy() error {
	defer o.free()
	if o.length > 0 {
		o.b = appendFrameHeader(o.b, frameData, o.length)
	}
	w, _ := o.body.(proxy.Waiter)
	for {
		if o.body.Buffered() == 0 {
			if err := o.flush(); err != nil {
				return err
			}
			if w != nil {
				o.free()
				if err := w.WaitReadable(); err != nil {
					return err
				}
			}
		}
		done, err := o.piece()
		if err != nil {
			return err
		}
		if done {
			if err := o.flush(); err != nil {
				return err
			}
			return o.st.closeWrite()
		}
	}
}

func (o *content) free() {
	if o.buf != nil {
		o.st.c.s.Free(o.buf)
		o.buf, o.b = nil, nil
	}
}

// flush writes what is in b.
func (o *content) flush() error {
	if len(o.b) == 0 {
		return nil
	}
	err := o.st.write(o.b)
	o.b = o.b[:0]
	return err
}

// piece reads once, behind what is in b, and reports whether that was all.
func (o *content) piece() (done bool, err error) {
	if o.buf == nil {
		o.buf = o.st.c.s.Buffer()
		o.b = o.buf.B[:0]
	}
	if cap(o.b)-len(o.b) < task.BufferSize/4 {
		if err := o.flush(); err != nil {
			return false, err
		}
	}
	gap := 0
	if o.length == proxy.Unknown {
		gap = dataHeader
	}
	room := o.b[len(o.b)+gap : min(cap(o.b), len(o.b)+gap+task.BufferSize-maxHeader)]
	n, err := o.body.Read(room[:len(room)-1])
	if n > 0 && err == nil && o.body.Buffered() < 0 {
		_, err = o.body.Read(room[n : n+1]) // the end, without a wait
	}
	o.total += int64(n)
	if err != nil && err != io.EOF {
		return false, err
	}
	if o.length != proxy.Unknown && (o.total > o.length || err == io.EOF && o.total < o.length) {
		return false, errShort
	}
	if n > 0 {
		if gap > 0 {
			quicvarint.AppendWithLen(append(o.b, frameData), uint64(n), gap-1)
		}
		o.b = o.b[:len(o.b)+gap+n]
	}
	if err == nil {
		if len(o.b) >= task.BufferSize/2 || o.body.Buffered() == 0 {
			return false, o.flush()
		}
		return false, nil
	}
	if trailers := o.body.Trailers(); len(trailers) > 0 {
		o.b = o.st.c.appendHead(o.b, o.st.c.knows(), func(e *head.Encoder) { e.Trailers(trailers) })
	}
	return true, nil
}
