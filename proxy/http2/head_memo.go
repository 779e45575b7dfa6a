package http2

import "github.com/pillion-proxy/pillion/proxy/head"

// headMemo is how the last blocks began, up to the first field that was not in the tables, and what came of it: most blocks begin as the one before.
type headMemo struct {
	block           []byte        // nil while nothing has been seen
	inserted, count uint64        // of the table when it was seen
	twice           bool          // it has been seen again
	state           *head.Decoder // after it, if twice
}

// leastMemo is from how many fields on a beginning is remembered.
const leastMemo = 3

// is reports whether p begins as m says, and means the same.
func (m *headMemo) is(p []byte, t *decoderTable) bool {
	return len(p) >= len(m.block) && m.inserted == t.inserted && m.count == t.count && string(p[:len(m.block)]) == string(m.block)
}

// beginning decodes the fields in the tables that a block begins with, and returns the rest.
func (d *headDecoder) beginning(p []byte) ([]byte, error) {
	d.begun = true
	m := &d.memo
	if m.twice && m.is(p, &d.table) {
		d.Restore(m.state)
		d.updatable = false
		return p[len(m.block):], nil
	}
	d.Begin(d.max)
	n := 0
	for n < len(p) && p[n] >= 0x80 && p[n] < 0xff { // in one byte
		e := d.table.at(uint64(p[n] & 0x7f))
		if e == nil {
			return nil, errHpackIndex
		}
		d.updatable = false
		d.take(e)
		n++
	}
	if n >= leastMemo && d.Bad == "" && !d.TooLarge {
		d.remember(p[:n])
	}
	return p[n:], nil
}

// remember keeps what came of a beginning that is there for the second time in a row.
func (d *headDecoder) remember(p []byte) {
	m := &d.memo
	if len(m.block) == len(p) && m.is(p, &d.table) {
		if m.state == nil {
			m.state = new(head.Decoder)
		}
		d.Save(m.state)
		m.twice = true
		return
	}
	m.block, m.inserted, m.count, m.twice = append(m.block[:0], p...), d.table.inserted, d.table.count, false
}

// forget gives up what is remembered.
func (d *headDecoder) forget() { d.memo = headMemo{} }
