package http1

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
)

// appendedRequest is the head of req as it is written without a memory.
func appendedRequest(req *proxy.Request) []byte {
	b, _ := appendRequest(nil, req, "", nil)
	return b
}

// FuzzRecalledRequests reads two heads in turns, as connections of one shard may bring them: whatever is remembered of them by then, each means what it
// means to a reader without a memory, and is written as one without a memory writes it.
func FuzzRecalledRequests(f *testing.F) {
	for _, c := range badRequests {
		f.Add([]byte(typical), []byte(crlf(c.head)))
	}
	f.Add([]byte(typical), []byte(crlf("GET / HTTP/1.0\nConnection: keep-alive, user-agent\nUser-Agent: Go-http-client/1.1\nTE: trailers, x\nHost: a\n\n")))
	f.Add([]byte(typical), []byte(strings.ToUpper(typical)))
	f.Add([]byte(crlf("POST / HTTP/1.1\nHost: a\nContent-Length: 3\n\n")), []byte(crlf("POST / HTTP/1.1\nContent-Length: 3\nHost:  a\n\n")))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		a, b = bytes.Clone(a), bytes.Clone(b)
		in, out := NewMemory(new(fakeShard)), NewMemory(new(fakeShard))
		for range 6 {
			for _, head := range [][]byte{a, a, b, b, a, b} {
				sameRequest(t, head, in, out)
			}
		}
	})
}

// sameRequest reads b with and without a memory, and writes what came of it.
func sameRequest(t *testing.T, b []byte, in, out *Memory) {
	t.Helper()
	end, _, _ := scanHead(b, 0)
	if end == 2 {
		end = 0
	}
	want, got, wantHead, gotHead := new(proxy.Request), new(proxy.Request), new(head), new(head)
	var wantErr, gotErr *badMessage
	const most = 4 << 10
	if end > 0 && end <= most {
		wantErr = parseRequest(b[:end], want, wantHead, nil)
	}
	n, gotErr := recallRequest(b, most, got, gotHead, in)
	if n != 0 && n != end {
		t.Fatalf("%q: %d bytes of head in memory, want %d or none", b, n, end)
	}
	if end == 0 || end > most {
		return
	}
	if n == 0 {
		gotErr = parseRequest(b[:end], got, gotHead, in)
	}
	gotHead.valid = wantHead.valid // it may be known or not
	if !reflect.DeepEqual(gotErr, wantErr) || wantErr == nil && (!sameMessage(got, want) || !sameHead(gotHead, wantHead)) {
		t.Fatalf("%q, %d of it in memory:\ngot  %+v %+v %v\nwant %+v %+v %v", b, n, got, gotHead, gotErr, want, wantHead, wantErr)
	}
	if wantErr != nil {
		return
	}
	for _, v := range []proxy.Version{proxy.HTTP11, proxy.HTTP2} {
		want.Version = v
		wrote, ok := appendRequest(nil, want, "", out)
		plain, safe := appendRequest(nil, want, "", nil)
		if !bytes.Equal(wrote, plain) || ok != safe {
			t.Fatalf("%q is written as\n%q, %v; without a memory\n%q, %v", b, wrote, ok, plain, safe)
		}
	}
}

func sameMessage(a, b *proxy.Request) bool {
	x, y := *a, *b
	if len(x.Fields) == 0 && len(y.Fields) == 0 {
		x.Fields, y.Fields = nil, nil
	}
	return reflect.DeepEqual(x, y)
}

func sameHead(a, b *head) bool {
	x, y := *a, *b
	if len(x.options) == 0 && len(y.options) == 0 {
		x.options, y.options = nil, nil
	}
	return reflect.DeepEqual(x, y)
}

// FuzzRecalledAnswers is the same for answers.
func FuzzRecalledAnswers(f *testing.F) {
	const usual = "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n"
	for _, s := range []string{"HTTP/1.1 200 OK\n\n", "HTTP/1.0 404\nContent-Length: 3\nConnection: close, x\nX: y\n\n", "HTTP/1.1 200 Fine\nServer: x\nContent-Length: 01024\n\n",
		"HTTP/1.1 101 Switching\nUpgrade: websocket\nConnection: upgrade\n\n", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTrailer: a\n\n", "HTTP/1.1 200 OK\nServer: x\nContent-Length: 2\n\n"} {
		f.Add([]byte(usual), []byte(crlf(s)), int64(1024))
	}
	f.Fuzz(func(t *testing.T, a, b []byte, length int64) {
		a, b = bytes.Clone(a), bytes.Clone(b)
		in, out := NewMemory(new(fakeShard)), NewMemory(new(fakeShard))
		for range 6 {
			for _, head := range [][]byte{a, a, b, b, a, b} {
				sameAnswer(t, head, length, in, out)
			}
		}
	})
}

