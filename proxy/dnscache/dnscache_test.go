package dnscache

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// query makes a question. Options are of EDNS; without any there is no OPT record unless size says how much is taken.
type query struct {
	id      uint16
	name    string
	kind    dnsmessage.Type
	rd, cd  bool
	size    int
	do      bool
	options []dnsmessage.Option
}

func (q query) bytes() []byte {
	if q.kind == 0 {
		q.kind = dnsmessage.TypeA
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: q.id, RecursionDesired: q.rd, CheckingDisabled: q.cd},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(q.name), Type: q.kind, Class: dnsmessage.ClassINET}}}
	if q.size > 0 {
		m.Additionals = append(m.Additionals, opt(q.size, q.do, q.options...))
	}
	return pack(m)
}

func opt(size int, do bool, options ...dnsmessage.Option) dnsmessage.Resource {
	var h dnsmessage.ResourceHeader
	if err := h.SetEDNS0(size, dnsmessage.RCodeSuccess, do); err != nil {
		panic(err)
	}
	return dnsmessage.Resource{Header: h, Body: &dnsmessage.OPTResource{Options: options}}
}

func pack(m dnsmessage.Message) []byte {
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

func addr(name string, ttl uint32) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: ttl}, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}}}
}

func soa(ttl, minimum uint32) dnsmessage.Resource {
	n := dnsmessage.MustNewName("example.test.")
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: n, Class: dnsmessage.ClassINET, TTL: ttl}, Body: &dnsmessage.SOAResource{NS: n, MBox: n, MinTTL: minimum}}
}

// reply makes an answer to q.
func reply(q query, change func(m *dnsmessage.Message)) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(q.bytes()); err != nil {
		panic(err)
	}
	m.Response, m.Additionals = true, nil
	if q.size > 0 {
		m.Additionals = append(m.Additionals, opt(1232, q.do))
	}
	change(&m)
	return pack(m)
}

func answered(ttl uint32) func(m *dnsmessage.Message) {
	return func(m *dnsmessage.Message) { m.Answers = append(m.Answers, addr("a.example.test.", ttl)) }
}

// through asks a cache, and lets it learn what comes if it does not know.
func through(c *Cache, q query, now time.Duration, change func(m *dnsmessage.Message)) ([]byte, bool) {
	asked := Ask(q.bytes())
	p, ok := c.Answer(&asked, now, make([]byte, 0, 4096))
	if !ok {
		p = reply(q, change)
		c.Learn(&asked, now, p)
	}
	return p, ok
}

func TestAnswersAreKeptForTheirTTL(t *testing.T) {
	c := New(0)
	q := query{id: 1, name: "a.example.test.", rd: true}
	two := func(m *dnsmessage.Message) {
		m.Answers = append(m.Answers, addr("a.example.test.", 30), addr("a.example.test.", 100))
	}
	if _, ok := through(c, q, time.Second, two); ok {
		t.Fatal("an answer from nothing")
	}
	q.id, q.name = 77, "A.eXample.test."
	p, ok := through(c, q, 11*time.Second+500*time.Millisecond, two)
	var m dnsmessage.Message
	if err := m.Unpack(p); err != nil || !ok {
		t.Fatalf("%v, %v", ok, err)
	}
	if m.ID != 77 || m.Questions[0].Name.String() != "A.eXample.test." || m.Answers[0].Header.TTL != 20 || m.Answers[1].Header.TTL != 90 {
		t.Errorf("%+v", m)
	}
	if _, ok := through(c, q, 30*time.Second+999*time.Millisecond, two); !ok {
		t.Error("a second before its end it is gone")
	}
	if _, ok := through(c, q, 31*time.Second, two); ok {
		t.Error("it is there after its end")
	}
}

