// Package dnscache keeps the answers of DNS servers that pass through a Flow, for as long as they say, and gives them to who asks the same. It knows messages only: who sends
// them is the caller's matter (listeners/udp).
//
// What is asked is the key: name, type and class, the flags RD, AD and CD, and what EDNS adds (RFC 6891): whether there is any, DO, and each option but cookies (RFC 7873),
// which are of one client and are taken out of what is kept, and padding. So answers for one client subnet (RFC 7871) are for that one.
//
// Kept are answers without an error for the least of their TTLs, and those that a name, or a type of it, is not there for as long as the SOA record among them says
// (RFC 2308 section 5). Never kept is what is truncated, says nothing of its time, is no plain question, or transfers a zone. What is given has the id and the letters of its
// question, and TTLs that have counted down.
package dnscache

import (
	"encoding/binary"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/net/dns/dnsmessage"
)

const (
	maxTTL      = 24 * time.Hour
	maxNegative = 3 * time.Hour // RFC 2308 section 5: "Values of one to three hours have been found to work well"
	overhead    = 256           // of an answer, in bytes
	headerSize  = 12
	plainSize   = 512 // what who says nothing takes; RFC 1035 section 4.2.1
	// unbounded is the number of entries of the list: it is the bytes that bound it.
	unbounded = 1 << 30
)

// DefaultMax bounds a Cache, in bytes.
const DefaultMax = 4 << 20

// Cache keeps answers. It is safe for concurrent use, and never waits.
type Cache struct {
	max          int
	hits, misses atomic.Uint64

	mu   sync.Mutex // never held over a wait
	lru  *simplelru.LRU[string, *answer]
	used int
}

// answer is immutable.
type answer struct {
	message []byte
	ttls    []int // where they are
	came    time.Duration
	until   time.Duration
}

// New returns an empty Cache of max bytes; zero means DefaultMax.
func New(max int) *Cache {
	if max == 0 {
		max = DefaultMax
	}
	c := &Cache{max: max}
	var err error
	if c.lru, err = simplelru.NewLRU(unbounded, func(key string, a *answer) { c.used -= cost(key, a) }); err != nil {
		panic(err) // cannot happen: the size is positive
	}
	return c
}

func cost(key string, a *answer) int { return overhead + len(key) + len(a.message) + 8*len(a.ttls) }

// Stats is what a Cache has done.
type Stats struct {
	Hits, Misses uint64
	Entries      int
	Bytes        int
}

// Stats returns what there is.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{Hits: c.hits.Load(), Misses: c.misses.Load(), Entries: c.lru.Len(), Bytes: c.used}
}

// Question is what is asked by a message. The zero value is none that is answered from a Cache.
type Question struct {
	key  string
	name []byte // the question section, as it was written
	id   [2]byte
	size int // what its sender takes, in bytes
}

// Known reports whether q is a question that may be answered from a Cache.
func (q *Question) Known() bool { return q.key != "" }

// Ask reads a query.
func Ask(query []byte) (q Question) {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil || h.Response || h.OpCode != 0 || h.Truncated || len(query) < headerSize ||
		binary.BigEndian.Uint16(query[4:]) != 1 || binary.BigEndian.Uint32(query[6:]) != 0 || binary.BigEndian.Uint16(query[10:]) > 1 {
		return q
	}
	asked, err := p.Question()
	if err != nil || asked.Class != dnsmessage.ClassINET || p.SkipAllQuestions() != nil {
		return q
	}
	switch asked.Type {
	case dnsmessage.TypeALL, dnsmessage.TypeAXFR, 251: // IXFR
		return q
	}
	end := headerSize + nameLength(query[headerSize:]) + 4
	if end > len(query) || end == headerSize+4 {
		return q
	}
	var b strings.Builder
	b.Write([]byte{query[2], query[3] & 0x30}) // RD; AD, CD
	b.WriteString(lower(query[headerSize:end]))
	size := plainSize
	if binary.BigEndian.Uint16(query[10:]) == 1 {
		rh, err := additional(&p)
		if err != nil || rh.Type != dnsmessage.TypeOPT {
			return q // signed, say
		}
		opt, err := p.OPTResource()
		if err != nil {
			return q
		}
		size = max(plainSize, int(rh.Class))
		b.WriteByte(1)
		var rest [4]byte
		binary.BigEndian.PutUint32(rest[:], rh.TTL) // version and flags, of which DO is one
		b.Write(rest[:])
		for _, o := range opt.Options {
			if o.Code == optCookie || o.Code == optPadding {
				continue
			}
			b.Write(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, o.Code), uint16(len(o.Data))))
			b.Write(o.Data)
		}
	}
	return Question{key: b.String(), name: query[headerSize:end], id: [2]byte(query[:2]), size: size}
}