func sameAnswer(t *testing.T, b []byte, length int64, in, out *Memory) {
	t.Helper()
	end, _, _ := scanHead(b, 0)
	if end == 2 {
		end = 0
	}
	want, got, wantHead, gotHead := new(proxy.Response), new(proxy.Response), new(head), new(head)
	req := &proxy.Request{Method: "GET"}
	var wantErr, gotErr *badMessage
	const most = 4 << 10
	if end > 0 && end <= most {
		wantErr = parseResponse(b[:end], req, want, wantHead, nil)
	}
	n, gotErr := recallResponse(b, most, req, got, gotHead, in)
	if n != 0 && n != end {
		t.Fatalf("%q: %d bytes of head in memory, want %d or none", b, n, end)
	}
	if end == 0 || end > most {
		return
	}
	if n == 0 {
		gotErr = parseResponse(b[:end], req, got, gotHead, in)
	}
	gotHead.valid = wantHead.valid
	if len(got.Fields) == 0 {
		got.Fields = want.Fields
	}
	if !reflect.DeepEqual(gotErr, wantErr) || wantErr == nil && (!reflect.DeepEqual(got, want) || !sameHead(gotHead, wantHead)) {
		t.Fatalf("%q, %d of it in memory:\ngot  %+v %+v %v\nwant %+v %+v %v", b, n, got, gotHead, gotErr, want, wantHead, wantErr)
	}
	if wantErr != nil {
		return
	}
	for _, trusted := range []bool{true, false} {
		for _, length := range []int64{want.Length, length, -1} {
			wrote, ok := appendChecked(nil, want.Fields, length, trusted, out)
			plain, safe := appendChecked(nil, want.Fields, length, trusted, nil)
			if !bytes.Equal(wrote, plain) || ok != safe {
				t.Fatalf("%q with length %d is written as\n%q, %v; without a memory\n%q, %v", b, length, wrote, ok, plain, safe)
			}
		}
	}
}

// FuzzRecalledFields gives to write what no codec would have let through: what is in memory is refused as what is not.
func FuzzRecalledFields(f *testing.F) {
	for _, v := range []string{"a", "a\r\nb: c", "x: y", " a ", "", "\x00", "007", "7", "caf\xc3\xa9"} {
		for _, n := range []string{"Server", "Host", "content-length", "Te", "X:", "", "Connection", "Cookie"} {
			f.Add(n, v, "b", int64(7))
		}
	}
	f.Fuzz(func(t *testing.T, name, value, authority string, length int64) {
		m, n := NewMemory(new(fakeShard)), NewMemory(new(fakeShard))
		fields := proxy.Fields{{Name: name, Value: value}, {Name: "Accept", Value: "*/*"}, {Name: name, Value: value}}
		for i := range 8 {
			trusted := i%4 == 0
			wrote, ok := appendChecked(nil, fields, length, trusted, m)
			plain, safe := appendChecked(nil, fields, length, trusted, nil)
			if !bytes.Equal(wrote, plain) || ok != safe {
				t.Fatalf("%q: the answer is written as %q, %v; without a memory %q, %v", fields, wrote, ok, plain, safe)
			}
			req := &proxy.Request{Method: "POST", Path: "/", Authority: authority, Fields: fields, Version: proxy.HTTP2}
			if trusted {
				req.Version = proxy.HTTP11
			}
			wrote, ok = appendRequest(nil, req, "", n)
			plain, safe = appendRequest(nil, req, "", nil)
			if !bytes.Equal(wrote, plain) || ok != safe {
				t.Fatalf("%q: the request is written as %q, %v; without a memory %q, %v", fields, wrote, ok, plain, safe)
			}
		}
	})
}

// FuzzTarget compares the look at eight bytes at a time with that at each.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{"/", "/api/v1/orders?limit=10", "/a b/cdefgh", "/12345#7", "/1234567\x7f", "/caf\xc3\xa9/\xff\x80\x81\x82", "1234567\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, want := validTarget(s), all(s, isTarget); got != want {
			t.Fatalf("%q: got %v, want %v", s, got, want)
		}
	})
}

