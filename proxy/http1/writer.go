package http1

import (
	"io"
	"sync/atomic"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// leastRoom is how much space, in bytes, a read of content is worth; with less the buffer is sent first.
const leastRoom = 2 << 10

// writer sends messages on a connection: head and as much content as is there in one write. It holds a buffer only
// between a read of content and its write.
type writer struct {
	s    task.Shard
	c    task.Conn
	buf  *task.Buffer // nil, or with what is to be sent in B[:W]
	sent bool         // something was sent since begin
	hand bool         // the last bytes of a message may be left to the connection, to be sent at the end of the turn

	writes atomic.Uint32 // counted when they begin and when they end: odd while one waits
}

// begin starts a message. The caller appends the head to what it returns, and gives the result to headed.
func (w *writer) begin() []byte {
	w.sent = false
	if w.buf == nil {
		w.buf = w.s.Buffer()
	}
	return w.buf.B[:0]
}

// beginSized is begin for a head of about so many bytes.
func (w *writer) beginSized(n int) []byte {
	if w.buf == nil && n > task.BufferSize {
		w.buf = w.s.Datagram()
	}
	return w.begin()
}

func (w *writer) headed(b []byte) {
	w.buf.B = b[:cap(b)]
	w.buf.R, w.buf.W = 0, len(b)
}

// flush sends what is in the buffer.
func (w *writer) flush() error {
	if w.buf == nil || w.buf.W == 0 {
		return nil
	}
	n := w.buf.W
	w.buf.W = 0
	w.sent = true
	w.writes.Add(1)
	_, err := w.c.Write(w.buf.B[:n])
	w.writes.Add(1)
	return err
}

// end sends the last bytes of a message.
func (w *writer) end() error {
	if b := w.buf; w.hand && b != nil && b.W > 0 {
		if t, ok := w.c.(task.Taker); ok && t.Take(b) {
			w.buf, w.sent = nil, true
			return nil
		}
	}
	return w.flush()
}

// free gives the buffer back, with whatever is in it.
func (w *writer) free() {
	if b := w.buf; b != nil {
		w.buf = nil
		b.R, b.W = 0, 0
		w.s.Free(b)
	}
}

// buffered moves into the buffer, behind the head, what of the content is there already. It reports whether that is all of it.
func (w *writer) buffered(body proxy.Body, how framing, left *int64) (whole bool, err error) {
	for {
		n := body.Buffered()
		if room := w.room(how); n == 0 || room == 0 || room < min(n, leastRoom) {
			return false, nil
		}
		if whole, err = w.step(body, how, left); whole || err != nil {
			return whole, err
		}
	}
}

// content sends a content to its end: what is there without waiting is sent with what is in the buffer, and
// nothing in the buffer waits for more to come. left is the number of bytes to come if how is sized. A failure of body and one of
// the connection are different returns; after a failure of body nothing more was sent.
func (w *writer) content(body proxy.Body, how framing, left int64) (readErr, writeErr error) {
	waiter, _ := body.(proxy.Waiter)
	full := false // the last read filled what it was given: there is more, and no need to wait for it
	for {
		if body.Buffered() == 0 {
			if err := w.flush(); err != nil {
				return nil, err
			}
			if waiter != nil && !full {
				w.free()
				waiter.WaitReadable() // Read tells what is wrong, if anything
			}
		}
		if w.buf == nil {
			w.begin()
			w.buf.R, w.buf.W = 0, 0
			w.sent = true
		}
		if w.room(how) < leastRoom {
			if err := w.flush(); err != nil {
				return nil, err
			}
		}
		room := w.room(how)
		before := w.buf.W
		whole, err := w.step(body, how, &left)
		if err != nil {
			return err, nil
		}
		if whole {
			return nil, w.end()
		}
		full = w.buf.W-before >= room
	}
}

// step reads once, into the buffer. At the end of the content it adds what ends it.
func (w *writer) step(body proxy.Body, how framing, left *int64) (whole bool, err error) {
	b := w.buf
	at := b.W
	if how == chunked {
		at += chunkHead
	}
	n, err := body.Read(b.B[at : b.W+w.reserved(how)+w.room(how)])
	if n > 0 {
		switch how {
		case sized:
			if *left -= int64(n); *left < 0 {
				return false, errTooMuch
			}
			b.W += n
		case chunked:
			b.W = closeChunk(b.B, b.W, n)
		default:
			b.W += n
		}
	}
	if err == nil {
		return false, nil
	}
	if how == sized && *left == 0 {
		return true, nil // whatever ended it, it is whole
	}
	if err != io.EOF {
		return false, err
	}
	if how == sized {
		return false, errTruncated
	}
	if how == chunked {
		trailers := body.Trailers()
		if !safeFields(trailers) {
			return false, errTrailers
		}
		w.headed(appendTrailers(b.B[:b.W], trailers))
	}
	return true, nil
}

// room is how much content a read may put into the buffer.
func (w *writer) room(how framing) int {
	n := len(w.buf.B) - w.buf.W
	if how == chunked {
		n = min(n-chunkHead-chunkTail, maxChunk)
	}
	return max(n, 0)
}

func (w *writer) reserved(how framing) int {
	if how == chunked {
		return chunkHead
	}
	return 0
}