const (
	optCookie  = 10 // RFC 7873
	optPadding = 12 // RFC 7830
)

func additional(p *dnsmessage.Parser) (h dnsmessage.ResourceHeader, err error) {
	if err = p.SkipAllAnswers(); err == nil {
		if err = p.SkipAllAuthorities(); err == nil {
			h, err = p.AdditionalHeader()
		}
	}
	return h, err
}

// lower is a question in lower case: names compare without case, and no other byte of one is a letter but by chance, which makes two keys of one at worst.
func lower(p []byte) string {
	b := []byte(string(p))
	for i := range b[:len(b)-4] {
		if b[i] >= 'A' && b[i] <= 'Z' {
			b[i] |= 0x20
		}
	}
	return string(b)
}

// nameLength is the length of a name that is not compressed; 0 if it is none.
func nameLength(p []byte) int {
	for i := 0; i < len(p); i += int(p[i]) + 1 {
		switch {
		case p[i] == 0:
			return i + 1
		case p[i] > 63:
			return 0
		}
	}
	return 0
}

// Keep returns a copy of q that does not point into the query: it may be used after it.
func (q *Question) Keep() Question {
	k := *q
	k.name = append([]byte(nil), q.name...)
	return k
}

// ID is the id of the query.
func (q *Question) ID() [2]byte { return q.id }

// Answer appends the answer to q to p, which is empty, if there is one and it fits. now is a monotonic time.
func (c *Cache) Answer(q *Question, now time.Duration, p []byte) ([]byte, bool) {
	if !q.Known() {
		return p, false
	}
	c.mu.Lock()
	a, ok := c.lru.Get(q.key)
	if ok && now >= a.until {
		c.lru.Remove(q.key)
		ok = false
	}
	c.mu.Unlock()
	if !ok || len(a.message) > q.size || len(a.message) > cap(p)-len(p) {
		c.misses.Add(1)
		return p, false
	}
	c.hits.Add(1)
	p = append(p, a.message...)
	copy(p, q.id[:])
	copy(p[headerSize:], q.name)
	past := uint32((now - a.came) / time.Second)
	for _, at := range a.ttls {
		ttl := binary.BigEndian.Uint32(p[at:])
		binary.BigEndian.PutUint32(p[at:], ttl-min(ttl, past))
	}
	return p, true
}

// Learn keeps an answer to q, if it may be kept.
func (c *Cache) Learn(q *Question, now time.Duration, message []byte) {
	a := judge(q, message)
	if a == nil {
		return
	}
	a.came, a.until = now, now+a.until
	c.mu.Lock()
	defer c.mu.Unlock()
	if cost(q.key, a) > c.max/4 {
		return
	}
	c.lru.Remove(q.key)
	c.lru.Add(q.key, a)
	c.used += cost(q.key, a)
	for c.used > c.max {
		c.lru.RemoveOldest()
	}
}

