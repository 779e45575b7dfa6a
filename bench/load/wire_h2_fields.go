package load

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strconv"

	"golang.org/x/net/http2/hpack"
)

// h2Request is a request, encoded: with a table of fields in the peer, the first differs from the others, which only refer to it.
type h2Request struct {
	first, others           []byte
	smallFirst, smallOthers []byte // for a peer whose table is small
	body                    []byte // nil if there is none
}

func newH2Request(c *Config) *h2Request {
	fields := []hpack.HeaderField{
		{Name: ":method", Value: "GET"},
		{Name: ":scheme", Value: "http"},
		{Name: ":path", Value: c.Path},
		{Name: ":authority", Value: c.Host},
	}
	r := &h2Request{}
	if c.Protocol == GRPC {
		fields[0].Value = "POST"
		fields = append(fields,
			hpack.HeaderField{Name: "content-type", Value: "application/grpc"},
			hpack.HeaderField{Name: "te", Value: "trailers"})
		r.body = binary.BigEndian.AppendUint32([]byte{0}, uint32(c.Size)) // not compressed, length
		r.body = append(r.body, bytes.Repeat([]byte("x"), c.Size)...)
	} else {
		fields = append(fields, hpack.HeaderField{Name: "accept", Value: "*/*"})
	}
	fields = append(fields, hpack.HeaderField{Name: "user-agent", Value: "pillion-bench"})
	r.first, r.others = encodeTwice(fields, 4096)
	r.smallFirst, r.smallOthers = encodeTwice(fields, 0)
	return r
}

// encodeTwice returns a field block for a fresh table, and the same fields' block thereafter.
func encodeTwice(fields []hpack.HeaderField, table uint32) (first, others []byte) {
	var out bytes.Buffer
	enc := hpack.NewEncoder(&out)
	enc.SetMaxDynamicTableSize(table)
	for _, block := range []*[]byte{&first, &others} {
		for _, f := range fields {
			_ = enc.WriteField(f) // a bytes.Buffer takes everything
		}
		*block = bytes.Clone(out.Bytes())
		out.Reset()
	}
	return first, others
}

// append appends the frames of one request.
func (r *h2Request) append(out []byte, id uint32, small, begun bool) []byte {
	block := r.others
	switch {
	case small && begun:
		block = r.smallOthers
	case small:
		block = r.smallFirst
	case !begun:
		block = r.first
	}
	flags := byte(flagEndHeaders)
	if r.body == nil {
		flags |= flagEndStream
	}
	out = appendFrame(out, len(block), frameHeaders, flags, id)
	out = append(out, block...)
	for body := r.body; len(body) > 0; {
		n := min(len(body), maxFrame)
		flags = 0
		if n == len(body) {
			flags = flagEndStream
		}
		out = append(appendFrame(out, n, frameData, flags, id), body[:n]...)
		body = body[n:]
	}
	return out
}

// h2Said is what matters of an answer's fields.
type h2Said struct {
	status int    // 0 in trailers
	grpc   string // grpc-status; "" if there is none
}

// h2Fields reads field blocks. Most are the same again and again: what does not change the table is decoded once.
type h2Fields struct {
	dec   *hpack.Decoder
	said  h2Said
	known map[string]h2Said // as long as the table stays as it is
}

const maxKnown = 16 // blocks; more are decoded each time

func (f *h2Fields) reset() {
	f.known = map[string]h2Said{}
	f.dec = hpack.NewDecoder(4096, func(field hpack.HeaderField) {
		switch field.Name {
		case ":status":
			f.said.status, _ = strconv.Atoi(field.Value)
		case "grpc-status":
			f.said.grpc = field.Value
		}
	})
}

func (f *h2Fields) read(block []byte) (h2Said, error) {
	if said, ok := f.known[string(block)]; ok {
		return said, nil
	}
	f.said = h2Said{}
	if _, err := f.dec.Write(block); err != nil {
		return h2Said{}, err
	}
	if err := f.dec.Close(); err != nil {
		return h2Said{}, err
	}
	switch changes, err := changesTable(block); {
	case err != nil:
		return h2Said{}, err
	case changes:
		clear(f.known)
	case len(f.known) < maxKnown:
		f.known[string(block)] = f.said
	}
	return f.said, nil
}

var errFields = errors.New("it is cut off")

// changesTable reports whether a field block puts something into the table or changes its size (RFC 7541, section 6).
func changesTable(p []byte) (bool, error) {
	for len(p) > 0 {
		b := p[0]
		switch {
		case b&0x80 != 0: // "An indexed header field representation starts with the '1' 1-bit pattern"
			_, rest, ok := integer(p, 7)
			if !ok {
				return false, errFields
			}
			p = rest
		case b&0xe0 == 0x20 || b&0xc0 == 0x40: // size update; literal with incremental indexing
			return true, nil
		default: // literal without indexing, or never indexed
			name, rest, ok := integer(p, 4)
			strings := 1
			if name == 0 {
				strings = 2
			}
			for ; ok && strings > 0; strings-- {
				var n int
				if n, rest, ok = integer(rest, 7); ok && n <= len(rest) {
					rest = rest[n:]
				} else {
					ok = false
				}
			}
			if !ok {
				return false, errFields
			}
			p = rest
		}
	}
	return false, nil
}

// integer reads one with a prefix of n bits (RFC 7541, section 5.1).
func integer(p []byte, n int) (value int, rest []byte, ok bool) {
	if len(p) == 0 {
		return 0, nil, false
	}
	mask := 1<<n - 1
	value, p = int(p[0])&mask, p[1:]
	if value < mask {
		return value, p, true
	}
	for shift := 0; len(p) > 0 && shift < 28; shift += 7 {
		b := p[0]
		value, p = value+int(b&0x7f)<<shift, p[1:]
		if b&0x80 == 0 {
			return value, p, true
		}
	}
	return 0, nil, false
}
