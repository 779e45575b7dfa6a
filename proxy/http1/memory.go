package http1

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Memory is what the codec has learned from the heads of one shard: lines that recur, with what they mean. Heads are nearly always made by the
// same few programs, so that a line is likely to be, byte for byte, one that stood at this place of a head before. To compare it costs less than to read or to
// check it, and what was found equal needs neither.
//
// A nil Memory remembers nothing. All methods are for tasks of the shard.
type Memory struct {
	s       task.Shard
	heads   place             // whole heads that were read
	read    [remembered]place // by the number of the line; the first one is that of the start line
	written [remembered]place // by the number of the field
}

const (
	remembered = 24      // lines of a head of which there is a memory
	maxLine    = 512     // bytes of a line that is remembered
	maxWhole   = 1 << 10 // bytes of a whole head that is remembered
	patience   = 64      // lines that must have been new at a full place before one is replaced
)

// NewMemory returns a Memory for what tasks of s read and write.
func NewMemory(s task.Shard) *Memory { return &Memory{s: s} }

// place is what is known of the lines at one place of a head: the last two that recurred.
type place struct {
	lines [2]atomic.Pointer[line]

	// Guarded by the shard's lock.
	print  uint32 // of the last line that was not known
	misses uint8  // lines that were not known since one was remembered; it stops at patience
}

// line is a line that was read and accepted, or written, in memory of its own that nobody writes to. It is constant.
type line struct {
	text        string // with its CRLF
	name, value string // of a field: parts of text
	names       proxy.Names
	kind        lineKind
	length      int64 // if kind is lengthLine

	// Of a start line.
	method, target, reason string
	status                 int
	version                proxy.Version

	whole *wholeHead // if it is not a line but a head
}

// wholeHead is what reading a head has given, beside what is in its line. Its strings are parts of lines. It is constant.
type wholeHead struct {
	fields            proxy.Fields
	parsed            head // without options
	scheme, authority string
}

// lineKind says what has to be done about a field beside passing it on.
type lineKind uint8

const (
	inert      lineKind = iota // nothing
	hostLine                   // a Host with a valid value
	lengthLine                 // a Content-Length of one number
	regulated                  // head.note knows; such lines are read only
)

// reading and writing return the place of the nth line, nil if there is none.
func (m *Memory) reading(n int) *place {
	if m == nil || n >= remembered {
		return nil
	}
	return &m.read[n]
}

func (m *Memory) writing(n int) *place {
	if m == nil || n >= remembered {
		return nil
	}
	return &m.written[n]
}

// begins returns the line that b begins with, or nil.
func (p *place) begins(b []byte) *line {
	if p == nil {
		return nil
	}
	for i := range p.lines {
		if l := p.lines[i].Load(); l != nil && len(b) >= len(l.text) && string(b[:len(l.text)]) == l.text {
			return l
		}
	}
	return nil
}

// field returns the line that says f, or nil.
func (p *place) field(f *proxy.Field) *line {
	if p == nil {
		return nil
	}
	for i := range p.lines {
		if l := p.lines[i].Load(); l != nil && l.value == f.Value && l.name == f.Name {
			return l
		}
	}
	return nil
}

// recurs reports whether the line with this fingerprint, which is not known, is to be remembered: one that comes twice in a row among those. Lines that never
// are the same, and those that take turns, so cost no memory. The caller holds the lock.
func (p *place) recurs(print uint32) bool {
	p.misses = min(p.misses+1, patience)
	if p.print != print {
		p.print = print
		return false
	}
	if p.lines[1].Load() != nil && p.misses < patience {
		return false
	}
	p.misses = 0
	return true
}

func (p *place) add(l *line) {
	p.lines[1].Store(p.lines[0].Load())
	p.lines[0].Store(l)
}

// fingerprint tells most lines apart; to mistake one for another costs no more than the memory of one line.
func fingerprint(b []byte) uint32 {
	const odd = 0x9e3779b97f4a7c15
	h := uint64(len(b)) * odd
	if len(b) < 8 {
		for _, c := range b {
			h = (h ^ uint64(c)) * odd
		}
		return uint32(h >> 32)
	}
	for i := range 5 { // eight bytes of every quarter
		h = (h ^ binary.LittleEndian.Uint64(b[(len(b)-8)*i/4:])) * odd
	}
	return uint32(h >> 32)
}

// learnStart remembers a start line, raw without its line end, if it recurs. l, of which a copy is made, has what it means.
func (m *Memory) learnStart(raw []byte, l line) {
	if m == nil || len(raw) > maxLine {
		return
	}
	p := &m.read[0]
	m.s.Lock()
	defer m.s.Unlock()
	if p.recurs(fingerprint(raw)) {
		kept := l
		kept.text = string(raw) + "\r\n"
		kept.method, kept.target, kept.reason = strings.Clone(l.method), strings.Clone(l.target), strings.Clone(l.reason)
		p.add(&kept)
	}
}

