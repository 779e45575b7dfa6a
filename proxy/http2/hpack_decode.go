package http2

import (
	"errors"
	"unsafe"

	"golang.org/x/net/http2/hpack"
)

// Errors of a header block; each ends the connection.
var (
	errHpackTruncated = errors.New("truncated header block")
	errHpackInteger   = errors.New("integer too large")
	errHpackIndex     = errors.New("invalid index")
	errHpackString    = errors.New("string too long")
	errHpackUpdate    = errors.New("table size update not allowed here, or too large")
)

// errMore says that the rest of a representation is not there yet.
var errMore = errors.New("more to come")

// write decodes a piece of a block. It keeps what is incomplete until the next.
func (d *headDecoder) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if !d.begun {
		var err error
		if p, err = d.beginning(p); err != nil {
			return err
		}
	}
	saved := len(d.saved) > 0
	if saved {
		d.saved = append(d.saved, p...)
		p = d.saved
	}
	for len(p) > 0 {
		n, err := d.representation(p)
		if err == errMore {
			break
		}
		if err != nil {
			return err
		}
		p = p[n:]
	}
	if len(p) > 0 {
		d.whole = 0
	}
	if saved {
		d.saved = d.saved[:copy(d.saved, p)]
	} else {
		d.saved = append(d.saved[:0], p...)
	}
	return nil
}

// finish ends a block.
func (d *headDecoder) finish() error {
	if !d.begun {
		d.Begin(d.max)
	}
	if len(d.saved) > 0 {
		return errHpackTruncated
	}
	return nil
}

// representation decodes what p begins with, RFC 7541 section 6, and returns its length.
func (d *headDecoder) representation(p []byte) (int, error) {
	switch b := p[0]; {
	case b >= 0x80:
		i, n, err := readVarInt(p, 7)
		if err != nil {
			return 0, err
		}
		e := d.table.at(i)
		if e == nil {
			return 0, errHpackIndex
		}
		d.updatable = false
		d.take(e)
		return n, nil
	case b >= 0x40:
		return d.literal(p, 6, true)
	case b >= 0x20:
		return d.update(p)
	default: // 0x10 asks those who send it on never to index it: a matter of its name to us, see secret
		return d.literal(p, 4, false)
	}
}

// literal decodes RFC 7541 sections 6.2.1 to 6.2.3.
func (d *headDecoder) literal(p []byte, bits uint, keep bool) (int, error) {
	i, n, err := readVarInt(p, bits)
	if err != nil {
		return 0, err
	}
	var name, value codedString
	var e tableEntry
	took, plain := false, false
	if i != 0 {
		known := d.table.at(i)
		if known == nil {
			return 0, errHpackIndex
		}
		e.name, e.names, took, plain = known.name, known.names, known.kind == entryTook, known.kind == entryPlain
	} else if name, n, err = d.readString(p, n); err != nil {
		return 0, err
	}
	if value, n, err = d.readString(p, n); err != nil {
		return 0, err
	}
	d.updatable = false
	if took && !keep && !value.huffman { // a new value each time, which is read where it stands
		d.AddTook(e.name, unsafe.String(unsafe.SliceData(value.b), len(value.b)))
		return n, nil
	}
	if d.TooLarge && !keep {
		return n, nil
	}
	if plain && !keep && !value.huffman && d.borrow(&e, value.b) {
		return n, nil
	}
	if i == 0 {
		if e.name, err = d.decodeString(name); err != nil {
			return 0, err
		}
	}
	if e.value, err = d.decodeString(value); err != nil {
		return 0, err
	}
	if keep {
		d.classify(&e)
		d.table.insert(e)
	}
	d.take(&e)
	return n, nil
}

// update decodes a table size update. RFC 7541 section 4.2: "This dynamic table size update MUST occur at the beginning of the first header
// block following the change". Section 6.3: "The new maximum size MUST be lower than or equal to the limit determined by the protocol
// using HPACK". Where the table is empty one is harmless anywhere.
func (d *headDecoder) update(p []byte) (int, error) {
	size, n, err := readVarInt(p, 5)
	if err != nil {
		return 0, err
	}
	if !d.updatable && d.table.size > 0 || size > defaultHeaderTableSize {
		return 0, errHpackUpdate
	}
	d.table.max = int(size)
	d.table.evict(d.table.max)
	return n, nil
}

// codedString is a string as it came.
type codedString struct {
	b       []byte
	huffman bool
}

// readString finds the string at p[n:] and returns where it ends.
func (d *headDecoder) readString(p []byte, n int) (codedString, int, error) {
	if n == len(p) {
		return codedString{}, 0, errMore
	}
	huffman := p[n]&0x80 != 0
	length, m, err := readVarInt(p[n:], 7)
	switch n += m; {
	case err != nil:
		return codedString{}, 0, err
	case length > uint64(d.maxString()):
		return codedString{}, 0, errHpackString
	case uint64(len(p)-n) < length:
		return codedString{}, 0, errMore
	}
	end := n + int(length)
	return codedString{p[n:end], huffman}, end, nil
}

// maxString bounds a name or a value, in bytes, so that what is held of an incomplete block is bounded too.
func (d *headDecoder) maxString() int { return 2 * d.max }

func (d *headDecoder) decodeString(s codedString) (string, error) {
	if !s.huffman {
		return string(s.b), nil
	}
	text, err := hpack.HuffmanDecodeToString(s.b)
	if err == nil && len(text) > d.maxString() {
		err = errHpackString
	}
	return text, err
}

// readVarInt decodes an integer whose prefix has so many bits, RFC 7541 section 5.1, and returns its length.
func readVarInt(p []byte, bits uint) (v uint64, n int, err error) {
	most := uint64(1)<<bits - 1
	if v = uint64(p[0]) & most; v < most {
		return v, 1, nil
	}
	for n, shift := 1, uint(0); n < len(p); n++ {
		v += uint64(p[n]&0x7f) << shift
		if p[n] < 0x80 {
			return v, n + 1, nil
		}
		if shift += 7; shift >= 63 {
			return 0, 0, errHpackInteger
		}
	}
	return 0, 0, errMore
}
