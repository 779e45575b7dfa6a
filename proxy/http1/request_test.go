package http1

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
)

// badRequests are heads that must be refused: nothing of them is forwarded and their connection is closed.
var badRequests = []struct {
	rule   string
	head   string // \n stands for CRLF
	status int
}{
	// RFC 9112 section 6.1: "A server MAY reject a request that contains both Content-Length and Transfer-Encoding".
	{"CL.TE", "POST / HTTP/1.1\nHost: a\nContent-Length: 6\nTransfer-Encoding: chunked\n\n0\n\nG", 400},
	{"TE.CL", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nContent-Length: 3\n\n1\nZ\n0\n\n", 400},
	{"CL.TE, in other case", "POST / HTTP/1.1\nHost: a\ncontent-length: 6\nTRANSFER-ENCODING: CHUNKED\n\n0\n\nG", 400},
	{"TE.TE, repeated", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n0\n\n", 400},
	{"TE.TE, unknown second", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nTransfer-Encoding: cow\n\n0\n\n", 400},
	{"TE.TE, unknown first", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: x\nTransfer-Encoding: chunked\n\n0\n\n", 400},
	{"TE, chunked twice", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked, chunked\n\n0\n\n", 400},
	// RFC 9112 section 6.3: "If a Transfer-Encoding header field is present in a request and the chunked transfer coding is not the
	// final encoding, the message body length cannot be determined reliably; the server MUST respond with the 400".
	{"TE not final", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked, gzip\n\n0\n\n", 400},
	{"TE identity", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: identity\n\n", 400},
	{"TE empty", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding:\n\n", 400},
	{"TE mangled", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: xchunked\n\n0\n\n", 400},
	{"TE quoted", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: \"chunked\"\n\n0\n\n", 400},
	{"TE parameter", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked;q=1\n\n0\n\n", 400},
	{"TE vertical tab", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: \x0bchunked\n\n0\n\n", 400},
	{"TE list with empty item", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: , chunked\n\n0\n\n", 400},
	// RFC 9112 section 6.1: "A server that receives a request message with a transfer coding it does not understand SHOULD respond with 501".
	{"TE other coding", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: gzip, chunked\n\n0\n\n", 501},
	// RFC 9112 section 6.1: "A server or client that receives an HTTP/1.0 message containing a Transfer-Encoding header field MUST
	// treat the message as if the framing is faulty".
	{"TE in 1.0", "POST / HTTP/1.0\nHost: a\nTransfer-Encoding: chunked\n\n0\n\n", 400},
	{"TE with space before colon", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding : chunked\n\n0\n\n", 400},
	{"TE folded", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding:\n chunked\n\n0\n\n", 400},
	{"TE behind a folded line", "POST / HTTP/1.1\nHost: a\nX: y\n\tTransfer-Encoding: chunked\n\n0\n\n", 400},
	{"TE behind a bare CR", "POST / HTTP/1.1\nHost: a\nX: y\rTransfer-Encoding: chunked\n\n0\n\n", 400},
	{"TE named by Connection", "POST / HTTP/1.1\nHost: a\nConnection: Transfer-Encoding\nTransfer-Encoding: chunked\nContent-Length: 3\n\n0\n\n", 400},
	{"CL differing", "POST / HTTP/1.1\nHost: a\nContent-Length: 5\nContent-Length: 6\n\nhello", 400},
	{"CL repeated", "POST / HTTP/1.1\nHost: a\nContent-Length: 5\nContent-Length: 5\n\nhello", 400},
	{"CL list", "POST / HTTP/1.1\nHost: a\nContent-Length: 5, 5\n\nhello", 400},
	{"CL list differing", "POST / HTTP/1.1\nHost: a\nContent-Length: 5, 6\n\nhello", 400},
	// RFC 9110 section 8.6: "Content-Length = 1*DIGIT".
	{"CL sign", "POST / HTTP/1.1\nHost: a\nContent-Length: +5\n\nhello", 400},
	{"CL negative", "POST / HTTP/1.1\nHost: a\nContent-Length: -5\n\nhello", 400},
	{"CL empty", "POST / HTTP/1.1\nHost: a\nContent-Length:\n\n", 400},
	{"CL hexadecimal", "POST / HTTP/1.1\nHost: a\nContent-Length: 0x5\n\nhello", 400},
	{"CL with space", "POST / HTTP/1.1\nHost: a\nContent-Length: 5 5\n\nhello", 400},
	{"CL overflow", "POST / HTTP/1.1\nHost: a\nContent-Length: 9223372036854775808\n\nhello", 400},
	{"CL overflow by far", "POST / HTTP/1.1\nHost: a\nContent-Length: 18446744073709551621\n\nhello", 400},
	// RFC 9112 section 3.2: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that lacks a Host header field".
	{"no Host", "GET / HTTP/1.1\n\n", 400},
	{"no Host in absolute form", "GET http://a/ HTTP/1.1\n\n", 400},
	{"two Hosts", "GET / HTTP/1.1\nHost: a\nhost: a\n\n", 400},
	{"two Hosts in 1.0", "GET / HTTP/1.0\nHost: a\nHost: b\n\n", 400},
	{"bad Host", "GET / HTTP/1.1\nHost: a b\n\n", 400},
	{"Host with path", "GET / HTTP/1.1\nHost: a/b\n\n", 400},
	{"Host with user", "GET / HTTP/1.1\nHost: u@a\n\n", 400},
	{"Host list", "GET / HTTP/1.1\nHost: a:1:2\n\n", 400},
	{"Host with bad port", "GET / HTTP/1.1\nHost: a:x\n\n", 400},
	{"Host with long port", "GET / HTTP/1.1\nHost: a:123456\n\n", 400},
	{"Host unclosed literal", "GET / HTTP/1.1\nHost: [::1\n\n", 400},
	{"Host only port", "GET / HTTP/1.1\nHost: :80\n\n", 400},
	{"Host control byte", "GET / HTTP/1.1\nHost: a\x00\n\n", 400},
	// RFC 9112 section 5.1: "No whitespace is allowed between the field name and colon."
	{"space before colon", "GET / HTTP/1.1\nHost: a\nX : y\n\n", 400},
	{"tab before colon", "GET / HTTP/1.1\nHost: a\nX\t: y\n\n", 400},
	{"empty name", "GET / HTTP/1.1\nHost: a\n: y\n\n", 400},
	{"no colon", "GET / HTTP/1.1\nHost: a\nXY\n\n", 400},
	{"bad name", "GET / HTTP/1.1\nHost: a\nX[]: y\n\n", 400},
	{"name above ASCII", "GET / HTTP/1.1\nHost: a\nX\xe9: y\n\n", 400},
	// RFC 9112 section 5.2: "A sender MUST NOT generate a message that includes line folding".
	{"obs-fold", "GET / HTTP/1.1\nHost: a\nX: y\n z\n\n", 400},
	{"obs-fold first", "GET / HTTP/1.1\n Host: a\n\n", 400},
	{"blank line of spaces", "GET / HTTP/1.1\nHost: a\n  \n\n", 400},
	// RFC 9110 section 5.5: "Field values containing CR, LF, or NUL characters are invalid and dangerous".
	{"NUL in value", "GET / HTTP/1.1\nHost: a\nX: a\x00b\n\n", 400},
	{"bare CR in value", "GET / HTTP/1.1\nHost: a\nX: a\rb\n\n", 400},
	{"bare CR at end", "GET / HTTP/1.1\nHost: a\nX: ab\r\n\n", 400},
	{"escape in value", "GET / HTTP/1.1\nHost: a\nX: \x1b[0m\n\n", 400},
	{"DEL in long value", "GET / HTTP/1.1\nHost: a\nX: 0123456789abcdef\x7f0123456789\n\n", 400},
	// RFC 9112 section 3: the request line.
	{"no method", " / HTTP/1.1\nHost: a\n\n", 400},
	{"bad method", "G(T / HTTP/1.1\nHost: a\n\n", 400},
	{"two spaces", "GET  / HTTP/1.1\nHost: a\n\n", 400},
	{"two spaces before version", "GET /  HTTP/1.1\nHost: a\n\n", 400},
	{"tab", "GET\t/ HTTP/1.1\nHost: a\n\n", 400},
	{"space in target", "GET /a b HTTP/1.1\nHost: a\n\n", 400},
	{"control in target", "GET /a\x01b HTTP/1.1\nHost: a\n\n", 400},
	{"CR in target", "GET /a\rb HTTP/1.1\nHost: a\n\n", 400},
	{"fragment in target", "GET /a#b HTTP/1.1\nHost: a\n\n", 400},
	{"no version", "GET /\nHost: a\n\n", 400},
	{"version in lower case", "GET / http/1.1\nHost: a\n\n", 400},
	{"version with two digits", "GET / HTTP/1.10\nHost: a\n\n", 400},
	{"version without minor", "GET / HTTP/1\nHost: a\n\n", 400},
	{"space behind version", "GET / HTTP/1.1 \nHost: a\n\n", 400},
	{"HTTP/2", "GET / HTTP/2.0\nHost: a\n\n", 505},
	{"HTTP/0.9", "GET / HTTP/0.9\nHost: a\n\n", 505},
	{"HTTP/9", "GET / HTTP/9.1\nHost: a\n\n", 505},
	{"asterisk with GET", "GET * HTTP/1.1\nHost: a\n\n", 400},
	{"relative target", "GET a/b HTTP/1.1\nHost: a\n\n", 400},
	{"other scheme", "GET ftp://a/b HTTP/1.1\nHost: a\n\n", 400},
	{"absolute without host", "GET http:///b HTTP/1.1\nHost: a\n\n", 400},
	{"absolute with user", "GET http://u:p@a/b HTTP/1.1\nHost: a\n\n", 400},
	{"authority form with GET", "GET a:80 HTTP/1.1\nHost: a\n\n", 400},
	{"CONNECT with path", "CONNECT /a HTTP/1.1\nHost: a\n\n", 400},
	{"CONNECT without port", "CONNECT a HTTP/1.1\nHost: a\n\n", 400},
	{"CONNECT with empty port", "CONNECT a: HTTP/1.1\nHost: a\n\n", 400},
	{"CONNECT to a literal without port", "CONNECT [::1] HTTP/1.1\nHost: a\n\n", 400},
	{"CONNECT with content", "CONNECT a:1 HTTP/1.1\nHost: a\nContent-Length: 1\n\nx", 400},
	{"CONNECT chunked", "CONNECT a:1 HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n0\n\n", 400},
	{"option that is no token", "GET / HTTP/1.1\nHost: a\nConnection: a b\n\n", 400},
	{"too many options", "GET / HTTP/1.1\nHost: a\nConnection: " + strings.Repeat("a,", 40) + "\n\n", 400},
	{"too many fields", "GET / HTTP/1.1\nHost: a\n" + strings.Repeat("a:b\n", 1000) + "\n", 431},
}

// parseHeadOf parses the head at the beginning of message.
func parseHeadOf(message string) (*proxy.Request, *head, *badMessage) {
	b := []byte(message)
	end, _, err := scanHead(b, 0)
	req, h := new(proxy.Request), new(head)
	if err != nil {
		return req, h, err
	}
	if end == 0 {
		return req, h, bad("incomplete")
	}
	return req, h, parseRequest(b[:end], req, h, nil)
}

func TestRefusesBadHeads(t *testing.T) {
	for _, c := range badRequests {
		if _, _, err := parseHeadOf(crlf(c.head)); err == nil || err.status != c.status {
			t.Errorf("%s: %q: %v, want status %d", c.rule, c.head, err, c.status)
		}
	}
}

// RFC 9112 section 2.2: a bare LF ends no line here.
func TestRefusesBareLF(t *testing.T) {
	for _, head := range []string{"GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\nHost: a\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\n", "\n"} {
		if _, _, err := parseHeadOf(head); err == nil || err.reason == "incomplete" {
			t.Errorf("%q: %v, want it refused", head, err)
		}
	}
}

func TestReadsRequests(t *testing.T) {
	type want struct {
		method, scheme, authority, path, upgrade string
		version                                  proxy.Version
		length                                   int64
		expect, last                             bool
		fields                                   string
	}
	for _, c := range []struct {
		head string
		want want
	}{
		{"GET /a?b HTTP/1.1\nHost: x:1\n\n",
			want{method: "GET", scheme: "http", authority: "x:1", path: "/a?b", version: proxy.HTTP11, fields: "Host=x:1;"}},
		{"GET /caf\xc3\xa9 HTTP/1.1\nHOST:\t[::1]:80 \n\n",
			want{method: "GET", scheme: "http", authority: "[::1]:80", path: "/caf\xc3\xa9", version: proxy.HTTP11, fields: "HOST=[::1]:80;"}},
		// RFC 9112 section 3.2.2: absolute-form overrides Host.
		{"GET http://b.example/x HTTP/1.1\nA: b\nHost: a\n\n",
			want{method: "GET", scheme: "http", authority: "b.example", path: "/x", version: proxy.HTTP11, fields: "A=b;Host=b.example;"}},
		{"GET HTTPS://b.example HTTP/1.1\nHost: a\n\n",
			want{method: "GET", scheme: "https", authority: "b.example", path: "/", version: proxy.HTTP11, fields: "Host=b.example;"}},
		{"GET http://b?q HTTP/1.0\n\n",
			want{method: "GET", scheme: "http", authority: "b", path: "/?q", version: proxy.HTTP10, last: true}},
		{"OPTIONS http://b HTTP/1.1\nHost: b\n\n",
			want{method: "OPTIONS", scheme: "http", authority: "b", path: "*", version: proxy.HTTP11, fields: "Host=b;"}},
		{"OPTIONS * HTTP/1.1\nHost:\n\n",
			want{method: "OPTIONS", scheme: "http", path: "*", version: proxy.HTTP11, fields: "Host=;"}},
		{"CONNECT db:5432 HTTP/1.1\nHost: db\n\n",
			want{method: "CONNECT", authority: "db:5432", version: proxy.HTTP11, fields: "Host=db;"}},
		{"GET / HTTP/1.0\n\n",
			want{method: "GET", scheme: "http", path: "/", version: proxy.HTTP10, last: true}},
		{"GET / HTTP/1.0\nConnection: Keep-Alive\n\n",
			want{method: "GET", scheme: "http", path: "/", version: proxy.HTTP10}},
		{"GET / HTTP/1.7\nHost: a\nConnection: x, close\nX: 1\n\n",
			want{method: "GET", scheme: "http", authority: "a", path: "/", version: proxy.HTTP11, last: true, fields: "Host=a;"}},
		{"POST / HTTP/1.1\nHost: a\nContent-Length: 007\nExpect: 100-Continue\n\n",
			want{method: "POST", scheme: "http", authority: "a", path: "/", version: proxy.HTTP11, length: 7, expect: true, fields: "Host=a;Content-Length=007;Expect=100-Continue;"}},
		// RFC 9110 section 10.1.1: "MUST ignore that expectation" in HTTP/1.0.
		{"POST / HTTP/1.0\nContent-Length: 7\nExpect: 100-continue\n\n",
			want{method: "POST", scheme: "http", path: "/", version: proxy.HTTP10, length: 7, last: true, fields: "Content-Length=7;"}},
		{"PUT / HTTP/1.1\nHost: a\nTransfer-Encoding: Chunked\nTrailer: x\n\n",
			want{method: "PUT", scheme: "http", authority: "a", path: "/", version: proxy.HTTP11, length: -1, fields: "Host=a;Trailer=x;"}},
		{"GET / HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Key: k\n\n",
			want{method: "GET", scheme: "http", authority: "a", path: "/", version: proxy.HTTP11, upgrade: "websocket", fields: "Host=a;Sec-WebSocket-Key=k;"}},
		{"GET / HTTP/1.1\nHost: a\nUpgrade: websocket\n\n",
			want{method: "GET", scheme: "http", authority: "a", path: "/", version: proxy.HTTP11, fields: "Host=a;"}},
		{"GET / HTTP/1.1\nHost: a\nConnection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\n\n",
			want{method: "GET", scheme: "http", authority: "a", path: "/", version: proxy.HTTP11, fields: "Host=a;"}},
		{"GET / HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: h2c, H2C, foo/2\n\n",
			want{method: "GET", scheme: "http", authority: "a", path: "/", version: proxy.HTTP11, upgrade: "foo/2", fields: "Host=a;"}},
		{"POST / HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: foo\nContent-Length: 1\n\n",
			want{method: "POST", scheme: "http", authority: "a", path: "/", version: proxy.HTTP11, length: 1, fields: "Host=a;Content-Length=1;"}},
		{"GET / HTTP/1.0\nHost: a\nConnection: Upgrade\nUpgrade: foo\n\n",
			want{method: "GET", scheme: "http", authority: "a", path: "/", version: proxy.HTTP10, last: true, fields: "Host=a;"}},
		// Connection names what it must not: it stays.
		{"GET / HTTP/1.1\nHost: a\nConnection: host, cache-control, authorization, X-y\nAuthorization: b\nCache-Control: c\nx-Y: z\nDate: d\n\n",
			want{method: "GET", scheme: "http", authority: "a", path: "/", version: proxy.HTTP11, fields: "Host=a;Authorization=b;Cache-Control=c;Date=d;"}},
	} {
		req, h, err := parseHeadOf(crlf(c.head))
		if err != nil {
			t.Errorf("%q: %v", c.head, err)
			continue
		}
		got := want{req.Method, req.Scheme, req.Authority, req.Path, req.Upgrade, req.Version, req.Length, req.Expect, !h.persistent(req.Version), ""}
		for _, f := range req.Fields {
			got.fields += f.Name + "=" + f.Value + ";"
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q:\n got %+v\nwant %+v", c.head, got, c.want)
		}
	}
}

func TestReadsResponses(t *testing.T) {
	for _, c := range []struct {
		method, head string
		want         string // "" for refused
	}{
		{"GET", "HTTP/1.1 200 OK\nA: b\n\n", "200 OK -1"},
		{"GET", "HTTP/1.1 200\n\n", "200  -1"},
		{"GET", "HTTP/1.1 200 \n\n", "200  -1"},
		{"GET", "HTTP/1.1 404 Not \xe9 Found\nContent-Length: 3\n\n", "404 Not \xe9 Found 3"},
		{"GET", "HTTP/1.0 299 x\nContent-Length: 3\n\n", "299 x 3"},
		// RFC 9112 section 6.3 lets a recipient take the one value of identical ones.
		{"GET", "HTTP/1.1 200 OK\nContent-Length: 3\nContent-Length: 3\n\n", "200 OK 3"},
		{"GET", "HTTP/1.1 200 OK\nContent-Length: 3, 3\n\n", "200 OK 3"},
		{"GET", "HTTP/1.1 200 OK\nContent-Length: 3\nContent-Length: 4\n\n", ""},
		{"GET", "HTTP/1.1 200 OK\nContent-Length: 3\nTransfer-Encoding: chunked\n\n", ""},
		{"GET", "HTTP/1.1 200 OK\nTransfer-Encoding: gzip\n\n", ""},
		{"GET", "HTTP/1.0 200 OK\nTransfer-Encoding: chunked\n\n", ""},
		{"CONNECT", "HTTP/1.1 200 OK\nContent-Length: 3\nTransfer-Encoding: chunked\n\n", "200 OK 3"},
		{"GET", "HTTP/2.0 200 OK\n\n", ""},
		{"GET", "HTTP/1.1 20 OK\n\n", ""},
		{"GET", "HTTP/1.1 2000 OK\n\n", ""},
		{"GET", "HTTP/1.1 099 OK\n\n", ""},
		{"GET", "HTTP/1.1  200 OK\n\n", ""},
		{"GET", "HTTP/1.1 200 O\x00K\n\n", ""},
		{"GET", "ICY 200 OK\n\n", ""},
		{"GET", "HTTP/1.1 200 OK\nA : b\n\n", ""},
		{"GET", "HTTP/1.1 200 OK\nA: b\n c\n\n", ""},
	} {
		b := []byte(crlf(c.head))
		resp, h := new(proxy.Response), new(head)
		err := parseResponse(b, &proxy.Request{Method: c.method}, resp, h, nil)
		got := ""
		if err == nil {
			got = fmt.Sprintf("%d %s %d", resp.Status, resp.Reason, resp.Length)
		}
		if got != c.want {
			t.Errorf("%s: %q: got %q, %v, want %q", c.method, c.head, got, err, c.want)
		}
	}
}

const typical = "GET /api/v1/orders?limit=10 HTTP/1.1\r\nHost: orders.example.com\r\nUser-Agent: Go-http-client/1.1\r\n" +
	"Accept: application/json\r\nAccept-Encoding: gzip\r\nX-Request-Id: 2c1f9a3e-77a0-4a41-9f0c-6a6f3fd0a0ab\r\n" +
	"Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n"

func TestParseAllocatesNothing(t *testing.T) {
	b := []byte(typical)
	req, h := new(proxy.Request), new(head)
	n := testing.AllocsPerRun(100, func() {
		if _, _, err := scanHead(b, 0); err != nil {
			t.Fatal(err)
		}
		if err := parseRequest(b, req, h, nil); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for a request head, want 0", n)
	}
}

func BenchmarkParseRequest(b *testing.B) {
	p := []byte(typical)
	req, h := new(proxy.Request), new(head)
	b.ReportAllocs()
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		if end, _, _ := scanHead(p, 0); end != len(p) {
			b.Fatal(end)
		}
		if err := parseRequest(p, req, h, nil); err != nil {
			b.Fatal(err)
		}
	}
}
