package http2

import (
	"hash/maphash"
	"slices"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/net/http2/hpack"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/head"
)

// headEncoder writes header blocks (RFC 7541). A pair enters the peer's dynamic table only if it has been seen
// before; secrets never do. Strings that it is given may point into pooled buffers: what it keeps it clones. It knows by number which of
// its pairs the peer's table holds, and so looks a pair up once.
type headEncoder struct {
	out    *[]byte // where blocks are appended
	timed  uint64  // the number of an entry with proxy.TookField; 0 if there never was one
	traced uint64  // the same with traceparent
	number []byte  // scratch of encodeLength

	// The order in which pairs followed each other last is a guess at what comes next.
	last  *hotPair // the latest of this block
	first hotPair  // stands before the first pair of a block

	table  encoderTable
	seed   maphash.Seed
	memory *headMemory // what has been seen; nil while nothing has
	victim uint8
	lower  head.Lowerer
}

// encoderTable is what we know of the peer's dynamic table: how large each entry is, oldest first.
type encoderTable struct {
	inserted uint64 // entries ever; an entry's number is the count after it
	evicted  uint64 // entries gone: those with a number up to this
	changed  bool   // the next block begins with table size updates
	size     int
	max      int
	least    int                                     // the smallest max since the last block
	sizes    [maxEncoderTable / entryOverhead]uint16 // a ring
}

// entryOverhead is what RFC 7541 section 4.1 adds to an entry's strings, in bytes.
const entryOverhead = 32

// headMemory is what a headEncoder has seen. It may be dropped at any time.
type headMemory struct {
	seen [256]uint32 // hashes of pairs seen once
	hot  [128]hotPair
}

// hotPair is a pair that recurs, in memory of its own.
type hotPair struct {
	next        *hotPair // which followed it last, whatever is in its place by now; may be nil
	number      uint64   // of its entry in the table; 0 if it never had one
	name, value string
	hash        uint32
	kind        pairKind
	length      int64 // if kind is pairLength
}

// pairKind says which rules of HTTP/2 a regular field has to be held against each time it is written.
type pairKind uint8

const (
	pairOther  pairKind = iota // all
	pairPlain                  // none: the name means nothing to HTTP/2
	pairHost                   // Host, which has to be what the request is for
	pairLength                 // Content-Length, which has to be what is sent
)

// kindOf finds out what a pair is, of which unregulated says the half.
func kindOf(name, value string) (kind pairKind, length int64) {
	switch {
	case unregulated(name):
		return pairPlain, 0
	case proxy.SameName(name, "host"):
		return pairHost, 0
	case head.IsContentLength(name):
		if n, ok := head.ParseLength(value); ok && (n == 0 || value[0] != '0') {
			return pairLength, n
		}
	}
	return pairOther, 0
}

const (
	ways          = 4   // places that a pair may have in seen and in hot
	maxIndexValue = 256 // bytes: a longer value would push too much out of a table of 4 KiB
	staticEntries = 61  // RFC 7541 appendix A
)

func (e *headEncoder) init(out *[]byte) {
	e.out = out
	e.seed = maphash.MakeSeed()
	e.table.max = defaultHeaderTableSize
	e.last = &e.first
}

// forget gives memory back. What the peer's table holds is said again before it is used again.
func (e *headEncoder) forget() {
	e.memory = nil
	e.first.next, e.last = nil, &e.first
}

// setTableSize follows the peer's SETTINGS_HEADER_TABLE_SIZE.
func (e *headEncoder) setTableSize(n uint32) {
	t := &e.table
	if !t.changed {
		t.least = t.max
	}
	t.max, t.changed = int(min(n, maxEncoderTable)), true
	t.least = min(t.least, t.max)
	t.evict(t.max)
}

// begin begins a block. RFC 7541 section 4.2: "This dynamic table size update MUST occur at the beginning of the first
// header block following the change to the dynamic table size. [...] the smallest maximum table size that occurs in that
// interval MUST be signaled in a dynamic table size update. The final maximum size is always signaled". A table that shrank and grew
// again is emptied, which is smaller still: x/net's decoder takes a second update only of an empty table.
func (e *headEncoder) begin() {
	e.last = &e.first
	t := &e.table
	if !t.changed {
		return
	}
	t.changed = false
	if t.least < t.max {
		t.evict(0)
		*e.out = append(*e.out, 0x20)
	}
	*e.out = appendVarInt(*e.out, 0x20, 5, uint64(t.max))
}