// judge makes what is kept of an answer; nil if it may not be kept. until is for how long.
func judge(q *Question, message []byte) *answer {
	var p dnsmessage.Parser
	h, err := p.Start(message)
	end := headerSize + len(q.name)
	if !q.Known() || err != nil || !h.Response || h.OpCode != 0 || h.Truncated || h.RCode != dnsmessage.RCodeSuccess && h.RCode != dnsmessage.RCodeNameError ||
		[2]byte(message[:2]) != q.id || binary.BigEndian.Uint16(message[4:]) != 1 || len(message) < end || lower(message[headerSize:end]) != lower(q.name) {
		return nil
	}
	if !whole(message) {
		return nil
	}
	records, ok := walk(message, end)
	if !ok {
		return nil
	}
	kind := binary.BigEndian.Uint16(q.name[len(q.name)-4:])
	answered := false
	least, negative := maxTTL, time.Duration(-1)
	a := &answer{message: append([]byte(nil), message...)}
	for i, r := range records {
		if r.kind == uint16(dnsmessage.TypeOPT) {
			if i != len(records)-1 || r.ttl>>16 != 0 { // an extended error, or another version
				return nil
			}
			a.message = withoutCookie(a.message, r)
			continue
		}
		ttl := time.Duration(r.ttl) * time.Second
		if r.ttl > 1<<31-1 {
			ttl = 0 // RFC 2181 section 8: "treat TTL values received with the most significant bit set as if the entire value received was zero"
		}
		least = min(least, ttl)
		a.ttls = append(a.ttls, r.at)
		switch {
		case r.section == inAnswers && r.kind == kind:
			answered = true
		case r.section == inAuthority && r.kind == uint16(dnsmessage.TypeSOA) && r.end-r.data >= 20:
			// RFC 2308 section 5: the TTL of a negative answer is "the minimum of the MINIMUM field of the SOA record and the TTL of the SOA itself".
			negative = min(ttl, time.Duration(binary.BigEndian.Uint32(message[r.end-4:]))*time.Second, maxNegative)
		}
	}
	if h.RCode == dnsmessage.RCodeNameError || !answered {
		if negative < 0 {
			return nil
		}
		least = min(least, negative)
	}
	if least <= 0 {
		return nil
	}
	a.until = least
	return a
}

// whole reports whether the names and lengths of a message hold together.
func whole(message []byte) bool {
	var p dnsmessage.Parser
	_, err := p.Start(message)
	if err == nil {
		err = p.SkipAllQuestions()
	}
	if err == nil {
		err = p.SkipAllAnswers()
	}
	if err == nil {
		err = p.SkipAllAuthorities()
	}
	if err == nil {
		err = p.SkipAllAdditionals()
	}
	return err == nil
}

type section int

const (
	inAnswers section = iota
	inAuthority
	inAdditional
)

// record is one of a message.
type record struct {
	section       section
	kind          uint16
	ttl           uint32
	at, data, end int // of its TTL, of what it holds, and of what follows it
	start         int
}

// walk lists the records that begin at an offset. It is false unless they fill the message.
func walk(m []byte, at int) (all []record, ok bool) {
	for s := inAnswers; s <= inAdditional; s++ {
		for range binary.BigEndian.Uint16(m[6+2*int(s):]) {
			r := record{section: s, start: at}
			for at < len(m) && m[at] != 0 && m[at] < 0xc0 {
				at += int(m[at]) + 1
			}
			if at < len(m) && m[at] >= 0xc0 {
				at++
			}
			at++
			if at+10 > len(m) {
				return nil, false
			}
			r.kind, r.at, r.ttl, r.data = binary.BigEndian.Uint16(m[at:]), at+4, binary.BigEndian.Uint32(m[at+4:]), at+10
			r.end = r.data + int(binary.BigEndian.Uint16(m[at+8:]))
			if r.end > len(m) {
				return nil, false
			}
			at = r.end
			all = append(all, r)
		}
	}
	return all, at == len(m)
}

// withoutCookie takes the cookie out of the OPT record at the end of a message.
func withoutCookie(m []byte, opt record) []byte {
	kept := append([]byte(nil), m[:opt.data]...)
	for rest := m[opt.data:opt.end]; len(rest) >= 4; {
		n := 4 + int(binary.BigEndian.Uint16(rest[2:]))
		if n > len(rest) {
			break
		}
		if binary.BigEndian.Uint16(rest) != optCookie {
			kept = append(kept, rest[:n]...)
		}
		rest = rest[n:]
	}
	binary.BigEndian.PutUint16(kept[opt.data-2:], uint16(len(kept)-opt.data))
	return kept
}
