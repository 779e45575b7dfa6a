package detect

import (
	"fmt"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
)

var clients = []struct {
	bytes string
	want  Verdict // Unknown: more is needed
}{
	{"", Unknown},
	{"G", Unknown},
	{"GET", Unknown},
	{"GET ", Unknown},
	{"GET /", HTTP1},
	{"GET / HTTP/1.1\r\n", HTTP1},
	{"\r\nGET / HTTP/1.1\r\n", HTTP1},
	{"OPTIONS *", Unknown},
	{"OPTIONS * HTTP/1.1\r\n", HTTP1},
	{"GET http://a/ HTTP/1.0\r\n", HTTP1},
	{"GET htt", Unknown},
	{"CONNECT a:1", Unknown},
	{"CONNECT a:1 HTTP/1.1\r\n", HTTP1},
	{"CONNECT a 1\r\n", Other},
	{"BREW /pot", Unknown},
	{"BREW /pot HTTP/1.1\r\n", HTTP1},
	{"BREW /pot HTT", Unknown},
	{"BREW /pot\r\n", Other},
	{"GET / HTTP/2.0\r\n", HTTP1}, // the codec answers 505
	{"PRI", Unknown},
	{"PRI * HTTP/2.0", Unknown},
	{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HTTP2},
	{"PRI * HTTP/1.1\r\n", HTTP1},
	{"POST /x HTTP/1.1\r\n", HTTP1},
	{"\x05", Unknown},
	{"\x05\x01", Unknown},
	{"\x05\x01\x00", SOCKS5},
	{"\x05\x02\x00\x02", SOCKS5},
	{"\x05\x00", Other},
	{"\x05\x01\x70", Other},
	{"\x04\x01\x00\x50", Other},
	{"\x16", Unknown},
	{"\x16\x03\x01", Unknown},
	{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", TLS},
	{"\x16\x03\x01\x02\x00\x02", Other},
	{"\x16\x02", Other},
	{"*3\r\n$3\r\nSET\r\n", Other},                                     // Redis
	{"PING\r\n", Other},                                                // Redis, inline
	{"\x00\x00\x00\x08\x04\xd2\x16\x2f", Other},                        // PostgreSQL SSLRequest
	{"EHLO example.com\r\n", Other},                                    // SMTP
	{"USER anonymous\r\n", Other},                                      // FTP
	{"NICK bob\r\nUSER bob 0 * :Bob\r\n", Other},                       // IRC
	{"USER http\r\n", Other},                                           //
	{"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", Other},                      // SSH
	{"<?xml version='1.0'?><stream:stream", Other},                     // XMPP
	{"AMQP\x00\x00\x09\x01", Other},                                    // AMQP
	{"GETALONGWORDTHATISNOMETHODATALLBECAUSEITISTOOLONG", Other},       //
	{"REGISTER sip:example.com SIP/2.0\r\n", Other},                    // SIP
	{"OPTIONS rtsp://example.com/media RTSP/1.0\r\n", Other},           // RTSP
	{"\xff\xfb\x1f", Other},                                            // telnet, as MUDs have it
	{"GET " + string([]byte{'/'}) + fmt.Sprintf("%09000d", 1), HTTP1},  //
	{"BREW " + string([]byte{'/'}) + fmt.Sprintf("%09000d", 1), Other}, //
	{"\r", Unknown},                                                    //
	{"\r\n", Unknown},                                                  //
	{"\n", Other},                                                      //
}

func TestSniff(t *testing.T) {
	for _, c := range clients {
		got, ok := Sniff([]byte(c.bytes))
		if !ok {
			got = Unknown
		}
		if got != c.want || ok != (c.want != Unknown) {
			t.Errorf("Sniff(%.40q) = %v, %v, want %v", c.bytes, got, ok, c.want)
		}
	}
}

func TestSniffServer(t *testing.T) {
	for _, c := range []struct {
		bytes string
		want  Verdict
	}{
		{"", Unknown},
		{"HTT", Unknown},
		{"HTTP/1.1 200 OK\r\n", HTTP1},
		{"HTTP/2", Other},
		{"\x00\x00\x12\x04\x00\x00\x00\x00\x00", HTTP2},
		{"\x00\x00\x12", Unknown},
		{"\x00\x00\x12\x05", Other},
		{"\x16\x03\x03\x00\x7a\x02\x00", TLS},
		{"\x15\x03\x03\x00\x02\x02\x28", TLS},
		{"220 mail.example.com ESMTP\r\n", Other},
		{"\x4a\x00\x00\x00\x0a8.0.36\x00", Other}, // MySQL
		{"SSH-2.0-x\r\n", Other},
	} {
		got, ok := SniffServer([]byte(c.bytes))
		if !ok {
			got = Unknown
		}
		if got != c.want || ok != (c.want != Unknown) {
			t.Errorf("SniffServer(%q) = %v, %v, want %v", c.bytes, got, ok, c.want)
		}
	}
}

func TestBadPreface(t *testing.T) {
	for s, want := range map[string]bool{
		"INVALID CONNECTION PREFACE\r\n\r\n": true,
		"PRI * HTTP/3.0\r\n\r\n":             true,
		"":                                   false,
		"SET key value\r\n":                  false,
		"SET key value\r\nGET key\r\n":       false,
		"two words\r\n\r\n":                  false,
		"\x00\x03hello":                      false,
	} {
		if got := BadPreface([]byte(s)); got != want {
			t.Errorf("BadPreface(%q) = %v, want %v", s, got, want)
		}
	}
}

func TestSniffAllocatesNothing(t *testing.T) {
	b := []byte("GET /index.html HTTP/1.1\r\nHost: a\r\n\r\n")
	if n := testing.AllocsPerRun(100, func() { Sniff(b) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func TestMemory(t *testing.T) {
	m, err := NewMemory(2)
	if err != nil {
		t.Fatal(err)
	}
	a, b, c := proxy.Service{Name: "a"}, proxy.Service{Name: "b", Port: 1}, proxy.Service{Name: "b", Port: 2}
	m.Note(a, HTTP1)
	m.Note(b, ServerFirst)
	m.Note(a, HTTP2)
	m.Note(a, Unknown)
	m.Note(c, TLS)
	if m.Recall(a) != HTTP2 || m.Recall(b) != Unknown || m.Recall(c) != TLS || m.Len() != 2 {
		t.Errorf("a %v, b %v, c %v of %d, want http2, unknown (forgotten), tls of 2", m.Recall(a), m.Recall(b), m.Recall(c), m.Len())
	}
	for i, want := range []Verdict{ServerFirst, ServerFirst, Other, Other} { // the third in a row is believed
		if i == 0 {
			m.Note(a, ServerFirst)
		}
		m.Note(a, Other)
		if got := m.Recall(a); got != want {
			t.Errorf("after %d clients that spoke first: %v, want %v", i+1, got, want)
		}
	}
	m.Note(a, ServerFirst)
	m.Note(a, Other)
	m.Note(a, Other)
	m.Note(a, ServerFirst)
	m.Note(a, Other)
	if got := m.Recall(a); got != ServerFirst {
		t.Errorf("hasty clients, not three in a row: %v, want server-first", got)
	}
	if _, err := NewMemory(-1); err == nil {
		t.Error("NewMemory(-1) has no error")
	}
}

// FuzzSniff checks that a verdict, once given, does not change with the bytes that follow, but between
// protocols that share a beginning, and that every input is decided in bounded time.
func FuzzSniff(f *testing.F) {
	for _, c := range clients {
		f.Add([]byte(c.bytes))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, ok := Sniff(b)
		if ok == (v == Unknown) {
			t.Fatalf("Sniff(%q) = %v, %v", b, v, ok)
		}
		if !ok && len(b) > maxLine+maxMethod+16 {
			t.Fatalf("undecided after %d bytes", len(b))
		}
		SniffServer(b)
		for i := range min(len(b), 64) {
			if w, sure := Sniff(b[:i]); sure && !(w == v && ok) && w != SOCKS5 && w != HTTP1 {
				t.Fatalf("Sniff(%q) = %v, but of its first %d bytes %v", b, v, i, w)
			}
		}
	})
}

func BenchmarkSniff(b *testing.B) {
	p := []byte("GET /index.html HTTP/1.1\r\nHost: a\r\n\r\n")
	b.ReportAllocs()
	for b.Loop() {
		Sniff(p)
	}
}