// What is asked otherwise is another question.
func TestKeys(t *testing.T) {
	subnet := func(last byte) dnsmessage.Option {
		return dnsmessage.Option{Code: 8, Data: []byte{0, 1, 24, 0, 192, 0, last}}
	}
	base := query{name: "a.example.test."}
	all := []query{base, {name: "b.example.test."}, {name: base.name, kind: dnsmessage.TypeAAAA}, {name: base.name, rd: true}, {name: base.name, cd: true}, {name: base.name, size: 1232},
		{name: base.name, size: 1232, do: true}, {name: base.name, size: 1232, options: []dnsmessage.Option{subnet(2)}}, {name: base.name, size: 1232, options: []dnsmessage.Option{subnet(3)}},
		{name: base.name, size: 1232, options: []dnsmessage.Option{{Code: 3}}}}
	c := New(0)
	both := func(m *dnsmessage.Message) {
		answered(60)(m)
		six := addr("a.example.test.", 60)
		six.Body = &dnsmessage.AAAAResource{}
		m.Answers = append(m.Answers, six)
	}
	for _, q := range all {
		if _, ok := through(c, q, 1, both); ok {
			t.Errorf("%+v is answered with what another asked for", q)
		}
	}
	for _, q := range all {
		if _, ok := through(c, q, 1, both); !ok {
			t.Errorf("%+v is not answered", q)
		}
	}
	cookie := query{name: base.name, size: 4096, options: []dnsmessage.Option{{Code: optCookie, Data: []byte("12345678")}, {Code: optPadding, Data: make([]byte, 9)}}}
	if _, ok := through(c, cookie, 1, both); !ok {
		t.Error("cookie, padding and size are no part of the question")
	}
}

// A cookie is for one client.
func TestCookiesAreNotKept(t *testing.T) {
	c := New(0)
	q := query{name: "a.example.test.", size: 1232, options: []dnsmessage.Option{{Code: optCookie, Data: []byte("12345678")}}}
	with := func(m *dnsmessage.Message) {
		answered(60)(m)
		m.Additionals = []dnsmessage.Resource{opt(1232, false, dnsmessage.Option{Code: 3, Data: []byte("ns1")}, dnsmessage.Option{Code: optCookie, Data: []byte("12345678abcdefgh")})}
	}
	through(c, q, 1, with)
	p, ok := through(c, q, 1, with)
	var m dnsmessage.Message
	if err := m.Unpack(p); err != nil || !ok {
		t.Fatalf("%v, %v", ok, err)
	}
	options := m.Additionals[0].Body.(*dnsmessage.OPTResource).Options
	if len(options) != 1 || string(options[0].Data) != "ns1" {
		t.Errorf("options %v", options)
	}
}

func TestWhatIsKept(t *testing.T) {
	type change = func(m *dnsmessage.Message)
	and := func(all ...change) change {
		return func(m *dnsmessage.Message) {
			for _, f := range all {
				f(m)
			}
		}
	}
	code := func(r dnsmessage.RCode) change { return func(m *dnsmessage.Message) { m.RCode = r } }
	authority := func(r dnsmessage.Resource) change {
		return func(m *dnsmessage.Message) { m.Authorities = append(m.Authorities, r) }
	}
	cname := func(m *dnsmessage.Message) {
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("a.example.test."), Class: dnsmessage.ClassINET, TTL: 50},
			Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("c.example.test.")}})
	}
	for i, x := range []struct {
		change change
		kept   time.Duration
	}{
		{answered(60), 60 * time.Second},
		{answered(0), 0},
		{answered(1 << 31), 0},
		{answered(1 << 30), maxTTL},
		{and(answered(60), func(m *dnsmessage.Message) { m.Truncated = true }), 0},
		{and(answered(60), func(m *dnsmessage.Message) { m.Response = false }), 0},
		{and(answered(60), func(m *dnsmessage.Message) { m.ID = 9 }), 0},
		{and(answered(60), func(m *dnsmessage.Message) { m.Questions[0].Name = dnsmessage.MustNewName("b.example.test.") }), 0},
		{and(answered(60), func(m *dnsmessage.Message) { m.Questions[0].Type = dnsmessage.TypeAAAA }), 0},
		{and(answered(60), func(m *dnsmessage.Message) { m.Questions = nil }), 0},
		{and(answered(60), code(dnsmessage.RCodeServerFailure)), 0},
		{and(answered(60), code(dnsmessage.RCodeRefused)), 0},
		{and(answered(60), authority(addr("ns.example.test.", 20))), 20 * time.Second},
		{and(code(dnsmessage.RCodeNameError), authority(soa(100, 40))), 40 * time.Second},
		{and(code(dnsmessage.RCodeNameError), authority(soa(30, 40))), 30 * time.Second},
		{and(code(dnsmessage.RCodeNameError), authority(soa(1<<20, 1<<20))), maxNegative},
		{code(dnsmessage.RCodeNameError), 0},
		{and(code(dnsmessage.RCodeNameError), authority(soa(30, 0))), 0},
		{authority(soa(100, 40)), 40 * time.Second},
		{authority(addr("ns.example.test.", 20)), 0},
		{func(*dnsmessage.Message) {}, 0},
		{cname, 0},
		{and(cname, answered(70)), 50 * time.Second},
		{and(cname, authority(soa(100, 40))), 40 * time.Second},
		{and(cname, code(dnsmessage.RCodeNameError), authority(soa(100, 90))), 50 * time.Second},
		{and(answered(60), func(m *dnsmessage.Message) {
			o := opt(1232, false)
			o.Header.TTL |= 1 << 24 // an extended error
			m.Additionals = []dnsmessage.Resource{o}
		}), 0},
	} {
		c := New(0)
		q := query{id: 1, name: "a.example.test."}
		through(c, q, time.Second, x.change)
		asked := Ask(q.bytes())
		room := make([]byte, 0, 4096)
		_, atEnd := c.Answer(&asked, time.Second+x.kept-1, room)
		_, after := c.Answer(&asked, time.Second+x.kept, room)
		if atEnd != (x.kept > 0) || after {
			t.Errorf("case %d: kept before %v: %v, at it: %v", i, x.kept, atEnd, after)
		}
	}
}

