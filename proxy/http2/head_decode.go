package http2

import (
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/head"
)

// headDecoder decodes one header block at a time (RFC 7541); the rules of its lines are those of head.Decoder. The strings are the
// decoder's, and nobody writes to them later.
type headDecoder struct {
	head.Decoder
	max       int  // bytes of a list
	client    bool // lists are those of answers
	table     decoderTable
	saved     []byte // the incomplete end of the block so far
	whole     int    // blocks in a row that needed no saved
	updatable bool   // no pair of the block has been decoded yet
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
	}
}

// begin makes d ready for the next block.
func (d *headDecoder) begin() {
	d.Begin(d.max)
	d.updatable = true
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
	case d.client && d.Verbatim && e.name == proxy.TookField:
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
