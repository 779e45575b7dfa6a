package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/proxy"
)

func header(name string, ttl uint32) dnsmessage.ResourceHeader {
	return dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: ttl}
}

// srv makes an SRV record; what is "priority weight port target".
func srv(name, what string, ttl uint32) dnsmessage.Resource {
	r := new(dnsmessage.SRVResource)
	var target string
	if _, err := fmt.Sscan(what, &r.Priority, &r.Weight, &r.Port, &target); err != nil {
		panic(err)
	}
	r.Target = dnsmessage.MustNewName(target)
	return dnsmessage.Resource{Header: header(name, ttl), Body: r}
}

func svcb(name string, priority uint16, target string, params ...dnsmessage.SVCParam) dnsmessage.Resource {
	return dnsmessage.Resource{Header: header(name, 60), Body: &dnsmessage.SVCBResource{Priority: priority, Target: dnsmessage.MustNewName(target), Params: params}}
}

// world answers with the records of each name and type; NODATA where a name has others, NXDOMAIN where it has none, and silence or
// SERVFAIL where broken says so.
type world struct {
	records map[string][]dnsmessage.Resource
	broken  map[string]bool
}

func (w world) say(_, name string, kind dnsmessage.Type) reply {
	if w.broken[strings.ToLower(name)] {
		return reply{code: dnsmessage.RCodeServerFailure}
	}
	all, ok := w.records[strings.ToLower(name)]
	if !ok {
		return reply{code: dnsmessage.RCodeNameError, soaTTL: 60}
	}
	var r reply
	for _, x := range all {
		if strings.HasPrefix(fmt.Sprintf("%T", x.Body), "*dnsmessage."+strings.TrimPrefix(kind.String(), "Type")+"Resource") {
			r.records = append(r.records, x)
		}
	}
	return r
}

const owner = "_http._tcp.orders.example."

func srvConfig(t *testing.T, kind Kind, s *server) Config {
	c := config(t, s)
	c.Name, c.Kind = owner, kind
	return c
}

// describe writes a set with what the records say.
func describe(set []proxy.Endpoint) string {
	var all []string
	for _, e := range discovery.Normal(set) {
		all = append(all, fmt.Sprintf("%v/%d/%d", e.Addr, e.Priority, e.Weight))
	}
	return strings.Join(all, " ")
}

// once looks up once, with a watch of its own.
func once(t *testing.T, c Config) (got string, sent bool, l listing) {
	t.Helper()
	r := resolver(t, c)
	w := recordsWatch{watch: watch{Resolver: r, update: func(set []proxy.Endpoint) { got, sent = describe(set), true }}, targets: make(map[string]*target)}
	l = r.list(t.Context())
	w.take(l, time.Now())
	return got, sent, l
}

func TestSRV(t *testing.T) {
	a1, a2, a6 := host("a.example.", "10.0.0.1", 50), host("b.example.", "10.0.0.2", 40), host("b.example.", "2001:db8::2", 40)
	for _, c := range []struct {
		name    string
		records []dnsmessage.Resource
		port    uint16
		want    string
		ttl     time.Duration
	}{
		{"one", []dnsmessage.Resource{srv(owner, "0 0 8080 a.example.", 30)}, 0, "10.0.0.1:8080/0/1", 30 * time.Second},
		{"priority and weight", []dnsmessage.Resource{srv(owner, "10 60 8080 A.example.", 30), srv(owner, "20 5 9090 a.example.", 60)}, 0,
			"10.0.0.1:8080/10/60 10.0.0.1:9090/20/5", 30 * time.Second},
		{"two addresses share a weight", []dnsmessage.Resource{srv(owner, "1 10 80 a.example.", 30), srv(owner, "1 10 80 b.example.", 30)}, 0,
			"10.0.0.1:80/1/20 10.0.0.2:80/1/10 [2001:db8::2]:80/1/10", 30 * time.Second},
		{"the configuration's port", []dnsmessage.Resource{srv(owner, "0 0 8080 a.example.", 30)}, 15008, "10.0.0.1:15008/0/1", 30 * time.Second},
		{"the same twice", []dnsmessage.Resource{srv(owner, "20 1 80 a.example.", 30), srv(owner, "10 2 80 a.example.", 30)}, 0, "10.0.0.1:80/10/2", 30 * time.Second},
		{"an alias", []dnsmessage.Resource{cname(owner, "elsewhere.example.", 20), srv("elsewhere.example.", "0 7 80 a.example.", 30)}, 0, "10.0.0.1:80/0/7", 20 * time.Second},
		{"not available", []dnsmessage.Resource{srv(owner, "0 0 0 .", 30)}, 0, "", 30 * time.Second},
		{"a host without an address", []dnsmessage.Resource{srv(owner, "0 0 80 nowhere.example.", 30), srv(owner, "0 0 80 a.example.", 30)}, 0, "10.0.0.1:80/0/1", 30 * time.Second},
	} {
		s := newServer(t, func(network, name string, kind dnsmessage.Type) reply {
			if kind == dnsmessage.TypeSRV && strings.EqualFold(name, owner) {
				return reply{records: c.records}
			}
			return world{records: map[string][]dnsmessage.Resource{"a.example.": {a1}, "b.example.": {a2, a6}}}.say(network, name, kind)
		})
		conf := srvConfig(t, SRV, s)
		conf.Port = c.port
		got, sent, l := once(t, conf)
		if got != c.want || !sent || l.found.ttl != c.ttl {
			t.Errorf("%s: %q with TTL %v, sent %v; want %q with %v", c.name, got, l.found.ttl, sent, c.want, c.ttl)
		}
	}
}

