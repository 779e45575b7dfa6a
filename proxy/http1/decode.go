package http1

import (
	"bytes"
	"io"

	"github.com/pillion-proxy/pillion/proxy"
)

const (
	maxChunkLine  = 256      // bytes of a chunk-size with its extensions; longer is refused
	maxExtensions = 16 << 10 // bytes of chunk extensions in one content; more is refused
	maxTrailers   = 16 << 10 // bytes of a trailer section; more is refused
)

// framing says how a content ends.
type framing uint8

const (
	none    framing = iota // there is none
	sized                  // after left bytes
	chunked                // with the last chunk and its trailers
	toEnd                  // with the connection
)

// The states of a decoder.
//
//	inData --(left used up; chunked)--> afterData --> inSize --> inData
//	inSize --(size 0)--> inTrailers --> done
//	inData --(left used up; sized) or (end of connection; toEnd)--> done
type decodeState uint8

const (
	inData    decodeState = iota
	afterData             // the CRLF behind a chunk's data comes
	inSize                // a line with a chunk size comes
	inTrailers
	done
)

// decoder takes the content of one message out of a source.
type decoder struct {
	how        framing
	state      decodeState
	left       int64 // bytes of the content, or of the chunk
	extensions int   // bytes of chunk extensions so far
	err        error // why there will be no more
	section    []byte
	trailers   proxy.Fields
	head       head
}

// start makes d ready for a content. length counts if how is sized.
func (d *decoder) start(how framing, length int64) {
	d.how, d.left, d.extensions, d.err = how, 0, 0, nil
	d.section, d.trailers = d.section[:0], d.trailers[:0]
	switch how {
	case none:
		d.state = done
	case sized:
		d.state, d.left = inData, length
		if length == 0 {
			d.state = done
		}
	case chunked:
		d.state = inSize
	case toEnd:
		d.state = inData
	}
}

// read waits for at least one byte of content, and then takes what has arrived. It returns io.EOF once the content has wholly
// arrived, and an error that is no EOF if it was cut short.
func (d *decoder) read(r *source, p []byte) (int, error) {
	for {
		n, err := d.take(r, p)
		switch {
		case n > 0 || len(p) == 0:
			return n, nil
		case err != nil:
			return 0, err
		case d.state == done:
			return 0, io.EOF
		case d.state == inData:
			n, err = d.direct(r, p)
		default:
			err = r.fill()
		}
		switch {
		case n > 0:
			d.advance(n)
			d.settle(r) // an error is kept for the next read
			return n, nil
		case err == io.EOF:
			return d.end()
		case err != nil:
			d.err = err
			return 0, err
		}
	}
}

// end deals with the end of the connection.
//
// RFC 9112 section 8: "A message body that uses the chunked transfer coding is incomplete if the zero-sized chunk that terminates the encoding
// has not been received. A message that uses a valid Content-Length is incomplete if the size of the message body
// received (in octets) is less than the value given by Content-Length."
func (d *decoder) end() (int, error) {
	if d.how == toEnd {
		d.state, d.err = done, nil
		return 0, io.EOF
	}
	d.err = errTruncated
	return 0, d.err
}

// take copies what has arrived, and goes over the framing between, without waiting.
func (d *decoder) take(r *source, p []byte) (n int, err error) {
	if d.err != nil {
		return 0, d.err
	}
	for {
		if err := d.settle(r); err != nil || d.state != inData || n == len(p) {
			return n, err
		}
		b := r.unread()
		if d.how != toEnd && int64(len(b)) > d.left {
			b = b[:d.left]
		}
		m := copy(p[n:], b)
		if m == 0 {
			return n, nil
		}
		n += m
		r.use(m)
		d.advance(m)
	}
}

// direct reads content from the connection into p, without a copy.
func (d *decoder) direct(r *source, p []byte) (int, error) {
	if d.how != toEnd && int64(len(p)) > d.left {
		p = p[:d.left]
	}
	return r.c.Read(p)
}

// advance counts n bytes of content that were taken.
func (d *decoder) advance(n int) {
	if d.how == toEnd {
		return
	}
	if d.left -= int64(n); d.left > 0 {
		return
	}
	if d.how == sized {
		d.state = done
	} else {
		d.state = afterData
	}
}

