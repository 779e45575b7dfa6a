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

// answer is what one message says about one question. No addresses and no error: there are none.
type answer struct {
	addrs     []netip.Addr
	ttl       time.Duration
	truncated bool // the rest is to be asked over TCP
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
		if a := recs.follow(q.Name); len(a.addrs) > 0 {
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
	addrs   map[string]answer
}

type alias struct {
	target string
	ttl    time.Duration
}

func (r *records) empty() bool { return len(r.aliases) == 0 && len(r.addrs) == 0 }

func parseAnswers(p *dnsmessage.Parser) (*records, error) {
	recs := &records{aliases: make(map[string]alias), addrs: make(map[string]answer)}
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
		r.addAddr(owner, netip.AddrFrom4(a.A), ttl)
	case dnsmessage.TypeAAAA:
		a, err := p.AAAAResource()
		if err != nil {
			return err
		}
		r.addAddr(owner, netip.AddrFrom16(a.AAAA).Unmap(), ttl)
	default:
		return p.SkipAnswer()
	}
	return nil
}

func (r *records) addAddr(owner string, addr netip.Addr, ttl time.Duration) {
	a, ok := r.addrs[owner]
	if !ok || ttl < a.ttl {
		a.ttl = ttl
	}
	a.addrs = append(a.addrs, addr)
	r.addrs[owner] = a
}

// follow goes from name along the aliases to its addresses. The TTL is the shortest on the way.
func (r *records) follow(name dnsmessage.Name) answer {
	const most = 16 // aliases in a row
	at, ttl := strings.ToLower(name.String()), time.Duration(-1)
	for range most {
		if a, ok := r.addrs[at]; ok {
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
