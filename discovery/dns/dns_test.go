package dns

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/proxy"
)

// config asks s for billing.example with times short enough for a test.
func config(t *testing.T, s ...*server) Config {
	t.Helper()
	c := Config{
		Name: "billing.example", Defaults: discovery.Defaults{Port: 15008},
		ResolvConf: file(t, "options timeout:1 attempts:1\n"), Hosts: file(t, ""),
		MinTTL: 5 * time.Millisecond, MaxTTL: 20 * time.Millisecond, Grace: 60 * time.Millisecond,
	}
	for _, s := range s {
		c.Servers = append(c.Servers, s.addr)
	}
	return c
}

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func resolver(t *testing.T, c Config) *Resolver {
	t.Helper()
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// addrs is everything in a result, as text.
func addrs(r result) string {
	var all []string
	for _, f := range r {
		for _, a := range f.addrs {
			all = append(all, a.String())
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestLookup(t *testing.T) {
	hosts := map[string][]string{
		"billing.example.":         {"10.0.0.1", "10.0.0.2", "2001:db8::1"},
		"billing.svc.example.org.": {"10.0.1.1"},
		"six.example.":             {"2001:db8::6"},
	}
	s := newServer(t, zone(60, hosts))
	for _, c := range []struct {
		name, resolv, hosts, want string
		questions                 int
	}{
		{"billing.example", "", "", "10.0.0.1 10.0.0.2 2001:db8::1", 2},
		{"billing.example.", "", "", "10.0.0.1 10.0.0.2 2001:db8::1", 2},
		{"BILLING.Example", "", "", "10.0.0.1 10.0.0.2 2001:db8::1", 2},
		{"six.example", "", "", "2001:db8::6", 2},
		{"none.example", "", "", "", 2},
		{"billing", "search a.example svc.example.org\n", "", "10.0.1.1", 4},
		{"billing.svc", "search a.example example.org\n", "", "10.0.1.1", 6},
		{"billing.svc", "search a.example example.org\noptions ndots:5\n", "", "10.0.1.1", 4},
		{"billing", "search a.example\n", "", "", 4},
		{"billing.example", "", "10.9.9.9 other billing.example\n::9 billing.example\n", "10.9.9.9 ::9", 0},
		{"10.0.0.7", "", "", "10.0.0.7", 0},
	} {
		conf := config(t, s)
		conf.Name, conf.ResolvConf, conf.Hosts = c.name, file(t, c.resolv), file(t, c.hosts)
		before := len(s.questions())
		res := resolver(t, conf).lookup(t.Context())
		if got := addrs(res); got != c.want || res.failed() {
			t.Errorf("lookup %s with %q and %q = %q, %v; want %q", c.name, c.resolv, c.hosts, got, res.err(), c.want)
		}
		if got := len(s.questions()) - before; got != c.questions {
			t.Errorf("lookup %s with %q asked %d questions, want %d: %q", c.name, c.resolv, got, c.questions, s.questions()[before:])
		}
	}
}

func TestAliases(t *testing.T) {
	s := newServer(t, func(_, name string, kind dnsmessage.Type) reply {
		switch {
		case kind == dnsmessage.TypeAAAA:
			return reply{records: []dnsmessage.Resource{cname(name, "a.example.", 7), cname("a.example.", name, 7)}} // a loop
		default:
			return reply{records: []dnsmessage.Resource{
				cname("b.example.", "C.example.", 5), cname(name, "B.example.", 100), host("c.example.", "10.0.0.3", 50),
				host("unrelated.example.", "10.6.6.6", 1),
			}}
		}
	})
	res := resolver(t, config(t, s)).lookup(t.Context())
	if addrs(res) != "10.0.0.3" || res.ttl() != 5*time.Second {
		t.Errorf("lookup through aliases = %q with TTL %v; want 10.0.0.3 with 5 s", addrs(res), res.ttl())
	}
}

func TestTruncated(t *testing.T) {
	var many []string
	for i := range 300 {
		many = append(many, fmt.Sprintf("10.0.%d.%d", i/200, i%200))
	}
	whole := zone(60, map[string][]string{"billing.example.": many})
	s := newServer(t, func(network, name string, kind dnsmessage.Type) reply {
		r := whole(network, name, kind)
		if r.truncated = kind == dnsmessage.TypeA; r.truncated && network == "udp" {
			r.records = r.records[:3]
		}
		return r
	})
	res := resolver(t, config(t, s)).lookup(t.Context())
	if len(res[ipv4].addrs) != 300 || res.failed() {
		t.Errorf("%d addresses, %v; want 300 over TCP", len(res[ipv4].addrs), res.err())
	}
	if q := s.questions(); !slices.Contains(q, "tcp billing.example. A") || len(q) != 3 {
		t.Errorf("asked %q; want A again over TCP", q)
	}
}

func TestOnlyTCP(t *testing.T) {
	s := newServer(t, zone(60, map[string][]string{"billing.example.": {"10.0.0.1"}}))
	c := config(t, s)
	c.ResolvConf = file(t, "options use-vc\n")
	if res := resolver(t, c).lookup(t.Context()); addrs(res) != "10.0.0.1" {
		t.Errorf("lookup = %q, %v", addrs(res), res.err())
	}
	for _, q := range s.questions() {
		if !strings.HasPrefix(q, "tcp ") {
			t.Errorf("asked %q in spite of use-vc", q)
		}
	}
}

func TestFailures(t *testing.T) {
	good := zone(60, map[string][]string{"billing.example.": {"10.0.0.1"}})
	always := func(r reply) func(string, string, dnsmessage.Type) reply {
		return func(string, string, dnsmessage.Type) reply { return r }
	}
	for _, c := range []struct {
		name string
		say  func(network, name string, kind dnsmessage.Type) reply
		want string
	}{
		{"SERVFAIL", always(reply{code: dnsmessage.RCodeServerFailure}), "the server says ServerFailure"},
		{"REFUSED", always(reply{code: dnsmessage.RCodeRefused}), "the server says Refused"},
		{"silence", always(reply{silent: true}), "no answer within 1s"},
		{"lame", always(reply{lame: true}), "does not resolve for us"},
		{"FORMERR to everything", always(reply{code: dnsmessage.RCodeFormatError}), "does not understand"},
		{"truncated for ever", func(network, name string, kind dnsmessage.Type) reply {
			return reply{truncated: true, silent: network == "tcp"}
		}, "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bad := newServer(t, c.say)
			res := resolver(t, config(t, bad)).lookup(t.Context())
			if !res.dead() || !strings.Contains(res.err().Error(), c.want) || !strings.Contains(res.err().Error(), "resolve billing.example: ask 127.0.0.1:") {
				t.Errorf("alone: %v; want %q", res.err(), c.want)
			}
			if res := resolver(t, config(t, bad, newServer(t, good))).lookup(t.Context()); addrs(res) != "10.0.0.1" || res.failed() {
				t.Errorf("with a second server: %q, %v; want 10.0.0.1", addrs(res), res.err())
			}
		})
	}
}

// The error is the same each time, so that it is logged once.
func TestNobodyListens(t *testing.T) {
	s := newServer(t, nil)
	c := config(t, s)
	s.pc.Close()
	s.ln.Close()
	first, second := resolver(t, c).lookup(t.Context()).err(), resolver(t, c).lookup(t.Context()).err()
	want := "resolve billing.example: ask " + s.addr.String() + " for A: read: connection refused"
	if first == nil || first.Error() != want || second == nil || second.Error() != want {
		t.Errorf("lookups = %v and %v; want %q twice", first, second, want)
	}
}

// A failure is not "no such name": the walk through the search list ends.
func TestFailureEndsSearch(t *testing.T) {
	s := newServer(t, func(_, name string, _ dnsmessage.Type) reply {
		if strings.Contains(name, ".first.") {
			return reply{code: dnsmessage.RCodeServerFailure}
		}
		return reply{records: []dnsmessage.Resource{host(name, "10.6.6.6", 60)}}
	})
	c := config(t, s)
	c.Name, c.ResolvConf = "billing", file(t, "search first.example second.example\n")
	if res := resolver(t, c).lookup(t.Context()); !res.dead() || addrs(res) != "" {
		t.Errorf("lookup = %q, %v; want a failure", addrs(res), res.err())
	}
}

func TestServerWithoutEDNS(t *testing.T) {
	s := newServer(t, zone(60, map[string][]string{"billing.example.": {"10.0.0.1"}}))
	s.mu.Lock()
	s.noEDNS = true
	s.mu.Unlock()
	if res := resolver(t, config(t, s)).lookup(t.Context()); addrs(res) != "10.0.0.1" || res.failed() {
		t.Errorf("lookup = %q, %v", addrs(res), res.err())
	}
}

// Packets that answer something else are ignored, whoever sent them.
func TestForgedPackets(t *testing.T) {
	q := dnsmessage.Question{Name: dnsmessage.MustNewName("billing.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	forge := func(m dnsmessage.Message) []byte {
		out, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	evil := []dnsmessage.Resource{host("billing.example.", "10.6.6.6", 60)}
	other := q
	other.Name = dnsmessage.MustNewName("other.example.")
	for name, garbage := range map[string][]byte{
		"noise":            []byte("hello"),
		"empty":            {},
		"another ID":       forge(dnsmessage.Message{Header: dnsmessage.Header{ID: 0, Response: true}, Questions: []dnsmessage.Question{q}, Answers: evil}),
		"another question": forge(dnsmessage.Message{Header: dnsmessage.Header{ID: 1, Response: true}, Questions: []dnsmessage.Question{other}, Answers: evil}),
	} {
		s := newServer(t, func(_, name string, kind dnsmessage.Type) reply {
			r := zone(60, map[string][]string{"billing.example.": {"10.0.0.1"}})("", name, kind)
			r.garbage = garbage
			return r
		})
		if res := resolver(t, config(t, s)).lookup(t.Context()); addrs(res) != "10.0.0.1" || res.failed() {
			t.Errorf("%s first: %q, %v; want the true answer", name, addrs(res), res.err())
		}
	}
	for name, m := range map[string]dnsmessage.Message{
		"a query":          {Header: dnsmessage.Header{ID: 1}, Questions: []dnsmessage.Question{q}},
		"another question": {Header: dnsmessage.Header{ID: 1, Response: true}, Questions: []dnsmessage.Question{other}, Answers: evil},
		"another ID":       {Header: dnsmessage.Header{ID: 2, Response: true}, Questions: []dnsmessage.Question{q}, Answers: evil},
	} {
		if a, err := parse(forge(m), 1, q); !errors.Is(err, errNotOurs) {
			t.Errorf("parse of %s = %+v, %v; want errNotOurs", name, a, err)
		}
	}
}

// follower runs Watch and keeps what it says.
type follower struct {
	mu   sync.Mutex
	sets []string
	err  error
}

func follow(t *testing.T, c Config) *follower {
	t.Helper()
	r := resolver(t, c)
	f := &follower{}
	ctx, cancel := context.WithCancel(discovery.WithReport(context.Background(), func(err error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.err = err
	}))
	done := make(chan error, 1)
	go func() { done <- r.Watch(ctx, proxy.Service{Name: "billing"}, f.update) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Watch = %v, want the context's error", err)
			}
		case <-time.After(5 * time.Second):
			t.Error("Watch did not end with its context")
		}
	})
	return f
}

func (f *follower) update(set []proxy.Endpoint) {
	var all []string
	for i := range set {
		all = append(all, set[i].String())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sets = append(f.sets, strings.Join(all, " "))
}

// expect waits for the sets so far to be want, and for the error to contain wantErr ("" for none).
func (f *follower) expect(t *testing.T, wantErr string, want ...string) {
	t.Helper()
	var sets []string
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		f.mu.Lock()
		sets, err = slices.Clone(f.sets), f.err
		f.mu.Unlock()
		if slices.Equal(sets, want) && (err == nil) == (wantErr == "") && (err == nil || strings.Contains(err.Error(), wantErr)) {
			return
		}
	}
	t.Fatalf("updates %q, error %v; want %q, %q", sets, err, want, wantErr)
}

// expectLast waits for the last set to be want. Others may come before it: a name that changes between the question for
// IPv4 and the one for IPv6 has half an answer for a while.
func (f *follower) expectLast(t *testing.T, want string) {
	t.Helper()
	var sets []string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		f.mu.Lock()
		sets = slices.Clone(f.sets)
		f.mu.Unlock()
		if len(sets) > 0 && sets[len(sets)-1] == want {
			return
		}
	}
	t.Fatalf("updates %q, want %q to be the last", sets, want)
}

func TestWatchFollows(t *testing.T) {
	s := newServer(t, zone(0, map[string][]string{"billing.example.": {"10.0.0.1"}}))
	f := follow(t, config(t, s))
	f.expect(t, "", "10.0.0.1:15008")
	// A server rotates its answers: that is no change.
	s.change(func(_, name string, kind dnsmessage.Type) reply {
		if kind == dnsmessage.TypeAAAA {
			return reply{}
		}
		r := reply{records: []dnsmessage.Resource{host(name, "10.0.0.1", 0), host(name, "10.0.0.2", 0), host(name, "10.0.0.3", 0)}}
		rand.Shuffle(3, func(i, j int) { r.records[i], r.records[j] = r.records[j], r.records[i] })
		return r
	})
	f.expect(t, "", "10.0.0.1:15008", "10.0.0.1:15008 10.0.0.2:15008 10.0.0.3:15008")
	time.Sleep(100 * time.Millisecond)
	s.change(zone(0, map[string][]string{"billing.example.": {"10.0.0.2", "2001:db8::1"}}))
	f.expectLast(t, "10.0.0.2:15008 [2001:db8::1]:15008")
}

func TestWatchSurvivesFailures(t *testing.T) {
	hosts := zone(0, map[string][]string{"billing.example.": {"10.0.0.1", "2001:db8::1"}})
	s := newServer(t, func(string, string, dnsmessage.Type) reply { return reply{code: dnsmessage.RCodeServerFailure} })
	f := follow(t, config(t, s))
	f.expect(t, "ServerFailure")
	s.change(hosts)
	f.expect(t, "", "10.0.0.1:15008 [2001:db8::1]:15008")
	s.change(func(string, string, dnsmessage.Type) reply { return reply{code: dnsmessage.RCodeServerFailure} })
	f.expect(t, "ServerFailure", "10.0.0.1:15008 [2001:db8::1]:15008")
	time.Sleep(100 * time.Millisecond) // longer than the grace for NXDOMAIN
	f.expect(t, "ServerFailure", "10.0.0.1:15008 [2001:db8::1]:15008")
	// Only A works again, with another answer: the last good AAAA stays.
	s.change(func(network, name string, kind dnsmessage.Type) reply {
		if kind == dnsmessage.TypeAAAA {
			return reply{code: dnsmessage.RCodeServerFailure}
		}
		return reply{records: []dnsmessage.Resource{host(name, "10.0.0.2", 0)}}
	})
	f.expect(t, "AAAA: the server says", "10.0.0.1:15008 [2001:db8::1]:15008", "10.0.0.2:15008 [2001:db8::1]:15008")
	s.change(hosts)
	f.expect(t, "", "10.0.0.1:15008 [2001:db8::1]:15008", "10.0.0.2:15008 [2001:db8::1]:15008", "10.0.0.1:15008 [2001:db8::1]:15008")
}

func TestNoSuchName(t *testing.T) {
	none := zone(0, nil)
	some := zone(0, map[string][]string{"billing.example.": {"10.0.0.1"}})
	s := newServer(t, none)
	f := follow(t, config(t, s))
	f.expect(t, "no such name", "") // at first it is believed
	s.change(some)
	f.expect(t, "", "", "10.0.0.1:15008")
	s.change(none)
	f.expect(t, "no such name", "", "10.0.0.1:15008") // for a moment it is not
	s.change(some)
	f.expect(t, "", "", "10.0.0.1:15008")
	s.change(none)
	f.expect(t, "no such name", "", "10.0.0.1:15008", "") // repeated, it is
}

func TestPauses(t *testing.T) {
	c := config(t)
	c.MinTTL, c.MaxTTL, c.Grace = 0, 0, 0 // the defaults
	ok := func(ttl time.Duration) result {
		return result{{addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, ttl: ttl}, {err: errNone, ttl: time.Hour}}
	}
	bad := errors.New("bad")
	now := time.Now()
	for _, x := range []struct {
		what     string
		found    result
		failures int
		want     time.Duration
	}{
		{"TTL 0", ok(0), 0, time.Second},
		{"TTL 30", ok(30 * time.Second), 0, 30 * time.Second},
		{"TTL of a day", ok(24 * time.Hour), 0, 5 * time.Minute},
		{"first failure", result{{err: bad}, {err: bad}}, 0, time.Second},
		{"third failure", result{{err: bad}, {err: bad}}, 2, 4 * time.Second},
		{"hundredth failure", result{{err: bad}, {err: bad}}, 99, 30 * time.Second},
		{"half a failure", result{ok(time.Minute)[0], {err: bad}}, 0, time.Second},
		{"no such name, for an hour", result{{err: errNone, ttl: time.Hour}, {err: errNone, ttl: time.Hour}}, 0, 10 * time.Second},
		{"no such name, for 3 s", result{{err: errNone, ttl: 3 * time.Second}, {err: errNone, ttl: time.Hour}}, 0, 3 * time.Second},
	} {
		w := watch{Resolver: resolver(t, c), update: func([]proxy.Endpoint) {}, failures: x.failures}
		if got := w.take(x.found, now); got < x.want || got > x.want*11/10+1 {
			t.Errorf("after %s the pause is %v, want %v and up to a tenth more", x.what, got, x.want)
		}
	}
}

// The Grace for "no such name" is both a number and a time.
func TestGrace(t *testing.T) {
	c := config(t)
	c.Grace = 30 * time.Second
	var sets []int
	w := watch{Resolver: resolver(t, c), update: func(set []proxy.Endpoint) { sets = append(sets, len(set)) }}
	now := time.Now()
	none := result{{err: errNone}, {err: errNone}}
	some := result{{addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}, {err: errNone}}
	at := func(d time.Duration, r result) { w.take(r, now.Add(d)) }
	at(0, some)
	at(time.Second, none)
	at(50*time.Second, none) // long, but only twice
	at(51*time.Second, some)
	for d := 52; d < 82; d++ {
		at(time.Duration(d)*time.Second, none) // often, but not for long
	}
	if fmt.Sprint(sets) != "[1]" {
		t.Errorf("updates of sizes %v before the grace is over, want [1]", sets)
	}
	at(82*time.Second, none)
	if fmt.Sprint(sets) != "[1 0]" {
		t.Errorf("updates of sizes %v after the grace, want [1 0]", sets)
	}
}

func TestNewRefuses(t *testing.T) {
	for what, change := range map[string]func(*Config){
		"no name":       func(c *Config) { c.Name = "" },
		"a dot":         func(c *Config) { c.Name = "." },
		"empty label":   func(c *Config) { c.Name = "a..b" },
		"long label":    func(c *Config) { c.Name = strings.Repeat("a", 64) },
		"long name":     func(c *Config) { c.Name = strings.Repeat("a.", 127) + "a" },
		"umlaut":        func(c *Config) { c.Name = "bücher.example" },
		"space":         func(c *Config) { c.Name = "a b" },
		"no port":       func(c *Config) { c.Defaults.Port = 0 },
		"no identity":   func(c *Config) { c.Defaults.Mesh = true },
		"crossed bound": func(c *Config) { c.MinTTL = time.Hour },
	} {
		c := config(t)
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("New with %s succeeded", what)
		}
	}
}
