package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
)

const patience = 20 * time.Second

// sockets are a port that is free for UDP and TCP.
func sockets(t *testing.T) (*net.UDPConn, net.Listener) {
	t.Helper()
	for range 20 {
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		if tcp, err := net.Listen("tcp", udp.LocalAddr().String()); err == nil {
			t.Cleanup(func() { udp.Close(); tcp.Close() })
			return udp, tcp
		}
		udp.Close()
	}
	t.Fatal("no port is free for both")
	return nil, nil
}

func addrOf(a net.Addr) netip.AddrPort { return netip.MustParseAddrPort(a.String()) }

// start runs a Server for the services db, which has an address, and mute, which has none. c may say more.
func start(t *testing.T, c Config) (*Server, netip.AddrPort) {
	t.Helper()
	proxytest.Goroutines(t)
	c.UDP, c.TCP = sockets(t)
	addr := addrOf(c.UDP.LocalAddr())
	c.Range = prefix
	c.Names = []Name{{"db", netip.MustParseAddrPort("127.80.1.2:5432")}, {Service: "mute"}, {"a.b", netip.MustParseAddrPort("127.80.1.3:80")}}
	c.Logger = proxytest.Logger(t)
	if c.Suffix == "" {
		c.Suffix = "pillion.internal"
	}
	if c.ResolvConf == "" {
		c.ResolvConf = write(t, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
	}
	if c.Own == nil {
		c.Own = func(a netip.AddrPort) bool { return a == addr || a.Port() == 53 }
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v, want the end of its context", err)
		}
	})
	return s, addr
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// question packs a query; size is that of EDNS, 0 for none.
func question(t testing.TB, id uint16, name string, kind dnsmessage.Type, size int) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}},
	}
	if size > 0 {
		var h dnsmessage.ResourceHeader
		if err := h.SetEDNS0(size, 0, false); err != nil {
			t.Fatal(err)
		}
		m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
	}
	out, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// ask sends raw, whose ID is id, and returns the answer.
func ask(t *testing.T, network string, at netip.AddrPort, raw []byte) dnsmessage.Message {
	t.Helper()
	c, err := net.Dial(network, at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	var got []byte
	if network == "tcp" {
		if err := writeMessage(c, raw); err != nil {
			t.Fatal(err)
		}
		if got, err = readMessage(c); err != nil {
			t.Fatal(err)
		}
	} else {
		if _, err := c.Write(raw); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1<<16)
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		got = b[:n]
	}
	var m dnsmessage.Message
	if err := m.Unpack(got); err != nil {
		t.Fatalf("answer %x: %v", got, err)
	}
	if m.ID != binary.BigEndian.Uint16(raw) || !m.Response {
		t.Errorf("answer %+v to ID %d", m.Header, binary.BigEndian.Uint16(raw))
	}
	return m
}

// describe is an answer as one line.
func describe(m dnsmessage.Message) string {
	words := []string{strings.TrimPrefix(m.RCode.String(), "RCode")}
	if m.Truncated {
		words = append(words, "truncated")
	}
	for _, a := range m.Answers {
		switch b := a.Body.(type) {
		case *dnsmessage.AResource:
			words = append(words, netip.AddrFrom4(b.A).String())
		case *dnsmessage.SRVResource:
			words = append(words, fmt.Sprint(b.Priority, b.Weight, b.Port, b.Target))
		case *dnsmessage.PTRResource:
			words = append(words, b.PTR.String())
		case *dnsmessage.TXTResource:
			words = append(words, b.TXT...)
		}
		if a.Header.TTL > 5 && len(m.Answers) == 1 && m.Authoritative {
			words = append(words, "TTL", fmt.Sprint(a.Header.TTL))
		}
	}
	for _, a := range m.Authorities {
		words = append(words, "SOA", a.Header.Name.String())
	}
	return strings.Join(words, " ")
}