// learnField remembers a valid line of a field, raw without its line end, that was read at p.
func (m *Memory) learnField(p *place, raw []byte) {
	if p == nil || len(raw) > maxLine {
		return
	}
	m.s.Lock()
	defer m.s.Unlock()
	if p.recurs(fingerprint(raw)) {
		if l := newField(string(raw) + "\r\n"); !proxy.Secret(l.name) {
			p.add(l)
		}
	}
}

// learnWritten remembers a field that was written at p. What had to be changed for that is not remembered.
func (m *Memory) learnWritten(p *place, f *proxy.Field) {
	if p == nil || len(f.Name)+len(f.Value) > maxLine {
		return
	}
	m.s.Lock()
	defer m.s.Unlock()
	if !p.recurs(fingerprint(bytesOf(f.Value))^uint32(len(f.Name))) || !safeField(f) || proxy.Secret(f.Name) {
		return
	}
	l := newField(f.Name + ": " + f.Value + "\r\n")
	if l.value == f.Value && l.kind != regulated && (l.kind != lengthLine || l.value == strconv.FormatInt(l.length, 10)) {
		p.add(l)
	}
}

// newField says what a valid line means.
func newField(text string) *line {
	l := &line{text: text}
	raw := text[:len(text)-2]
	colon := strings.IndexByte(raw, ':')
	l.name, l.value = raw[:colon], strings.Trim(raw[colon+1:], " \t")
	l.names = proxy.NamesOf(l.name)
	switch {
	case foldEqual(l.name, "host") && validAuthority(l.value):
		l.kind = hostLine
	case isLength(l.name):
		l.kind = regulated
		if n, ok := parseLength(l.value); ok {
			l.kind, l.length = lengthLine, n
		}
	case concernsUs(l.name):
		l.kind = regulated
	}
	return l
}

// learnWhole remembers a head of which all lines are in memory. start, of which a copy is made, has what it means.
func (m *Memory) learnWhole(raw []byte, start line, h *head, fields proxy.Fields, scheme, authority string) {
	p := &m.heads
	if len(raw) > maxWhole || len(h.options) > 0 {
		return
	}
	m.s.Lock()
	defer m.s.Unlock()
	if !p.recurs(fingerprint(raw)) {
		return
	}
	l := start
	l.text = string(raw)
	l.whole = &wholeHead{fields: slices.Clone(fields), parsed: *h, scheme: scheme, authority: authority}
	l.whole.parsed.options = nil
	p.add(&l)
}

// takeWhole makes fields and h those of a head in memory.
func (h *head) takeWhole(w *wholeHead, fields *proxy.Fields) {
	options := h.options[:0]
	*h = w.parsed
	h.options = options
	*fields = append((*fields)[:0], w.fields...)
}

// recall reads the head that b begins with, without a copy, if it has all of its lines in memory: it returns the start line and the length of the head, or nil.
func (m *Memory) recall(b []byte, most int, fields *proxy.Fields, h *head) (start *line, end int) {
	if m == nil {
		return nil, 0
	}
	if start = m.read[0].begins(b); start == nil {
		return nil, 0
	}
	h.reset()
	fs := (*fields)[:0]
	b = b[:min(len(b), most)]
	at := len(start.text)
	for i := 1; i < remembered && len(b) >= at+2; i++ {
		if b[at] == '\r' && b[at+1] == '\n' {
			*fields = fs
			h.removeOptions(fields)
			return start, at + 2
		}
		l := m.read[i].begins(b[at:])
		if l == nil {
			return nil, 0
		}
		at += len(l.text)
		if l.kind == inert {
			h.names |= l.names
			fs = append(fs, proxy.Field{Name: l.name, Value: l.value})
			continue
		}
		var err *badMessage
		if fs, err = h.take(l, fs); err != nil {
			return nil, 0
		}
	}
	return nil, 0
}

// take adds a line that is in memory to the head.
func (h *head) take(l *line, fs proxy.Fields) (proxy.Fields, *badMessage) {
	value, keep := l.value, true
	var err *badMessage
	switch {
	case l.kind == hostLine && h.hosts == 0:
		h.hosts, h.host, h.valid = 1, value, true
	case l.kind == lengthLine && h.lengths == 0:
		h.lengths, h.length = 1, l.length
	case l.kind != inert:
		keep, err = h.note(l.name, &value)
	}
	if keep {
		h.names |= l.names
		fs = append(fs, proxy.Field{Name: l.name, Value: value})
	}
	return fs, err
}
