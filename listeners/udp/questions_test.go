package udp

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/pillion-proxy/pillion/proxy/dnscache"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

func dnsQuery(t *testing.T, id uint16, name string) []byte {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: id}, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// dnsAnswer answers a query: far's Flows echo, so it is the client that sends what the server would.
func dnsAnswer(t *testing.T, query []byte, ttl uint32) []byte {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		t.Fatal(err)
	}
	m.Response = true
	m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: ttl}, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 7}}}}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The answer that one client has got is another's too, and only what was asked for is learnt.
func TestDNSAnswersAreKept(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		f := &far{s: rt.Shards()[0]}
		kept := dnscache.New(0)
		l, stats := serve(t, f.s, f, Port{DNS: kept})
		a, b := client(t, l), client(t, l)
		p := make([]byte, 1000)
		query := dnsQuery(t, 7, "a.example.test.")
		a.Send(string(query))
		proxytest.Eventually(t, "the question is on a flow", func() bool { return stats.Counts().Requests == 1 && stats.Counts().Opened == 1 })
		if _, err := a.Read(p); err != nil { // the echo, which is no answer
			t.Fatal(err)
		}
		for _, forged := range [][]byte{dnsAnswer(t, dnsQuery(t, 8, "a.example.test."), 60), dnsAnswer(t, dnsQuery(t, 7, "b.example.test."), 60)} {
			f.deliver(t, forged)
			if n, err := a.Read(p); err != nil || !bytes.Equal(p[:n], forged) {
				t.Fatalf("%x, %v", p[:n], err)
			}
		}
		if st := kept.Stats(); st.Entries != 0 {
			t.Errorf("learnt what was not asked for: %+v", st)
		}
		a.Send(string(query))
		if _, err := a.Read(p); err != nil {
			t.Fatal(err)
		}
		a.Send(string(dnsQuery(t, 9, "a.example.test.")))
		if _, err := a.Read(p); err != nil {
			t.Fatal(err)
		}
		answer := dnsAnswer(t, dnsQuery(t, 9, "a.example.test."), 60)
		f.deliver(t, answer)
		if n, err := a.Read(p); err != nil || !bytes.Equal(p[:n], answer) {
			t.Fatalf("%x, %v", p[:n], err)
		}
		proxytest.Eventually(t, "the answer is kept", func() bool { return kept.Stats().Entries == 1 })
		b.Send(string(dnsQuery(t, 99, "a.example.test.")))
		_ = b.SetReadDeadline(time.Now().Add(30 * time.Second))
		n, err := b.Read(p)
		var m dnsmessage.Message
		if err == nil {
			err = m.Unpack(p[:n])
		}
		if err != nil || m.ID != 99 || len(m.Answers) != 1 {
			t.Errorf("%+v, %v", m, err)
		}
		if c := stats.Counts(); c.Opened != 1 {
			t.Errorf("%d flows were opened, want only the first client's", c.Opened)
		}
		quiet(t, l)
	})
}

// deliver has the first Flow bring a datagram as it is.
func (f *far) deliver(t *testing.T, p []byte) {
	t.Helper()
	proxytest.Call(t, f.s, func() {
		e := f.flow(0)
		e.s.Lock()
		e.raw = append(e.raw, string(p))
		e.s.Unlock()
		e.gate.Wake()
	})
}