func TestOwnNames(t *testing.T) {
	s, addr := start(t, Config{})
	for i, c := range []struct {
		name string
		kind dnsmessage.Type
		want string
	}{
		{"db.", dnsmessage.TypeA, "Success 127.80.1.2"},
		{"DB.", dnsmessage.TypeA, "Success 127.80.1.2"},
		{"db.pillion.internal.", dnsmessage.TypeA, "Success 127.80.1.2"},
		{"Db.Pillion.INTERNAL.", dnsmessage.TypeA, "Success 127.80.1.2"},
		{"db.", dnsmessage.TypeALL, "Success 127.80.1.2"},
		{"db.", dnsmessage.TypeAAAA, "Success SOA db."},
		{"db.pillion.internal.", dnsmessage.TypeAAAA, "Success SOA pillion.internal."},
		{"db.", 65, "Success SOA db."}, // HTTPS
		{"db.", dnsmessage.TypeMX, "Success SOA db."},
		{"a.b.", dnsmessage.TypeA, "Success 127.80.1.3"},
		{"mute.", dnsmessage.TypeA, "Success SOA mute."},
		{"_pg._tcp.db.", dnsmessage.TypeSRV, "Success 0 0 5432 db."},
		{"_pg._tcp.db.pillion.internal.", dnsmessage.TypeSRV, "Success 0 0 5432 db.pillion.internal."},
		{"_pg._tcp.db.", dnsmessage.TypeA, "Success SOA _pg._tcp.db."},
		{"_tcp.db.pillion.internal.", dnsmessage.TypeA, "Success SOA pillion.internal."},
		{"pillion.internal.", dnsmessage.TypeA, "Success SOA pillion.internal."},
		{"b.pillion.internal.", dnsmessage.TypeA, "Success SOA pillion.internal."}, // a.b is below
		{"none.pillion.internal.", dnsmessage.TypeA, "NameError SOA pillion.internal."},
		{"x.db.pillion.internal.", dnsmessage.TypeA, "NameError SOA pillion.internal."},
		{"2.1.80.127.in-addr.arpa.", dnsmessage.TypePTR, "Success db.pillion.internal."},
		{"9.9.80.127.in-addr.arpa.", dnsmessage.TypePTR, "NameError SOA 9.9.80.127.in-addr.arpa."},
		{"db.", dnsmessage.TypeAXFR, "Refused"},
		{"db.", typeIXFR, "Refused"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			m := ask(t, network, addr, question(t, uint16(i), c.name, c.kind, 1232*(i%2)))
			if got := describe(m); got != c.want {
				t.Errorf("%s %v over %s: %s, want %s", c.name, c.kind, network, got, c.want)
			}
			if len(m.Questions) != 1 || m.Questions[0].Name.String() != c.name {
				t.Errorf("%s: the question came back as %v", c.name, m.Questions)
			}
			if got := len(m.Additionals); got != i%2 {
				t.Errorf("%s: %d additional records, want EDNS answered with EDNS", c.name, got)
			}
		}
	}
	if st := s.Stats(); st.Passed != 0 || st.Own == 0 {
		t.Errorf("stats %+v, want nothing passed on", st)
	}
}

// What is no query, or cannot be understood, harms nobody.
func TestNonsense(t *testing.T) {
	_, addr := start(t, Config{})
	good := question(t, 7, "db.", dnsmessage.TypeA, 0)
	twice := question(t, 7, "db.", dnsmessage.TypeA, 1232)
	opt := twice[len(good):]
	twice = append(twice, opt...)
	binary.BigEndian.PutUint16(twice[10:], 2)
	version := question(t, 7, "db.", dnsmessage.TypeA, 1232)
	version[len(version)-5] = 1
	none := append([]byte(nil), good[:12]...)
	binary.BigEndian.PutUint16(none[4:], 0)
	update := append([]byte(nil), good...)
	update[2] |= 5 << 3
	chaos := append([]byte(nil), good...)
	chaos[len(chaos)-1] = 3
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"two OPT records": {twice, "FormatError"},
		"EDNS version 1":  {version, "Success"}, // BADVERS is in the OPT record
		"no question":     {none, "FormatError"},
		"an update":       {update, "NotImplemented"},
		"class CHAOS":     {chaos, "NotImplemented"},
		"cut short":       {good[:len(good)-3], "FormatError"},
	} {
		m := ask(t, "udp", addr, c.raw)
		if got := describe(m); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		if name == "EDNS version 1" && (len(m.Additionals) != 1 || m.Additionals[0].Header.TTL>>24 != 1) {
			t.Errorf("%s: %+v, want BADVERS", name, m.Additionals)
		}
	}
	c, err := net.Dial("udp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	response := append([]byte(nil), good...)
	response[2] |= 0x80
	for _, raw := range [][]byte{{}, {1}, good[:11], response} { // no answer is due
		c.Write(raw)
	}
	c.Write(good)
	c.SetDeadline(time.Now().Add(patience))
	b := make([]byte, 512)
	if n, err := c.Read(b); err != nil || b[3]&0xf != 0 || binary.BigEndian.Uint16(b[:n]) != 7 {
		t.Errorf("after nonsense: %x, %v", b[:n], err)
	}
}

