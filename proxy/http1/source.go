package http1

import (
	"io"

	"github.com/pillion-proxy/pillion/proxy/task"
)

// source is a connection with the bytes that were read from it and not used yet. One task at a time uses it.
// It holds a buffer only while there are such bytes.
type source struct {
	s   task.Shard
	c   task.Conn
	buf *task.Buffer // nil, or with unread bytes
}

// unread returns what fill has read and use has not taken.
func (r *source) unread() []byte {
	if r.buf == nil {
		return nil
	}
	return r.buf.Unread()
}

func (r *source) buffered() int {
	if r.buf == nil {
		return 0
	}
	return r.buf.W - r.buf.R
}

// use takes n of the unread bytes. They stay where they are until fill or release.
func (r *source) use(n int) {
	if n != 0 {
		r.buf.R += n
	}
}

// release gives an empty buffer back.
func (r *source) release() {
	if r.buf != nil && r.buf.R == r.buf.W {
		r.drop()
	}
}

// drop gives the buffer back, and forgets what is in it.
func (r *source) drop() {
	if b := r.buf; b != nil {
		r.buf = nil
		r.s.Free(b)
	}
}

// fill waits for more bytes. No buffer is held while it waits with none unread.
func (r *source) fill() error {
	r.release()
	if r.buf == nil {
		if err := r.c.WaitReadable(); err != nil {
			return err
		}
	}
	return r.fillNow()
}

// fillNow is fill without the wait before a buffer is taken.
func (r *source) fillNow() error {
	if r.buf == nil {
		r.buf = r.s.Buffer()
		r.buf.R, r.buf.W = 0, 0
	}
	b := r.buf
	if b.R > 0 && len(b.B)-b.W < len(b.B)/2 {
		b.W = copy(b.B, b.B[b.R:b.W])
		b.R = 0
	}
	if b.W == len(b.B) {
		b = r.grow()
	}
	n, err := r.c.Read(b.Room())
	b.W += n
	if n == 0 {
		r.release()
		if err == nil {
			err = io.ErrNoProgress
		}
		return err
	}
	return nil
}

// grow makes room behind a head that is larger than the buffer; the caller bounds it.
func (r *source) grow() *task.Buffer {
	b := r.buf
	if len(b.B) >= task.DatagramSize {
		b.B = append(b.B, make([]byte, len(b.B))...)
		return b
	}
	large := r.s.Datagram()
	large.R, large.W = 0, copy(large.B, b.Unread())
	r.buf = large
	r.s.Free(b)
	return large
}

// read fills p from the unread bytes, else from the connection.
func (r *source) read(p []byte) (int, error) {
	if r.buf != nil {
		n := copy(p, r.buf.Unread())
		r.use(n)
		r.release()
		if n > 0 {
			return n, nil
		}
	}
	return r.c.Read(p)
}

// waitReadable waits until read would not wait.
func (r *source) waitReadable() error {
	if r.buffered() > 0 {
		return nil
	}
	r.release()
	return r.c.WaitReadable()
}

// readHead waits for a whole head and returns it; it stays valid until fill, release or drop. No head is longer than
// most. started is called once, when the first byte of an incomplete head is there.
//
// RFC 9112 section 2.2: "a server that is expecting to receive and parse a request-line SHOULD ignore at least one empty line (CRLF) received prior to the request-line": skip.
func (r *source) readHead(most int, skip bool, started func()) ([]byte, error) {
	from := 0
	for {
		if skip && r.skipBlank() {
			skip = false
		}
		b := r.unread()
		end, next, bad := scanHead(b, from)
		switch {
		case bad != nil:
			return nil, bad
		case end > most || end == 0 && len(b) > most:
			return nil, tooLong(b[:most])
		case end == 2:
			return nil, bad400Empty
		case end > 0:
			return b[:end], nil
		}
		from = next
		if started != nil && len(b) > 0 {
			started()
			started = nil
		}
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
}

// skipBlank takes one CRLF off the front and reports whether it was there.
func (r *source) skipBlank() bool {
	b := r.unread()
	if len(b) < 2 || b[0] != '\r' || b[1] != '\n' {
		return false
	}
	r.use(2)
	return true
}
