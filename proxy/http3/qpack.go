package http3

import (
	"errors"

	"github.com/pillion-proxy/pillion/proxy"
	"golang.org/x/net/http2/hpack"
)

// QPACK (RFC 9204) without a dynamic table: we announce a capacity of 0, and use none of the peer's. So a field section stands for
// itself, and no stream ever waits for another.

// sectionPrefix is Required Insert Count 0 and Base 0 (RFC 9204 section 4.5.1).
const sectionPrefix = "\x00\x00"

// fieldWriter appends field lines to b. It is the head.Writer of this codec.
type fieldWriter struct{ b []byte }

// Field appends one line: from the static table where that has it, else without Huffman code, which would cost both ends time for each
// byte and save a few.
func (w *fieldWriter) Field(name, value string) {
	i, whole := staticIndex(name, value)
	if whole {
		w.b = appendPrefixed(w.b, 0xc0, 6, uint64(i)) // indexed, static: section 4.5.2
		return
	}
	never := byte(0)
	if proxy.Secret(name) {
		never = 1
	}
	if i >= 0 {
		w.b = appendPrefixed(w.b, 0x50|never<<5, 4, uint64(i)) // literal with a static name: section 4.5.4
	} else {
		w.b = appendPrefixed(w.b, 0x20|never<<4, 3, uint64(len(name))) // literal name: section 4.5.6
		w.b = append(w.b, name...)
	}
	w.b = appendPrefixed(w.b, 0, 7, uint64(len(value)))
	w.b = append(w.b, value...)
}

// appendPrefixed appends v as an integer with a prefix of bits (RFC 7541 section 5.1), beneath the bits of kind.
func appendPrefixed(b []byte, kind byte, bits uint, v uint64) []byte {
	k := uint64(1)<<bits - 1
	if v < k {
		return append(b, kind|byte(v))
	}
	b = append(b, kind|byte(k))
	for v -= k; v >= 128; v >>= 7 {
		b = append(b, 0x80|byte(v))
	}
	return append(b, byte(v))
}

var (
	errSectionShort   = errors.New("field section ends too early")
	errSectionInteger = errors.New("integer too large in a field section")
	errSectionDynamic = errors.New("field section refers to the dynamic table, which has no entries")
	errSectionIndex   = errors.New("field section refers to no line of the static table")
)

// decodeSection passes the lines of a field section to add until that returns false. An error is one of the connection:
// RFC 9204 section 2.2: "If the decoder encounters [...] it MUST treat this as a connection error of type QPACK_DECOMPRESSION_FAILED".
// The strings share the memory of section, where that is not compressed.
func decodeSection(section string, add func(name, value string) bool) error {
	required, rest, err := readPrefixed(section, 8)
	if err != nil {
		return err
	}
	if required != 0 {
		return errSectionDynamic
	}
	if rest == "" {
		return errSectionShort
	}
	if rest[0]&0x80 != 0 { // a negative Base: section 4.5.1.2
		return errSectionDynamic
	}
	if _, rest, err = readPrefixed(rest, 7); err != nil {
		return err
	}
	for rest != "" {
		var name, value string
		if name, value, rest, err = readLine(rest); err != nil {
			return err
		}
		if !add(name, value) {
			return nil
		}
	}
	return nil
}

// readLine reads one line of a field section, RFC 9204 section 4.5.
func readLine(b string) (name, value, rest string, err error) {
	var i uint64
	switch first := b[0]; {
	case first&0xc0 == 0xc0: // indexed, static
		if i, rest, err = readPrefixed(b, 6); err != nil {
			return "", "", "", err
		}
		if i >= uint64(len(staticTable)) {
			return "", "", "", errSectionIndex
		}
		return staticTable[i].name, staticTable[i].value, rest, nil
	case first&0xd0 == 0x50: // literal with a static name
		if i, rest, err = readPrefixed(b, 4); err != nil {
			return "", "", "", err
		}
		if i >= uint64(len(staticTable)) {
			return "", "", "", errSectionIndex
		}
		name = staticTable[i].name
	case first&0xe0 == 0x20: // literal name
		if name, rest, err = readText(b, 3); err != nil {
			return "", "", "", err
		}
	default: // indexed or named by the dynamic table, or after Base
		return "", "", "", errSectionDynamic
	}
	value, rest, err = readText(rest, 7)
	return name, value, rest, err
}

// readText reads a string whose length has a prefix of bits, above which is the bit for Huffman code.
func readText(b string, bits uint) (s, rest string, err error) {
	if b == "" {
		return "", "", errSectionShort
	}
	huffman := b[0]>>bits&1 != 0
	n, rest, err := readPrefixed(b, bits)
	if err != nil {
		return "", "", err
	}
	if n > uint64(len(rest)) {
		return "", "", errSectionShort
	}
	s, rest = rest[:n], rest[n:]
	if huffman {
		s, err = hpack.HuffmanDecodeToString([]byte(s))
	}
	return s, rest, err
}

// readPrefixed reads an integer with a prefix of bits.
func readPrefixed(b string, bits uint) (v uint64, rest string, err error) {
	if b == "" {
		return 0, "", errSectionShort
	}
	k := uint64(1)<<bits - 1
	v = uint64(b[0]) & k
	b = b[1:]
	if v < k {
		return v, b, nil
	}
	for shift := uint(0); ; shift += 7 {
		if b == "" {
			return 0, "", errSectionShort
		}
		// RFC 9204 section 4.1.1: "QPACK implementations MUST be able to decode integers up to and including 62 bits long."
		if shift > 56 {
			return 0, "", errSectionInteger
		}
		c := b[0]
		b = b[1:]
		v += uint64(c&0x7f) << shift
		if c&0x80 == 0 {
			return v, b, nil
		}
	}
}