// upstreamServer is a name server that answers with say, and remembers what it was asked.
type upstreamServer struct {
	addr netip.AddrPort
	say  func(network string, q dnsmessage.Message) *dnsmessage.Message // nil: silence

	mu    sync.Mutex
	asked []string // "udp name 1232"
	ids   []uint16
	ports []uint16
}

func upstream(t *testing.T, say func(network string, q dnsmessage.Message) *dnsmessage.Message) *upstreamServer {
	t.Helper()
	udp, tcp := sockets(t)
	u := &upstreamServer{addr: addrOf(udp.LocalAddr()), say: say}
	var running sync.WaitGroup
	running.Go(func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := udp.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			raw := append([]byte(nil), b[:n]...)
			running.Go(func() {
				if out := u.answer(t, "udp", raw, from); out != nil {
					_, _ = udp.WriteToUDPAddrPort(out, from)
				}
			})
		}
	})
	running.Go(func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				raw, err := readMessage(c)
				if err != nil {
					return
				}
				if out := u.answer(t, "tcp", raw, addrOf(c.RemoteAddr())); out != nil {
					_ = writeMessage(c, out)
					return
				}
				_, _ = io.Copy(io.Discard, c)
			})
		}
	})
	t.Cleanup(func() { udp.Close(); tcp.Close(); running.Wait() })
	return u
}

func (u *upstreamServer) answer(t *testing.T, network string, raw []byte, from netip.AddrPort) []byte {
	var q dnsmessage.Message
	if err := q.Unpack(raw); err != nil {
		t.Errorf("upstream got %x: %v", raw, err)
		return nil
	}
	size := 0
	if len(q.Additionals) > 0 {
		size = int(q.Additionals[0].Header.Class)
	}
	u.mu.Lock()
	u.asked = append(u.asked, fmt.Sprint(network, " ", q.Questions[0].Name, " ", size))
	u.ids = append(u.ids, q.ID)
	u.ports = append(u.ports, from.Port())
	u.mu.Unlock()
	m := u.say(network, q)
	if m == nil {
		return nil
	}
	out, err := m.Pack()
	if err != nil {
		t.Errorf("upstream: %v", err)
	}
	return out
}

func (u *upstreamServer) log() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]string(nil), u.asked...)
}

// text answers with n TXT records.
func text(q dnsmessage.Message, n int) *dnsmessage.Message {
	m := &dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, RecursionAvailable: true}, Questions: q.Questions}
	for range n {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 60},
			Body:   &dnsmessage.TXTResource{TXT: []string{strings.Repeat("x", 100)}},
		})
	}
	return m
}

func failing(code dnsmessage.RCode) func(string, dnsmessage.Message) *dnsmessage.Message {
	return func(_ string, q dnsmessage.Message) *dnsmessage.Message {
		m := text(q, 0)
		m.RCode = code
		return m
	}
}

