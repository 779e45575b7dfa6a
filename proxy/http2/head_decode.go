package http2

import (
	"unsafe"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/head"
)

// headDecoder decodes one header block at a time (RFC 7541); the rules of its lines are those of head.Decoder. The strings are the
// decoder's, and nobody writes to them later.
type headDecoder struct {
	head.Decoder
	max       int  // bytes of a list
	requests  bool // lists are those of requests
	table     decoderTable
	saved     []byte // the incomplete end of the block so far
	whole     int    // blocks in a row that needed no saved
	begun     bool   // something of the block has come
	updatable bool   // no pair of the block has been decoded yet
	memo      headMemo

	// A traceparent is different in each request, and would be garbage after each: its value stands here until the request is filled, see borrow and own.
	parent [parentLen]byte
	lent   bool // the value of one of Fields stands in parent
}

// parentLen is the length of a traceparent of version 00.
const parentLen = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")

// borrow takes a line with a name for which there is no rule, if it is the traceparent of a request.
func (d *headDecoder) borrow(e *tableEntry, value []byte) bool {
	if !d.requests || d.lent || len(value) != parentLen || e.name != traceparent {
		return false
	}
	copy(d.parent[:], value)
	text := unsafe.String(&d.parent[0], parentLen)
	if !head.ValidValue(text) {
		return false
	}
	d.lent = true
	d.AddPlain(e.name, text, e.names)
	return true
}

// own moves what was borrowed to memory of the list's owner.
func (d *headDecoder) own(to *[parentLen]byte) {
	if !d.lent {
		return
	}
	d.lent = false
	for i := len(d.Fields) - 1; i >= 0; i-- {
		if f := &d.Fields[i]; unsafe.StringData(f.Value) == &d.parent[0] {
			*to = d.parent
			f.Value = unsafe.String(&to[0], parentLen)
			return
		}
	}
}

func (d *headDecoder) init(max int) {
	d.max = max
	d.table.max = defaultHeaderTableSize
}

// setVerbatim says whether both ends are pillions.
func (d *headDecoder) setVerbatim(verbatim bool) {
	if d.Verbatim != verbatim {
		d.Verbatim = verbatim
		d.table.distrust()
		d.forget()
	}
}

// begin makes d ready for the next block.
func (d *headDecoder) begin() {
	d.begun, d.updatable, d.lent = false, true, false
	d.saved = d.saved[:0]
	if d.whole++; d.whole > keptFor {
		d.slim()
	}
}

// What a decoder keeps for blocks that come in pieces: few peers send such, but those that do send many.
const (
	keptSaved = 4 << 10 // bytes that are always kept
	keptFor   = 256     // blocks without need of more
)

// slim gives up memory that only long blocks need.
func (d *headDecoder) slim() {
	if cap(d.saved) > keptSaved && len(d.saved) == 0 {
		d.saved = nil
	}
}

// classify checks a new entry of the table.
func (d *headDecoder) classify(e *tableEntry) {
	switch {
	case d.Verbatim && e.name == proxy.TookField:
		e.kind = entryTook
	case len(e.name) == 0 || e.name[0] != ':':
		if d.Plain(e.name, e.value) {
			e.kind, e.names = entryPlain, proxy.NamesOf(e.name)
		} else if n, ok := head.ParseLength(e.value); ok && head.IsContentLength(e.name) && head.ValidName(e.name, d.Verbatim) {
			e.kind, e.length = entryLength, n
		}
	case head.ValidValue(e.value):
		if e.part = d.Part(e.name); e.part != 0 {
			e.kind = entryPseudo
		}
	}
}

// take adds a pair to the block.
func (d *headDecoder) take(e *tableEntry) {
	switch e.kind {
	case entryPlain:
		d.AddPlain(e.name, e.value, e.names)
	case entryPseudo:
		d.AddPseudo(e.part, e.name, e.value)
	case entryTook:
		d.AddTook(e.name, e.value)
	case entryLength:
		d.AddLength(e.name, e.value, e.length)
	default:
		d.Add(e.name, e.value)
	}
}
