package dns

import (
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	ttl       = 5    // seconds that our answers, and their absence, may be kept
	plainSize = 512  // bytes of an answer over UDP without EDNS, RFC 1035 section 4.2.1
	ourSize   = 1232 // bytes that we take over UDP: DNS flag day 2020
	headSize  = 12   // bytes of every message's head
)

// Types and codes that dnsmessage has no name for.
const (
	typeIXFR        = dnsmessage.Type(251)
	badVersion      = dnsmessage.RCode(16) // RFC 6891 section 9
	lastPlainRCode  = 15
	opCodeQuery     = dnsmessage.OpCode(0)
	questionsWanted = 1
)

// query is one question, as it came.
type query struct {
	raw  []byte
	head dnsmessage.Header
	q    dnsmessage.Question
	edns bool
	// size is what its sender takes over UDP, in bytes.
	size    int
	version byte // of EDNS
}

// parse reads a query. ok is false for what deserves no answer; code says what is wrong with what does.
func parse(raw []byte) (q query, code dnsmessage.RCode, ok bool) {
	q = query{raw: raw, size: plainSize}
	var p dnsmessage.Parser
	var err error
	if q.head, err = p.Start(raw); err != nil || q.head.Response {
		return q, 0, false
	}
	if q.head.OpCode != opCodeQuery {
		return q, dnsmessage.RCodeNotImplemented, true
	}
	all, err := p.AllQuestions()
	if err != nil || len(all) != questionsWanted {
		return q, dnsmessage.RCodeFormatError, true
	}
	q.q = all[0]
	if p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil || !q.readOPT(&p) {
		return q, dnsmessage.RCodeFormatError, true
	}
	switch {
	case q.q.Class != dnsmessage.ClassINET:
		return q, dnsmessage.RCodeNotImplemented, true
	case q.q.Type == dnsmessage.TypeAXFR || q.q.Type == typeIXFR:
		return q, dnsmessage.RCodeRefused, true // an answer of many messages
	case q.version > 0:
		return q, badVersion, true
	}
	return q, dnsmessage.RCodeSuccess, true
}

// readOPT looks for EDNS among the additional records, and reports whether they make sense.
func (q *query) readOPT(p *dnsmessage.Parser) bool {
	for {
		h, err := p.AdditionalHeader()
		if err == dnsmessage.ErrSectionDone {
			return true
		}
		if err != nil {
			return false
		}
		if h.Type == dnsmessage.TypeOPT {
			if q.edns { // RFC 6891 section 6.1.1: "If a query message with more than one OPT RR is received, a FORMERR (RCODE=1) MUST be returned."
				return false
			}
			// The class is the size, and the second byte of the TTL the version.
			q.edns, q.size, q.version = true, max(int(h.Class), plainSize), byte(h.TTL>>16)
		}
		if p.SkipAdditional() != nil {
			return false
		}
	}
}

// local answers q if it is ours; ok is false if it is to be passed on.
func (t *names) local(q *query) (answer []byte, ok bool) {
	kind, n := t.find(q.q.Name.String())
	switch kind {
	case foreign:
		return nil, false
	case absent:
		return reply(q, dnsmessage.RCodeNameError, t.soa(q)), true
	}
	if rs := t.records(q, kind, n); len(rs) > 0 {
		return reply(q, dnsmessage.RCodeSuccess, nil, rs...), true
	}
	return reply(q, dnsmessage.RCodeSuccess, t.soa(q)), true
}

// records are the answers to q; none means that the name has no such record.
func (t *names) records(q *query, kind kind, n Name) []dnsmessage.Resource {
	wants := func(t dnsmessage.Type) bool { return q.q.Type == t || q.q.Type == dnsmessage.TypeALL }
	record := func(body dnsmessage.ResourceBody) []dnsmessage.Resource {
		return []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.q.Name, Class: dnsmessage.ClassINET, TTL: ttl}, Body: body}}
	}
	switch {
	case !n.Addr.IsValid():
	case kind == service && wants(dnsmessage.TypeA):
		return record(&dnsmessage.AResource{A: n.Addr.Addr().As4()})
	case kind == srv && wants(dnsmessage.TypeSRV):
		if target, ok := t.target(q, n); ok {
			return record(&dnsmessage.SRVResource{Port: n.Addr.Port(), Target: target})
		}
	case kind == pointer && wants(dnsmessage.TypePTR):
		if target, err := dnsmessage.NewName(n.Service + t.suffix + "."); err == nil {
			return record(&dnsmessage.PTRResource{PTR: target})
		}
	}
	return nil
}

// target is the name of n as q writes it: below the suffix if q is.
func (t *names) target(q *query, n Name) (dnsmessage.Name, bool) {
	full := n.Service + "."
	if t.suffix != "" && strings.HasSuffix(strings.ToLower(q.q.Name.String()), t.suffix+".") {
		full = n.Service + t.suffix + "."
	}
	name, err := dnsmessage.NewName(full)
	return name, err == nil
}

// soa says how long the absence of an answer may be kept: RFC 2308 section 3.
func (t *names) soa(q *query) *dnsmessage.Resource {
	owner := q.q.Name
	if zone, err := dnsmessage.NewName(t.suffix[min(1, len(t.suffix)):] + "."); err == nil && t.suffix != "" &&
		strings.HasSuffix("."+strings.ToLower(owner.String()), t.suffix+".") {
		owner = zone
	}
	return &dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: owner, Class: dnsmessage.ClassINET, TTL: ttl},
		Body:   &dnsmessage.SOAResource{NS: owner, MBox: owner, Serial: 1, Refresh: ttl, Retry: ttl, Expire: ttl, MinTTL: ttl},
	}
}

// reply writes an answer of our own.
func reply(q *query, code dnsmessage.RCode, soa *dnsmessage.Resource, answers ...dnsmessage.Resource) []byte {
	m := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: q.head.ID, Response: true, OpCode: q.head.OpCode, Authoritative: code == dnsmessage.RCodeSuccess || code == dnsmessage.RCodeNameError,
			RecursionDesired: q.head.RecursionDesired, RecursionAvailable: true, RCode: code & lastPlainRCode,
		},
		Answers: answers,
	}
	if q.q.Name.Length > 0 {
		m.Questions = []dnsmessage.Question{q.q}
	}
	if soa != nil {
		m.Authorities = []dnsmessage.Resource{*soa}
	}
	q.addOPT(&m, code)
	out, err := m.Pack()
	if err != nil {
		return nil // a name of the query that cannot be written
	}
	return out
}

// addOPT answers EDNS with EDNS: RFC 6891 section 6.1.1.
func (q *query) addOPT(m *dnsmessage.Message, code dnsmessage.RCode) {
	if !q.edns {
		return
	}
	var h dnsmessage.ResourceHeader
	if h.SetEDNS0(ourSize, code, false) == nil {
		m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
	}
}

// truncate is answer, which came for q, without what does not fit: "TrunCation - specifies that this message was truncated" (RFC 1035
// section 4.1.1). The client asks again over TCP.
func truncate(q *query, answer []byte) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(answer)
	if err != nil {
		return nil
	}
	h.Truncated = true
	m := dnsmessage.Message{Header: h, Questions: []dnsmessage.Question{q.q}}
	q.addOPT(&m, dnsmessage.RCodeSuccess)
	out, err := m.Pack()
	if err != nil {
		return nil
	}
	return out
}
