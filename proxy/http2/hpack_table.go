package http2

import (
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/head"
)

// tableEntry is a pair in a compression table of RFC 7541, with what is known of it beforehand, so that a pair that recurs is checked once.
type tableEntry struct {
	name, value string
	kind        entryKind
	part        head.Pseudo // if kind is entryPseudo
	names       proxy.Names // if kind is entryPlain
	length      int64       // if kind is entryLength
}

// entryKind says how much of a pair is still to be checked where a block has it.
type entryKind uint8

const (
	entryOther  entryKind = iota // everything
	entryPlain                   // nothing: a regular field that means nothing to HTTP/2
	entryPseudo                  // only its place among the others
	entryLength                  // only whether there is another: Content-Length
	entryTook                    // proxy.TookField, from a pillion
)

func (e *tableEntry) size() int { return len(e.name) + len(e.value) + entryOverhead }

// decoderTable is the dynamic table that the peer's encoder fills.
type decoderTable struct {
	ring     []tableEntry // entry number n is at n modulo len, a power of two
	inserted uint64       // entries ever
	count    uint64       // entries now
	size     int
	max      int
}

// at returns the entry with index i of both tables, counted from 1, or nil.
func (t *decoderTable) at(i uint64) *tableEntry {
	if i <= staticEntries {
		if i == 0 {
			return nil
		}
		return &staticTable[i-1]
	}
	if i -= staticEntries; i > t.count {
		return nil
	}
	return &t.ring[(t.inserted-i)&uint64(len(t.ring)-1)]
}

// evict makes the table no larger than limit.
func (t *decoderTable) evict(limit int) {
	for t.size > limit {
		e := &t.ring[(t.inserted-t.count)&uint64(len(t.ring)-1)]
		t.size -= e.size()
		*e = tableEntry{}
		t.count--
	}
}

// insert adds an entry. RFC 7541 section 4.4: "an attempt to add an entry larger than the maximum size causes the table to be emptied".
func (t *decoderTable) insert(e tableEntry) {
	size := e.size()
	t.evict(max(0, t.max-size))
	if size > t.max {
		return
	}
	if t.count == uint64(len(t.ring)) {
		t.grow()
	}
	t.ring[t.inserted&uint64(len(t.ring)-1)] = e
	t.inserted++
	t.count++
	t.size += size
}

// grow doubles the ring, which no more than max/entryOverhead entries fit.
func (t *decoderTable) grow() {
	ring := make([]tableEntry, max(8, 2*len(t.ring)))
	for n := t.inserted - t.count; n != t.inserted; n++ {
		ring[n&uint64(len(ring)-1)] = t.ring[n&uint64(len(t.ring)-1)]
	}
	t.ring = ring
}

// distrust has every entry checked anew wherever it is used, because the rules have changed.
func (t *decoderTable) distrust() {
	for i := range t.ring {
		t.ring[i].kind = entryOther
	}
}

// staticTable is RFC 7541 appendix A, a constant.
var staticTable = [staticEntries]tableEntry{
	{name: ":authority", value: "", kind: entryPseudo, part: head.Authority},
	{name: ":method", value: "GET", kind: entryPseudo, part: head.Method},
	{name: ":method", value: "POST", kind: entryPseudo, part: head.Method},
	{name: ":path", value: "/", kind: entryPseudo, part: head.Path},
	{name: ":path", value: "/index.html", kind: entryPseudo, part: head.Path},
	{name: ":scheme", value: "http", kind: entryPseudo, part: head.Scheme},
	{name: ":scheme", value: "https", kind: entryPseudo, part: head.Scheme},
	{name: ":status", value: "200", kind: entryPseudo, part: head.Status},
	{name: ":status", value: "204", kind: entryPseudo, part: head.Status},
	{name: ":status", value: "206", kind: entryPseudo, part: head.Status},
	{name: ":status", value: "304", kind: entryPseudo, part: head.Status},
	{name: ":status", value: "400", kind: entryPseudo, part: head.Status},
	{name: ":status", value: "404", kind: entryPseudo, part: head.Status},
	{name: ":status", value: "500", kind: entryPseudo, part: head.Status},
	{name: "accept-charset"},
	{name: "accept-encoding", value: "gzip, deflate"},
	{name: "accept-language"},
	{name: "accept-ranges"},
	{name: "accept"},
	{name: "access-control-allow-origin"},
	{name: "age"},
	{name: "allow"},
	{name: "authorization"},
	{name: "cache-control"},
	{name: "content-disposition"},
	{name: "content-encoding"},
	{name: "content-language"},
	{name: "content-length"},
	{name: "content-location"},
	{name: "content-range"},
	{name: "content-type"},
	{name: "cookie"},
	{name: "date"},
	{name: "etag"},
	{name: "expect"},
	{name: "expires"},
	{name: "from"},
	{name: "host"},
	{name: "if-match"},
	{name: "if-modified-since"},
	{name: "if-none-match"},
	{name: "if-range"},
	{name: "if-unmodified-since"},
	{name: "last-modified"},
	{name: "link"},
	{name: "location"},
	{name: "max-forwards"},
	{name: "proxy-authenticate"},
	{name: "proxy-authorization"},
	{name: "range"},
	{name: "referer"},
	{name: "refresh"},
	{name: "retry-after"},
	{name: "server"},
	{name: "set-cookie"},
	{name: "strict-transport-security"},
	{name: "transfer-encoding"},
	{name: "user-agent"},
	{name: "vary"},
	{name: "via"},
	{name: "www-authenticate"},
}