// What recurs is recalled as a whole from the third time on; lines that never are the same, or are secret, or long, are not kept.
func TestMemoryKeepsWhatRecurs(t *testing.T) {
	m := NewMemory(new(fakeShard))
	req, h := new(proxy.Request), new(head)
	read := func(head string) (recalled bool) {
		t.Helper()
		b := []byte(crlf(head))
		n, err := recallRequest(b, len(b), req, h, m)
		if n == 0 {
			err = parseRequest(b, req, h, m)
		}
		if err != nil {
			t.Fatalf("%q: %v", head, err)
		}
		return n > 0
	}
	const a, b = "GET /a HTTP/1.1\nHost: a\nAccept: */*\n\n", "POST /b HTTP/1.1\nHost: b\nContent-Length: 3\n\n"
	for i, want := range []bool{false, false, true, true} {
		if got := read(a); got != want {
			t.Errorf("time %d: recalled %v, want %v", i+1, got, want)
		}
	}
	read(b)
	read(b)
	if !read(a) || !read(b) {
		t.Error("two heads that recur are not both recalled")
	}
	for range 3 {
		if read("GET /a HTTP/1.1\nHost: a\nAuthorization: Basic x\n\n") {
			t.Error("a secret is kept")
		}
		if read("GET /a HTTP/1.1\nHost: a\nX: " + strings.Repeat("x", maxLine) + "\n\n") {
			t.Error("a long line is kept")
		}
	}
	for i := range 1000 {
		read(fmt.Sprintf("GET /%d HTTP/1.1\nHost: %d\nAccept: */*\n\n", i, i))
	}
	if !read(a) {
		t.Error("lines that never came twice have pushed out what recurs")
	}
	for range 3 {
		read("GET /c HTTP/1.1\nHost: c\nAccept: */*\n\n")
	}
	if !read("GET /c HTTP/1.1\nHost: c\nAccept: */*\n\n") {
		t.Error("what recurs now has no place, long after it was full")
	}
}

// A head counts for its size wherever its lines are kept.
func TestMemoryKeepsBounds(t *testing.T) {
	m := NewMemory(new(fakeShard))
	req, h := new(proxy.Request), new(head)
	b := []byte(typical)
	for range 3 {
		if err := parseRequest(b, req, h, m); err != nil {
			t.Fatal(err)
		}
	}
	for most := range len(b) + 2 {
		n, _ := recallRequest(b, most, req, h, m)
		if want := len(b); most < want && n != 0 || most >= want && n != want {
			t.Errorf("most %d: recalled %d", most, n)
		}
		if n, _ := recallRequest(b[:min(most, len(b)-1)], len(b), req, h, m); n != 0 {
			t.Errorf("recalled %d of %d bytes", n, most)
		}
	}
}

// BenchmarkHeads reads and writes heads that are always the same, and such of which the target and two fields never are, with and without a memory.
func BenchmarkHeads(b *testing.B) {
	for _, kind := range []string{"same", "varying"} {
		heads := make([][]byte, 1000)
		reqs := make([]*proxy.Request, len(heads))
		for i := range heads {
			n := i
			if kind == "same" {
				n = 0
			}
			vary := strings.NewReplacer("limit=10", fmt.Sprintf("limit=%06d", n), "2c1f9a3e-77a0", fmt.Sprintf("%08x-%04x", n*77777777, n),
				"0af7651916cd43dd8448eb211c80319c", fmt.Sprintf("%016x%016x", n*3333333333333, n*7777777777777))
			heads[i], reqs[i] = []byte(vary.Replace(typical)), new(proxy.Request)
			if err := parseRequest(heads[i], reqs[i], new(head), nil); err != nil {
				b.Fatal(err)
			}
			reqs[i].Version = proxy.HTTP2
		}
		for _, with := range []string{"plain", "memory"} {
			var m *Memory
			if with == "memory" {
				m = NewMemory(new(fakeShard))
			}
			b.Run(kind+"/read/"+with, func(b *testing.B) {
				b.ReportAllocs()
				req, h := new(proxy.Request), new(head)
				kept := make([]byte, 0, 1024)
				for i := 0; b.Loop(); i++ {
					x := heads[i%len(heads)]
					if n, _ := recallRequest(x, len(x), req, h, m); n > 0 {
						continue
					}
					end, _, _ := scanHead(x, 0)
					kept = append(kept[:0], x[:end]...)
					if err := parseRequest(kept, req, h, m); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(kind+"/write/"+with, func(b *testing.B) {
				b.ReportAllocs()
				buf := make([]byte, 0, 1024)
				for i := 0; b.Loop(); i++ {
					buf, _ = appendRequest(buf[:0], reqs[i%len(reqs)], "", m)
				}
			})
		}
	}
}