// Who takes less than what is kept asks by itself.
func TestSizes(t *testing.T) {
	c := New(0)
	many := func(m *dnsmessage.Message) {
		for range 60 {
			m.Answers = append(m.Answers, addr("a.example.test.", 60))
		}
	}
	big := query{name: "a.example.test.", size: 4096}
	through(c, big, 1, many)
	if _, ok := through(c, big, 1, many); !ok {
		t.Error("who takes it does not get it")
	}
	big.size = 600
	if _, ok := through(c, big, 1, many); ok {
		t.Error("who takes less gets it")
	}
}

func TestBound(t *testing.T) {
	c := New(10_000)
	for i := range 1000 {
		through(c, query{name: fmt.Sprintf("n%d.example.test.", i)}, 1, answered(60))
	}
	st := c.Stats()
	if st.Bytes > 10_000 || st.Entries == 0 || st.Entries > 40 {
		t.Errorf("%+v", st)
	}
	if _, ok := through(c, query{name: "n999.example.test."}, 1, answered(60)); !ok {
		t.Error("the last is not there")
	}
}

func TestWhatIsNoQuestion(t *testing.T) {
	good := query{name: "a.example.test.", size: 1232}.bytes()
	if q := Ask(good); !q.Known() {
		t.Fatal("a question is none")
	}
	for i := range good {
		if q := Ask(good[:i]); q.Known() {
			t.Errorf("the first %d bytes are a question", i)
		}
	}
	for _, kind := range []dnsmessage.Type{dnsmessage.TypeALL, dnsmessage.TypeAXFR, 251} {
		if q := Ask(query{name: "a.example.test.", kind: kind}.bytes()); q.Known() {
			t.Errorf("%v is a question", kind)
		}
	}
	update := bytes.Clone(good)
	update[2] |= 5 << 3
	if q := Ask(update); q.Known() {
		t.Error("an update is a question")
	}
}

// FuzzLearn: whatever a server says, what is given for it is a message of the same length or less, or nothing.
func FuzzLearn(f *testing.F) {
	q := query{id: 1, name: "a.example.test.", size: 1232}
	f.Add(q.bytes(), reply(q, answered(60)))
	f.Add(q.bytes(), reply(q, func(m *dnsmessage.Message) {
		m.RCode, m.Authorities = dnsmessage.RCodeNameError, []dnsmessage.Resource{soa(9, 9)}
	}))
	f.Fuzz(func(t *testing.T, asked, message []byte) {
		c := New(0)
		q := Ask(asked)
		c.Learn(&q, 1, message)
		got, ok := c.Answer(&q, 2, make([]byte, 0, 65535))
		if !ok {
			return
		}
		var m dnsmessage.Parser
		if h, err := m.Start(got); err != nil || !h.Response || len(got) > len(message) {
			t.Errorf("%x became %x: %v", message, got, err)
		}
	})
}