func TestOthersArePassedOn(t *testing.T) {
	u := upstream(t, func(network string, q dnsmessage.Message) *dnsmessage.Message {
		n := 1
		if strings.HasPrefix(q.Questions[0].Name.String(), "long.") {
			n = 30
		}
		m := text(q, n)
		if network == "udp" && n > 1 { // no server sends more than it was told
			m.Truncated, m.Answers = true, nil
		}
		return m
	})
	s, addr := start(t, Config{Forward: []netip.AddrPort{u.addr}})
	x := strings.Repeat("x", 100)
	for _, c := range []struct {
		network, name, want string
		size                int
	}{
		{"udp", "example.com.", "Success " + x, 0},
		{"udp", "example.com.", "Success " + x, 1400},
		{"tcp", "example.com.", "Success " + x, 0},
		{"udp", "long.example.com.", "Success truncated", 1400},
		{"tcp", "long.example.com.", "Success" + strings.Repeat(" "+x, 30), 1400},
		{"udp", "internal.", "Success " + x, 0}, // above the suffix is not ours
	} {
		if got := describe(ask(t, c.network, addr, question(t, 9, c.name, dnsmessage.TypeTXT, c.size))); got != c.want {
			t.Errorf("%s over %s: %s, want %s", c.name, c.network, got, c.want)
		}
	}
	want := "udp example.com. 0, udp example.com. 1400, udp example.com. 0, udp long.example.com. 1400, udp long.example.com. 1400, tcp long.example.com. 1400, udp internal. 0"
	if got := strings.Join(u.log(), ", "); got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
	if st := s.Stats(); st.Passed != 6 || st.Failed != 0 || fmt.Sprint(st.Servers) != fmt.Sprint([]netip.AddrPort{u.addr}) {
		t.Errorf("stats %+v", st)
	}
}

// A server that sends more than the client takes does not make us do the same.
func TestTruncatesForTheClient(t *testing.T) {
	u := upstream(t, func(_ string, q dnsmessage.Message) *dnsmessage.Message { return text(q, 8) })
	_, addr := start(t, Config{Forward: []netip.AddrPort{u.addr}})
	if got := describe(ask(t, "udp", addr, question(t, 9, "example.com.", dnsmessage.TypeTXT, 0))); got != "Success truncated" {
		t.Errorf("without EDNS: %s, want it truncated to 512 bytes", got)
	}
	if got := describe(ask(t, "tcp", addr, question(t, 9, "example.com.", dnsmessage.TypeTXT, 0))); !strings.HasPrefix(got, "Success x") {
		t.Errorf("over TCP: %s, want all", got)
	}
}

// What is cut off because a server sends more than anybody has asked for is not taken for the whole.
func TestLongerThanAsked(t *testing.T) {
	u := upstream(t, func(_ string, q dnsmessage.Message) *dnsmessage.Message { return text(q, 30) })
	_, addr := start(t, Config{Forward: []netip.AddrPort{u.addr}})
	if got := describe(ask(t, "udp", addr, question(t, 9, "example.com.", dnsmessage.TypeTXT, 1400))); got != "Success truncated" {
		t.Errorf("over UDP: %s, want that it is truncated", got)
	}
	want := "Success" + strings.Repeat(" "+strings.Repeat("x", 100), 30)
	for _, size := range []int{0, 1400} {
		if got := describe(ask(t, "tcp", addr, question(t, 9, "example.com.", dnsmessage.TypeTXT, size))); got != want {
			t.Errorf("over TCP: %s, want all", got)
		}
	}
}

// IDs and ports are not the client's, nor in any order: who cannot see the query cannot forge the answer.
func TestForgery(t *testing.T) {
	u := upstream(t, func(_ string, q dnsmessage.Message) *dnsmessage.Message { return text(q, 1) })
	_, addr := start(t, Config{Forward: []netip.AddrPort{u.addr}})
	for i := range 20 {
		ask(t, "udp", addr, question(t, 5, fmt.Sprintf("n%d.example.com.", i), dnsmessage.TypeTXT, 0))
	}
	ids, ports := make(map[uint16]bool), make(map[uint16]bool)
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.ids {
		ids[u.ids[i]], ports[u.ports[i]] = true, true
	}
	if len(ids) < 15 || len(ports) < 5 {
		t.Errorf("%d IDs and %d ports in 20 queries", len(ids), len(ports))
	}
	q := query{}
	raw := question(t, 5, "example.com.", dnsmessage.TypeTXT, 0)
	q, _, _ = parse(raw)
	var m dnsmessage.Message
	if err := m.Unpack(raw); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*dnsmessage.Message){
		"another ID":       func(m *dnsmessage.Message) { m.ID++ },
		"a query":          func(m *dnsmessage.Message) { m.Response = false },
		"another name":     func(m *dnsmessage.Message) { m.Questions[0].Name = dnsmessage.MustNewName("example.org.") },
		"another type":     func(m *dnsmessage.Message) { m.Questions[0].Type = dnsmessage.TypeA },
		"no question":      func(m *dnsmessage.Message) { m.Questions = nil },
		"":                 func(*dnsmessage.Message) {},
		"another spelling": func(m *dnsmessage.Message) { m.Questions[0].Name = dnsmessage.MustNewName("EXAMPLE.com.") },
	} {
		forged := *text(m, 1)
		forged.Questions = append([]dnsmessage.Question(nil), m.Questions...)
		change(&forged)
		out, err := forged.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := answers(out, 5, &q), name == "" || name == "another spelling"; got != want {
			t.Errorf("%s: taken %v, want %v", name, got, want)
		}
	}
}

