package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// style is how a query is written.
type style int

const (
	withEDNS style = iota // with an OPT record that allows answers of ednsSize
	plain                 // as in 1987, for servers that refuse the former
)

// ednsSize is the largest answer over UDP that is asked for, in bytes: it fits every path without fragments (DNS flag day 2020).
const ednsSize = 1232

var (
	errNotOurs = errors.New("the packet answers another question")
	errNoEDNS  = errors.New("the server does not understand the query")
)

// answer is what one message says about one question. No addresses, no records and no error: there are none.
type answer struct {
	addrs     []netip.Addr
	records   []record // of SRV and SVCB
	ttl       time.Duration
	truncated bool // the rest is to be asked over TCP
}

// has reports whether there is what kind asks for.
func (a *answer) has(kind dnsmessage.Type) bool {
	if kind == dnsmessage.TypeA || kind == dnsmessage.TypeAAAA {
		return len(a.addrs) > 0
	}
	return len(a.records) > 0
}

func pack(id uint16, q dnsmessage.Question, s style) ([]byte, error) {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: id, RecursionDesired: true})
	b.EnableCompression()
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	if err := b.Question(q); err != nil {
		return nil, err
	}
	if s == withEDNS {
		if err := b.StartAdditionals(); err != nil {
			return nil, err
		}
		var h dnsmessage.ResourceHeader
		if err := h.SetEDNS0(ednsSize, dnsmessage.RCodeSuccess, false); err != nil {
			return nil, err
		}
		if err := b.OPTResource(h, dnsmessage.OPTResource{}); err != nil {
			return nil, err
		}
	}
	return b.Finish()
}

// parse reads the answer to q. errNotOurs means that the packet should be ignored.
func parse(msg []byte, id uint16, q dnsmessage.Question) (answer, error) {
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil || h.ID != id || !h.Response {
		return answer{}, errNotOurs
	}
	got, err := p.Question()
	switch {
	case err == dnsmessage.ErrSectionDone && (h.RCode == dnsmessage.RCodeFormatError || h.RCode == dnsmessage.RCodeNotImplemented):
		return answer{}, errNoEDNS // such a refusal need not repeat the question
	case err != nil || got.Type != q.Type || got.Class != q.Class || !strings.EqualFold(got.Name.String(), q.Name.String()):
		return answer{}, errNotOurs
	}
	if err := p.SkipAllQuestions(); err != nil {
		return answer{}, broken(err)
	}
	switch h.RCode {
	case dnsmessage.RCodeSuccess, dnsmessage.RCodeNameError:
	case dnsmessage.RCodeFormatError, dnsmessage.RCodeNotImplemented:
		return answer{}, errNoEDNS
	default:
		return answer{}, fmt.Errorf("the server says %s", strings.TrimPrefix(h.RCode.String(), "RCode"))
	}
	if h.Truncated {
		return answer{truncated: true}, nil
	}
	return parseSections(&p, h, q)
}

func parseSections(p *dnsmessage.Parser, h dnsmessage.Header, q dnsmessage.Question) (answer, error) {
	recs, err := parseAnswers(p)
	if err != nil {
		return answer{}, broken(err)
	}
	if h.RCode == dnsmessage.RCodeSuccess {
		if a := recs.follow(q.Name); a.has(q.Type) {
			return a, nil
		}
		if !h.Authoritative && !h.RecursionAvailable && recs.empty() {
			return answer{}, errors.New("the server does not resolve for us")
		}
	}
	ttl, err := negativeTTL(p)
	if err != nil {
		return answer{}, broken(err)
	}
	return answer{ttl: ttl}, nil
}

func broken(err error) error { return fmt.Errorf("broken answer: %w", err) }

// records are those of the answer section, by owner in lower case.
type records struct {
	aliases map[string]alias
	found   map[string]answer
}

type alias struct {
	target string
	ttl    time.Duration
}