func TestSRVOverTCP(t *testing.T) {
	var many []dnsmessage.Resource
	for i := range 100 {
		many = append(many, srv(owner, fmt.Sprintf("0 1 %d a.example.", 1000+i), 60))
	}
	s := newServer(t, func(network, name string, kind dnsmessage.Type) reply {
		switch {
		case kind == dnsmessage.TypeSRV && network == "udp":
			return reply{records: many[:3], truncated: true}
		case kind == dnsmessage.TypeSRV:
			return reply{records: many}
		}
		return zone(60, map[string][]string{"a.example.": {"10.0.0.1"}})(network, name, kind)
	})
	got, _, l := once(t, srvConfig(t, SRV, s))
	if n := len(strings.Fields(got)); n != 100 || l.problem() != nil {
		t.Errorf("%d endpoints, %v; want 100 over TCP", n, l.problem())
	}
	if q := s.questions(); !slices.Contains(q, "tcp "+owner+" SRV") || len(q) != 4 {
		t.Errorf("asked %q; want SRV again over TCP, and the host once", q)
	}
}

func TestSVCB(t *testing.T) {
	port := dnsmessage.SVCParam{Key: dnsmessage.SVCParamPort, Value: []byte{0x1f, 0x90}}
	hint := dnsmessage.SVCParam{Key: dnsmessage.SVCParamIPv4Hint, Value: []byte{10, 9, 9, 9}}
	mandatory := func(key byte) dnsmessage.SVCParam {
		return dnsmessage.SVCParam{Key: dnsmessage.SVCParamMandatory, Value: []byte{0, key}}
	}
	a := host("a.example.", "10.0.0.1", 60)
	for _, c := range []struct {
		name   string
		world  world
		want   string
		failed bool
	}{
		{"port and host", world{records: map[string][]dnsmessage.Resource{owner: {svcb(owner, 1, "a.example.", port)}, "a.example.": {a}}}, "10.0.0.1:8080/1/1", false},
		{"no port", world{records: map[string][]dnsmessage.Resource{owner: {svcb(owner, 1, "a.example.")}, "a.example.": {a}}}, "10.0.0.1:15008/1/1", false},
		{"the owner's own addresses", world{records: map[string][]dnsmessage.Resource{owner: {svcb(owner, 2, ".", port), host(owner, "10.0.0.5", 60)}}}, "10.0.0.5:8080/2/1", false},
		{"an alias", world{records: map[string][]dnsmessage.Resource{owner: {svcb(owner, 0, "b.example.")}, "b.example.": {svcb("b.example.", 3, "a.example.", port)}, "a.example.": {a}}}, "10.0.0.1:8080/3/1", false},
		{"not available", world{records: map[string][]dnsmessage.Resource{owner: {svcb(owner, 0, ".")}}}, "", false},
		{"hints are for when the host cannot be asked", world{records: map[string][]dnsmessage.Resource{owner: {svcb(owner, 1, "a.example.", port, hint)}, "a.example.": {a}}}, "10.0.0.1:8080/1/1", false},
		{"and then they are used", world{records: map[string][]dnsmessage.Resource{owner: {svcb(owner, 1, "a.example.", port, hint)}}, broken: map[string]bool{"a.example.": true}}, "10.9.9.9:8080/1/1", true},
		{"what it depends on is known", world{records: map[string][]dnsmessage.Resource{owner: {svcb(owner, 1, "a.example.", mandatory(3), port)}, "a.example.": {a}}}, "10.0.0.1:8080/1/1", false},
		{"what one depends on is not known", world{records: map[string][]dnsmessage.Resource{owner: {svcb(owner, 1, "a.example.", mandatory(99)), svcb(owner, 2, "a.example.", port)}, "a.example.": {a}}}, "10.0.0.1:8080/2/1", false},
	} {
		s := newServer(t, c.world.say)
		got, sent, l := once(t, srvConfig(t, SVCB, s))
		if got != c.want || !sent || (l.problem() != nil) != c.failed {
			t.Errorf("%s: %q, sent %v, %v; want %q", c.name, got, sent, l.problem(), c.want)
		}
	}
	loop := world{records: map[string][]dnsmessage.Resource{owner: {svcb(owner, 0, "b.example.")}, "b.example.": {svcb("b.example.", 0, owner)}}}
	if _, sent, l := once(t, srvConfig(t, SVCB, newServer(t, loop.say))); sent || l.problem() == nil {
		t.Errorf("aliases in a circle: sent %v, %v; want an error", sent, l.problem())
	}
}