// settle goes over as much framing as has arrived. Afterwards state is inData with bytes left, done, or more of the
// source is needed.
func (d *decoder) settle(r *source) (err error) {
	for moved := true; moved && d.state != inData && d.state != done; {
		if moved, err = d.step(r); err != nil {
			d.err = err
			break
		}
	}
	r.release()
	return err
}

func (d *decoder) step(r *source) (moved bool, err error) {
	b := r.unread()
	switch d.state {
	case afterData:
		if len(b) > 0 && b[0] != '\r' || len(b) > 1 && b[1] != '\n' {
			return false, bad("the data of a chunk does not end where its size says")
		}
		if len(b) < 2 {
			return false, nil
		}
		r.use(2)
		d.state = inSize
		return true, nil
	case inSize:
		return d.stepSize(r, b)
	default:
		return d.stepTrailers(r, b)
	}
}

// stepSize reads "chunk-size [ chunk-ext ] CRLF".
func (d *decoder) stepSize(r *source, b []byte) (bool, error) {
	i := bytes.IndexByte(b[:min(len(b), maxChunkLine)], '\n')
	if i < 0 {
		if len(b) >= maxChunkLine {
			return false, bad("a chunk size with its extensions is longer than 256 bytes")
		}
		return false, nil
	}
	size, digits, e := parseChunkLine(b[:i+1])
	if e != nil {
		return false, e
	}
	if d.extensions += i - 1 - digits; d.extensions > maxExtensions {
		return false, bad("more than 16 KiB of chunk extensions")
	}
	r.use(i + 1)
	d.left, d.state = size, inData
	if size == 0 {
		d.state = inTrailers
	}
	return true, nil
}

// parseChunkLine reads one line with its line end. RFC 9112 section 7.1: "chunk-size = 1*HEXDIG", "recipients MUST anticipate potentially large
// hexadecimal numerals and prevent parsing errors due to integer conversion overflows".
// Section 7.1.1: "A recipient MUST ignore unrecognized chunk extensions"; what follows the size must be one.
func parseChunkLine(line []byte) (size int64, digits int, err error) {
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return 0, 0, bad("a chunk size ends in LF without CR")
	}
	line = line[:len(line)-2]
	for digits < len(line) {
		v, ok := unhex(line[digits])
		if !ok {
			break
		}
		if digits == 15 {
			return 0, 0, bad("a chunk size has more than 15 digits")
		}
		size = size<<4 | int64(v)
		digits++
	}
	ext := trim(line[digits:])
	if digits == 0 || len(ext) > 0 && ext[0] != ';' || len(ext) == 0 && digits != len(line) || !validValue(ext) {
		return 0, 0, bad("bad chunk size: " + quoted(str(line)))
	}
	return size, digits, nil
}

func unhex(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// stepTrailers collects the lines of the trailer section, which ends as a head does.
func (d *decoder) stepTrailers(r *source, b []byte) (bool, error) {
	i := bytes.IndexByte(b, '\n')
	switch {
	case len(d.section)+max(i, len(b)) > maxTrailers:
		return false, bad("the trailers are longer than 16 KiB")
	case i < 0:
		return false, nil
	case i == 0 || b[i-1] != '\r':
		return false, bad("a line of the trailers ends in LF without CR")
	}
	d.section = append(d.section, b[:i+1]...)
	r.use(i + 1)
	if i > 1 {
		return true, nil
	}
	if len(d.section) > 2 {
		d.head.reset()
		if err := parseFields(d.section, &d.trailers, &d.head, nil); err != nil {
			return false, err
		}
		cleanTrailers(&d.trailers)
	}
	d.state = done
	return true, nil
}

// buffered is what Body.Buffered promises.
func (d *decoder) buffered(r *source) int {
	switch {
	case d.state == done:
		return -1
	case d.state != inData || d.err != nil:
		return 0
	case d.how == toEnd:
		return r.buffered()
	}
	return int(min(int64(r.buffered()), d.left))
}

// waits reports whether read would wait for the connection.
func (d *decoder) waits(r *source) bool { return d.err == nil && d.buffered(r) == 0 }

// whole reports whether the rest of the content has arrived, so that reading it would not wait. It looks at sized contents only.
func (d *decoder) whole(r *source) bool {
	return d.state == done || d.how == sized && int64(r.buffered()) >= d.left
}