func TestServersFail(t *testing.T) {
	good := upstream(t, func(_ string, q dnsmessage.Message) *dnsmessage.Message { return text(q, 1) })
	missing := upstream(t, failing(dnsmessage.RCodeNameError))
	fails := upstream(t, failing(dnsmessage.RCodeServerFailure))
	refuses := upstream(t, failing(dnsmessage.RCodeRefused))
	silent := upstream(t, func(string, dnsmessage.Message) *dnsmessage.Message { return nil })
	udp, tcp := sockets(t)
	gone := addrOf(udp.LocalAddr())
	udp.Close()
	tcp.Close()
	for _, c := range []struct {
		name    string
		servers []netip.AddrPort
		want    string
	}{
		{"the second is good", []netip.AddrPort{fails.addr, good.addr}, "Success"},
		{"the third is good", []netip.AddrPort{gone, refuses.addr, good.addr}, "Success"},
		{"the first is silent", []netip.AddrPort{silent.addr, good.addr}, "Success"},
		{"no such name is an answer", []netip.AddrPort{missing.addr, good.addr}, "NameError"},
		{"all fail", []netip.AddrPort{gone, fails.addr}, "ServerFailure"},
		{"all refuse", []netip.AddrPort{refuses.addr}, "Refused"},
		{"nobody is there", []netip.AddrPort{gone}, "ServerFailure"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, addr := start(t, Config{Forward: c.servers})
			if got := describe(ask(t, "udp", addr, question(t, 9, "example.com.", dnsmessage.TypeTXT, 0))); strings.Fields(got)[0] != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// Where resolv.conf names only ourselves there is nobody to ask, and a later change of it is followed.
func TestNeverAsksItself(t *testing.T) {
	s, addr := start(t, Config{ResolvConf: write(t, "nameserver 127.0.0.1\n"), Own: func(a netip.AddrPort) bool { return a.Addr().IsLoopback() }})
	if got := describe(ask(t, "udp", addr, question(t, 9, "example.com.", dnsmessage.TypeTXT, 0))); got != "ServerFailure" {
		t.Errorf("got %s, want SERVFAIL", got)
	}
	if st := s.Stats(); len(st.Servers) != 0 || st.Failed != 1 {
		t.Errorf("stats %+v, want nobody to ask", st)
	}
}

// Two sidecars that pass names on to each other end in SERVFAIL, soon, and not in a storm.
func TestChainThatLeadsBack(t *testing.T) {
	var asked atomic.Int32
	var back atomic.Value // netip.AddrPort
	u := upstream(t, func(network string, q dnsmessage.Message) *dnsmessage.Message {
		asked.Add(1)
		m := text(q, 0)
		m.RCode = dnsmessage.RCodeServerFailure
		at, _ := back.Load().(netip.AddrPort)
		c, err := net.Dial("udp", at.String())
		if err != nil {
			return m
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		// As another server writes it: with another EDNS size each time, so that it is another query.
		_, _ = c.Write(question(t, q.ID, q.Questions[0].Name.String(), q.Questions[0].Type, 600+int(asked.Load())))
		b := make([]byte, 4096)
		n, err := c.Read(b)
		if err == nil {
			m.RCode = dnsmessage.RCode(b[:n][3] & 0xf)
		}
		return m
	})
	s, addr := start(t, Config{Forward: []netip.AddrPort{u.addr}, ResolvConf: write(t, "options timeout:1 attempts:1\n")})
	back.Store(addr)
	if got := describe(ask(t, "udp", addr, question(t, 9, "example.com.", dnsmessage.TypeTXT, 0))); got != "ServerFailure" {
		t.Errorf("got %s, want SERVFAIL", got)
	}
	if n := asked.Load(); n > 2*maxSame {
		t.Errorf("asked %d times", n)
	}
	if st := s.Stats(); st.Failed == 0 {
		t.Errorf("stats %+v", st)
	}
}

// Many who ask the same are one question.
func TestSameQuestionIsAskedOnce(t *testing.T) {
	release := make(chan struct{})
	u := upstream(t, func(_ string, q dnsmessage.Message) *dnsmessage.Message {
		<-release
		return text(q, 1)
	})
	s, addr := start(t, Config{Forward: []netip.AddrPort{u.addr}})
	c, err := net.Dial("udp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	const many = 50
	for i := range many {
		c.Write(question(t, uint16(i), "example.com.", dnsmessage.TypeTXT, 0))
	}
	proxytest.Eventually(t, "all are waiting", func() bool { return s.Stats().Passed == many })
	close(release)
	seen := make(map[uint16]bool)
	b := make([]byte, 4096)
	for range many {
		if _, err := c.Read(b); err != nil {
			t.Fatal(err)
		}
		seen[binary.BigEndian.Uint16(b)] = true
	}
	if len(seen) != many || len(u.log()) != 1 {
		t.Errorf("%d answers, asked %q; want %d, and one question", len(seen), u.log(), many)
	}
}

// More questions than are passed on at a time are refused, not queued.
func TestWaitingIsBounded(t *testing.T) {
	u := upstream(t, func(string, dnsmessage.Message) *dnsmessage.Message { return nil })
	s, addr := start(t, Config{Forward: []netip.AddrPort{u.addr}, ResolvConf: write(t, "options timeout:30 attempts:1\n")})
	c, err := net.Dial("udp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	for i := range maxWaiting {
		c.Write(question(t, 1, fmt.Sprintf("n%d.example.com.", i%100), dnsmessage.TypeTXT, 600+i))
		if i%50 == 0 { // the socket's buffer is small
			proxytest.Eventually(t, "they are read", func() bool { return len(s.waiting) > i || s.failed.Load() > 0 })
		}
	}
	c.Write(question(t, 2, "db.", dnsmessage.TypeA, 0))
	b := make([]byte, 4096)
	for binary.BigEndian.Uint16(b) != 2 { // SERVFAILs of the loop check may come first
		if _, err := c.Read(b); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.waiting) > maxWaiting {
		t.Errorf("%d wait", len(s.waiting))
	}
}

func TestConnectionsCarryManyQuestions(t *testing.T) {
	_, addr := start(t, Config{})
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	for i := range 10 { // all at once, as RFC 7766 section 6.2.1.1 allows
		if err := writeMessage(c, question(t, uint16(i), "db.", dnsmessage.TypeA, 0)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 10 {
		got, err := readMessage(c)
		if err != nil || binary.BigEndian.Uint16(got) != uint16(i) {
			t.Fatalf("answer %d: %x, %v", i, got, err)
		}
	}
	c.Write([]byte{0, 3, 1, 2, 3})
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("nonsense: %v, want the end", err)
	}
}

// FuzzReply checks that no packet harms the process, and that what is answered can be read and answers the question.
func FuzzReply(f *testing.F) {
	t := newNames([]Name{{"db", netip.MustParseAddrPort("127.80.1.2:5432")}, {Service: "mute"}}, "pillion.internal", prefix)
	f.Fuzz(func(tt *testing.T, raw []byte) {
		q, code, ok := parse(raw)
		if !ok {
			return
		}
		var out []byte
		if code != dnsmessage.RCodeSuccess {
			out = reply(&q, code, nil)
		} else if out, ok = t.local(&q); !ok {
			answers(raw, q.head.ID, &q)
			refuses(raw)
			out = truncate(&q, raw)
		}
		if out == nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(out); err != nil {
			tt.Fatalf("answer %x to %x: %v", out, raw, err)
		}
		if m.ID != q.head.ID {
			tt.Errorf("ID %d, want %d", m.ID, q.head.ID)
		}
		if len(out) > plainSize+255 {
			tt.Errorf("%d bytes", len(out))
		}
	})
}