func (r *records) empty() bool { return len(r.aliases) == 0 && len(r.found) == 0 }

func parseAnswers(p *dnsmessage.Parser) (*records, error) {
	recs := &records{aliases: make(map[string]alias), found: make(map[string]answer)}
	for {
		h, err := p.AnswerHeader()
		if err == dnsmessage.ErrSectionDone {
			return recs, nil
		}
		if err == nil {
			err = recs.add(p, h)
		}
		if err != nil {
			return nil, err
		}
	}
}

func (r *records) add(p *dnsmessage.Parser, h dnsmessage.ResourceHeader) error {
	if h.Class != dnsmessage.ClassINET {
		return p.SkipAnswer()
	}
	owner, ttl := strings.ToLower(h.Name.String()), seconds(h.TTL)
	switch h.Type {
	case dnsmessage.TypeCNAME:
		c, err := p.CNAMEResource()
		if err != nil {
			return err
		}
		r.aliases[owner] = alias{target: strings.ToLower(c.CNAME.String()), ttl: ttl}
	case dnsmessage.TypeA:
		a, err := p.AResource()
		if err != nil {
			return err
		}
		r.note(owner, ttl, func(f *answer) { f.addrs = append(f.addrs, netip.AddrFrom4(a.A)) })
	case dnsmessage.TypeAAAA:
		a, err := p.AAAAResource()
		if err != nil {
			return err
		}
		r.note(owner, ttl, func(f *answer) { f.addrs = append(f.addrs, netip.AddrFrom16(a.AAAA).Unmap()) })
	case dnsmessage.TypeSRV:
		v, err := p.SRVResource()
		if err != nil {
			return err
		}
		r.note(owner, ttl, func(f *answer) { f.records = append(f.records, fromSRV(v)) })
	case dnsmessage.TypeSVCB:
		v, err := p.SVCBResource()
		if err != nil {
			return err
		}
		if rec, ok := fromSVCB(owner, v); ok {
			r.note(owner, ttl, func(f *answer) { f.records = append(f.records, rec) })
		}
	default:
		return p.SkipAnswer()
	}
	return nil
}

// note adds a record to what owner has.
func (r *records) note(owner string, ttl time.Duration, add func(*answer)) {
	a, ok := r.found[owner]
	if !ok || ttl < a.ttl {
		a.ttl = ttl
	}
	add(&a)
	r.found[owner] = a
}

// follow goes from name along the aliases to what was asked for. The TTL is the shortest on the way.
func (r *records) follow(name dnsmessage.Name) answer {
	const most = 16 // aliases in a row
	at, ttl := strings.ToLower(name.String()), time.Duration(-1)
	for range most {
		if a, ok := r.found[at]; ok {
			if ttl >= 0 {
				a.ttl = min(a.ttl, ttl)
			}
			return a
		}
		next, ok := r.aliases[at]
		if !ok {
			break
		}
		if ttl < 0 || next.ttl < ttl {
			ttl = next.ttl
		}
		at = next.target
	}
	return answer{}
}

// negativeTTL reads how long the absence of an answer may be believed: "the minimum of the MINIMUM field of the
// SOA record and the TTL of the SOA itself" (RFC 2308 section 5). 0 if there is no SOA.
func negativeTTL(p *dnsmessage.Parser) (time.Duration, error) {
	for {
		h, err := p.AuthorityHeader()
		if err == dnsmessage.ErrSectionDone {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		if h.Type != dnsmessage.TypeSOA {
			if err := p.SkipAuthority(); err != nil {
				return 0, err
			}
			continue
		}
		soa, err := p.SOAResource()
		if err != nil {
			return 0, err
		}
		return min(seconds(h.TTL), seconds(soa.MinTTL)), nil
	}
}

// seconds reads a TTL. "a TTL value is […] treated as if the entire value received was zero" when its
// top bit is set (RFC 2181 section 8).
func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}