// evict makes the table no larger than limit.
func (t *encoderTable) evict(limit int) {
	for t.size > limit {
		t.size -= int(t.sizes[t.evicted%uint64(len(t.sizes))])
		t.evicted++
	}
}

// insert notes a new entry and returns its number, 0 if it is larger than the table, which it then empties.
func (t *encoderTable) insert(size int) uint64 {
	if size > t.max {
		t.evict(0)
		return 0
	}
	t.evict(t.max - size)
	t.sizes[t.inserted%uint64(len(t.sizes))] = uint16(size)
	t.size += size
	t.inserted++
	return t.inserted
}

// indexed writes the pair at index i of both tables.
func (e *headEncoder) indexed(i uint64) { *e.out = appendIndexed(*e.out, i) }

func appendIndexed(b []byte, i uint64) []byte {
	if i < 0x7f {
		return append(b, 0x80|byte(i))
	}
	return appendVarInt(b, 0x80, 7, i)
}

// expected writes the pair if it is the one that came next last time and the peer's table holds it. Comparing costs less than finding out.
func (e *headEncoder) expected(p *hotPair, name, value string) bool {
	if p == nil || p.number <= e.table.evicted || p.value != value || p.name != name {
		return false
	}
	*e.out = e.again(*e.out, p)
	return true
}

// known returns the pair that came next last time if it is this one and the peer's table holds it, else nil.
func (e *headEncoder) known(f *proxy.Field) *hotPair {
	p := e.last.next
	if p == nil || p.number <= e.table.evicted || p.value != f.Value || p.name != f.Name {
		return nil
	}
	return p
}

// again appends the pair that known has returned to b.
func (e *headEncoder) again(b []byte, p *hotPair) []byte {
	e.last = p
	return appendIndexed(b, staticEntries+1+e.table.inserted-p.number)
}

// field writes a pair. The name is in the case to be sent.
func (e *headEncoder) field(name, value string) {
	if e.expected(e.last.next, name, value) {
		return
	}
	if len(name) == len(traceparent) && name == traceparent && len(value) <= maxIndexValue {
		e.changing(&e.traced, name, value)
		return
	}
	if proxy.Secret(name) {
		e.literal(0x10, name, value)
		return
	}
	if len(value) > maxIndexValue {
		e.literal(0, name, value)
		return
	}
	p := e.recurring(name, value)
	if p == nil {
		e.literal(0, name, value)
		return
	}
	e.last.next, e.last = p, p
	switch {
	case p.number > e.table.evicted:
		e.indexed(staticEntries + 1 + e.table.inserted - p.number)
	default:
		e.incremental(name, value)
		p.number = e.table.insert(len(name) + len(value) + entryOverhead)
	}
}

// took writes proxy.TookField. Its value is never the same, so that the peer's table holds one, for the name.
func (e *headEncoder) took(all, app time.Duration) {
	e.number = proxy.AppendTook(e.number[:0], all, app)
	e.changing(&e.timed, proxy.TookField, unsafe.String(unsafe.SliceData(e.number), len(e.number)))
}

// traceparent is different in each request.
const traceparent = "traceparent"

// changing writes a field whose value is never the same. The peer's table holds one, for the name: number is its entry's.
func (e *headEncoder) changing(number *uint64, name, value string) {
	if *number > e.table.evicted {
		*e.out = appendRaw(appendVarInt(*e.out, 0, 4, staticEntries+1+e.table.inserted-*number), value)
		return
	}
	e.incremental(name, value)
	*number = e.table.insert(len(name) + len(value) + entryOverhead)
}

// recurring returns the pair in memory of its own if it has been seen before, else nil.
func (e *headEncoder) recurring(name, value string) *hotPair {
	m := e.memory
	if m == nil {
		m = new(headMemory)
		e.memory = m
	}
	h := maphash.String(e.seed, name)*31 + maphash.String(e.seed, value)
	hash := uint32(h>>32) | 1
	set := m.hot[h%(uint64(len(m.hot))/ways)*ways:][:ways]
	for i := range set {
		if p := &set[i]; p.hash == hash && p.name == name && p.value == value {
			return p
		}
	}
	once := m.seen[(h>>16)%(uint64(len(m.seen))/ways)*ways:][:ways]
	i := slices.Index(once, hash)
	if i < 0 {
		if i = slices.Index(once, 0); i < 0 {
			e.victim++
			i = int(e.victim % ways)
		}
		once[i] = hash
		return nil
	}
	once[i] = 0
	p := oldest(set)
	kind, length := kindOf(name, value)
	both := name + value
	*p = hotPair{hash: hash, name: both[:len(name)], value: both[len(name):], kind: kind, length: length}
	return p
}