// A watch of SRV records goes on with the last good ones through every fault, record by record and host by host.
func TestSRVSurvivesFaults(t *testing.T) {
	names := func(broken ...string) world {
		w := world{
			records: map[string][]dnsmessage.Resource{
				owner:        {srv(owner, "0 1 80 a.example.", 0), srv(owner, "0 1 80 b.example.", 0)},
				"a.example.": {host("a.example.", "10.0.0.1", 0)},
				"b.example.": {host("b.example.", "10.0.0.2", 0)},
			},
			broken: make(map[string]bool),
		}
		for _, b := range broken {
			w.broken[b] = true
		}
		return w
	}
	s := newServer(t, names(owner).say)
	f := follow(t, srvConfig(t, SRV, s))
	f.expect(t, "ServerFailure") // and nothing is sent
	s.change(names("b.example.").say)
	f.expect(t, "ServerFailure", "10.0.0.1:80") // what is known is used
	s.change(names().say)
	both := "10.0.0.1:80 10.0.0.2:80"
	f.expect(t, "", "10.0.0.1:80", both)
	for _, w := range []world{names("a.example."), names("a.example.", "b.example."), names(owner)} {
		s.change(w.say)
		f.expect(t, "ServerFailure", "10.0.0.1:80", both)
	}
	// A host that is gone for a moment stays; one that is gone leaves, and one that no record names goes at once.
	gone := names()
	delete(gone.records, "a.example.")
	s.change(gone.say)
	f.expectLast(t, "10.0.0.2:80")
	s.change(names().say)
	f.expectLast(t, both)
	one := names()
	one.records[owner] = one.records[owner][1:]
	s.change(one.say)
	f.expectLast(t, "10.0.0.2:80")
	none := names()
	delete(none.records, owner)
	s.change(none.say)
	f.expectLast(t, "")
	s.change(names().say)
	f.expectLast(t, both)
}

// "No such name" of a host is believed when it has lasted, as that of the records is.
func TestSRVGrace(t *testing.T) {
	c := config(t)
	c.Name, c.Kind, c.Grace = owner, SRV, 30*time.Second
	var sets []string
	w := recordsWatch{watch: watch{Resolver: resolver(t, c), update: func(set []proxy.Endpoint) { sets = append(sets, describe(set)) }}, targets: make(map[string]*target)}
	now := time.Now()
	some := result{{addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}, {err: errNone}}
	none := result{{err: errNone}, {err: errNone}}
	records := found{records: []record{{target: "a.", port: 80}}}
	at := func(d int, l listing) { w.take(l, now.Add(time.Duration(d)*time.Second)) }
	at(0, listing{records, map[string]result{"a.": some}})
	for d := 1; d < 31; d++ {
		at(d, listing{records, map[string]result{"a.": none}})
	}
	if got := strings.Join(sets, ","); got != "10.0.0.1:80/0/1" {
		t.Errorf("host without addresses, before the grace is over: %q", got)
	}
	at(31, listing{records, map[string]result{"a.": none}})
	if got := strings.Join(sets, ","); got != "10.0.0.1:80/0/1," {
		t.Errorf("host without addresses, after the grace: %q, want none", got)
	}
	sets = nil
	at(40, listing{records, map[string]result{"a.": some}})
	for d := 41; d < 71; d++ {
		at(d, listing{found: found{err: errNone}})
	}
	if got := strings.Join(sets, ","); got != "10.0.0.1:80/0/1" {
		t.Errorf("no records, before the grace is over: %q", got)
	}
	at(71, listing{found: found{err: errNone}})
	if got := strings.Join(sets, ","); got != "10.0.0.1:80/0/1," {
		t.Errorf("no records, after the grace: %q, want none", got)
	}
	at(80, listing{records, map[string]result{"a.": some}})
	sets = nil
	at(81, listing{found: found{records: []record{{target: "."}}}})
	if fmt.Sprintf("%q", sets) != `[""]` {
		t.Errorf("decidedly not available: %q, want none at once", sets)
	}
}