// oldest returns the pair that came into the table first, or never. So pairs that recur and share a set do not take each other's place for ever.
func oldest(set []hotPair) *hotPair {
	p := &set[0]
	for i := range set {
		if set[i].number < p.number {
			p = &set[i]
		}
	}
	return p
}

// incremental writes a pair that the peer's table takes in: RFC 7541 section 6.2.1.
func (e *headEncoder) incremental(name, value string) { e.spell(0x40, 6, name, value) }

// literal writes a pair that leaves the table alone: RFC 7541 section 6.2.2 (kind 0) and 6.2.3 (kind 0x10).
func (e *headEncoder) literal(kind byte, name, value string) { e.spell(kind, 4, name, value) }

func (e *headEncoder) spell(kind byte, bits uint, name, value string) {
	appendString := appendRaw
	if kind == 0x40 {
		appendString = appendHpackString // said once, kept for long
	}
	b := *e.out
	if i := staticName(name); i != 0 {
		b = appendVarInt(b, kind, bits, i)
	} else {
		b = append(b, kind)
		b = appendString(b, name)
	}
	*e.out = appendString(b, value)
}

// appendRaw appends a string without Huffman code, which costs both ends time for each byte and saves a few: too much for what is
// said only once.
func appendRaw(b []byte, s string) []byte {
	b = appendVarInt(b, 0, 7, uint64(len(s)))
	return append(b, s...)
}

// method, scheme, root and status write pairs of which the static table has the usual values.
func (e *headEncoder) method(m string) {
	switch m {
	case "GET":
		e.indexed(2)
	case "POST":
		e.indexed(3)
	default:
		e.field(":method", m)
	}
}

func (e *headEncoder) scheme(s string) {
	if s == "https" {
		e.indexed(7)
	} else {
		e.indexed(6)
	}
}

func (e *headEncoder) path(p string) {
	if p == "" || p == "/" {
		e.indexed(4)
	} else {
		e.field(":path", p)
	}
}

func (e *headEncoder) status(n int) {
	switch n {
	case 200:
		e.indexed(8)
	case 204:
		e.indexed(9)
	case 206:
		e.indexed(10)
	case 304:
		e.indexed(11)
	case 400:
		e.indexed(12)
	case 404:
		e.indexed(13)
	case 500:
		e.indexed(14)
	default:
		e.number = strconv.AppendInt(e.number[:0], int64(n), 10)
		e.field(":status", unsafe.String(unsafe.SliceData(e.number), len(e.number)))
	}
}

func appendVarInt(b []byte, kind byte, bits uint, v uint64) []byte {
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

func appendHpackString(b []byte, s string) []byte {
	if n := hpack.HuffmanEncodeLength(s); n < uint64(len(s)) {
		b = appendVarInt(b, 0x80, 7, n)
		return hpack.AppendHuffmanString(b, s)
	}
	return appendRaw(b, s)
}

// staticName returns the index of a lower-case name in HPACK's static table, for the names that are worth it, else 0.
func staticName(name string) uint64 {
	switch name {
	case ":authority":
		return 1
	case ":method":
		return 2
	case ":path":
		return 4
	case ":scheme":
		return 6
	case ":status":
		return 8
	case "accept-encoding":
		return 16
	case "accept-language":
		return 17
	case "accept":
		return 19
	case "age":
		return 21
	case "authorization":
		return 23
	case "cache-control":
		return 24
	case "content-disposition":
		return 25
	case "content-encoding":
		return 26
	case "content-language":
		return 27
	case "content-length":
		return 28
	case "content-location":
		return 29
	case "content-range":
		return 30
	case "content-type":
		return 31
	case "cookie":
		return 32
	case "date":
		return 33
	case "etag":
		return 34
	case "expires":
		return 36
	case "host":
		return 38
	case "if-match":
		return 39
	case "if-modified-since":
		return 40
	case "if-none-match":
		return 41
	case "last-modified":
		return 44
	case "link":
		return 45
	case "location":
		return 46
	case "proxy-authorization":
		return 49
	case "range":
		return 50
	case "referer":
		return 51
	case "server":
		return 54
	case "set-cookie":
		return 55
	case "user-agent":
		return 58
	case "vary":
		return 59
	case "via":
		return 60
	}
	return 0
}
