package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
)

// FuzzRequestHead checks that what the parser accepts is forwarded as a head that the parser accepts and understands in
// the same way, and that net/http, which is more lenient, sees the same message in it.
func FuzzRequestHead(f *testing.F) {
	for _, c := range badRequests {
		f.Add([]byte(crlf(c.head)))
	}
	f.Add([]byte(typical))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		end, _, _ := scanHead(b, 0)
		req, h := new(proxy.Request), new(head)
		if end == 0 || end == 2 || parseRequest(b[:end], req, h, nil) != nil {
			return
		}
		for _, field := range req.Fields {
			if ours(field.Name) && !isLength(field.Name) || !isTokenString(field.Name) || strings.ContainsAny(field.Value, "\r\n\x00") {
				t.Fatalf("%q: field %q: %q was kept", b, field.Name, field.Value)
			}
			if n := proxy.NamesOf(field.Name); n != 0 && req.Lacks(n) {
				t.Fatalf("%q: layers will not look for field %q", b, field.Name)
			}
		}
		sameAsNetHTTP(t, b[:end], req)
		if req.Length != 0 {
			req.Body = new(proxy.Content) // its framing is what counts
		}
		again := appendedRequest(req)
		if end, _, err := scanHead(again, 0); end != len(again) {
			t.Fatalf("%q became %q, which ends at %d of %d: %v", b, again, end, len(again), err)
		}
		if req.Authority == "" && req.Method != "CONNECT" && !req.Fields.Has("Host") {
			return // HTTP/1.0 without a host
		}
		req2, h2 := new(proxy.Request), new(head)
		if err := parseRequest(again, req2, h2, nil); err != nil {
			t.Fatalf("%q became %q, which is refused: %v", b, again, err)
		}
		if req2.Method != req.Method || req2.Path != req.Path || req2.Authority != req.Authority || req2.Length != req.Length ||
			req2.Upgrade != req.Upgrade {
			t.Fatalf("%q became %q:\n%+v\n%+v", b, again, req, req2)
		}
	})
}

// sameAsNetHTTP compares the framing where net/http accepts the head too.
func sameAsNetHTTP(t *testing.T, b []byte, req *proxy.Request) {
	r, err := http.ReadRequest(bufio.NewReaderSize(bytes.NewReader(b), len(b)+16))
	if err != nil {
		return
	}
	length := req.Length
	chunked := len(r.TransferEncoding) == 1 && r.TransferEncoding[0] == "chunked"
	if r.Method != req.Method || chunked != (length == proxy.Unknown) || !chunked && r.ContentLength != length {
		t.Fatalf("%q: %s with length %d here, %s with %d %v in net/http", b, req.Method, length, r.Method, r.ContentLength, r.TransferEncoding)
	}
	if req.Authority != "" && r.Host != req.Authority {
		t.Fatalf("%q: authority %q here, %q in net/http", b, req.Authority, r.Host)
	}
}

// FuzzResponseHead is the same for answers.
func FuzzResponseHead(f *testing.F) {
	for _, s := range []string{"HTTP/1.1 200 OK\n\n", "HTTP/1.0 404\nContent-Length: 3\nConnection: close, x\nX: y\n\n",
		"HTTP/1.1 101 Switching\nUpgrade: websocket\nConnection: upgrade\n\n", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTrailer: a\n\n"} {
		f.Add([]byte(crlf(s)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		end, _, _ := scanHead(b, 0)
		req, resp, h := &proxy.Request{Method: "GET"}, new(proxy.Response), new(head)
		if end == 0 || end == 2 || parseResponse(b[:end], req, resp, h, nil) != nil {
			return
		}
		again := append(appendStatus(nil, resp.Status, resp.Reason, resp.Fields, resp.Length), "\r\n"...)
		resp2, h2 := new(proxy.Response), new(head)
		if end, _, err := scanHead(again, 0); end != len(again) {
			t.Fatalf("%q became %q, which ends at %d of %d: %v", b, again, end, len(again), err)
		}
		if err := parseResponse(again, req, resp2, h2, nil); err != nil || resp2.Status != resp.Status || len(resp2.Fields) != len(resp.Fields) {
			t.Fatalf("%q became %q: %v\n%+v\n%+v", b, again, err, resp, resp2)
		}
		r, err := http.ReadResponse(bufio.NewReaderSize(bytes.NewReader(b[:end]), end+16), nil)
		if err != nil || resp.Status == 101 || bodiless("GET", resp.Status) {
			return
		}
		chunked := len(r.TransferEncoding) == 1 && r.TransferEncoding[0] == "chunked"
		if r.StatusCode != resp.Status || chunked != h.chunked || !chunked && r.ContentLength != resp.Length {
			t.Fatalf("%q: %d with length %d here, %d with %d %v in net/http", b, resp.Status, resp.Length, r.StatusCode, r.ContentLength, r.TransferEncoding)
		}
	})
}

// decode takes a chunked content out of b, which comes step bytes at a time and is read size bytes at a time.
func decode(t *testing.T, b []byte, step, size int) (content []byte, rest int, err error) {
	s := new(fakeShard)
	r := &source{s: s, c: &fakeConn{in: b, step: step}}
	d := new(decoder)
	d.start(chunked, 0)
	p := make([]byte, size)
	for {
		n, err := d.read(r, p)
		content = append(content, p[:n]...)
		if err == nil && n == 0 {
			t.Fatalf("%q: a read of nothing", b)
		}
		if err != nil {
			rest = r.buffered() + len(r.c.(*fakeConn).in)
			r.drop()
			if s.out != 0 {
				t.Fatalf("%q: %d buffers are missing", b, s.out)
			}
			if err == io.EOF {
				err = nil
			}
			return content, rest, err
		}
	}
}

// FuzzChunks checks that a chunked content means the same in whatever pieces it comes, and the same as to net/http, which
// is more lenient, where it is accepted.
func FuzzChunks(f *testing.F) {
	for _, s := range []string{"0\n\n", "3\nabc\n0\n\n", "3;a=b\nabc\n2\nde\n0\nT: u\n\nrest", "3\nabcd\n0\n\n", "3 \nabc\n0\n\n",
		"ffffffffffffffff\n", "A\n0123456789\n00\n\n", "-1\n", "0x1\na\n0\n\n", "1\na\n0\nT : u\n\n", "\n", ";\n", "1;\x00\na\n0\n\n"} {
		f.Add([]byte(crlf(s)), uint8(1), uint8(7))
	}
	f.Fuzz(func(t *testing.T, b []byte, step, size uint8) {
		want, wantRest, wantErr := decode(t, b, 0, 4096)
		got, gotRest, gotErr := decode(t, b, int(step), 1+int(size))
		if (gotErr == nil) != (wantErr == nil) || wantErr == nil && (!bytes.Equal(got, want) || gotRest != wantRest) {
			t.Fatalf("%q: in pieces %q, %d left, %v; at once %q, %d left, %v", b, got, gotRest, gotErr, want, wantRest, wantErr)
		}
		if wantErr != nil {
			return
		}
		std, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(b)))
		if err != nil && !strings.Contains(err.Error(), "excess") || err == nil && !bytes.Equal(std, want) {
			t.Fatalf("%q: %q here, %q, %v in net/http", b, want, std, err)
		}
	})
}

// FuzzServe gives whole connections to a Server in pieces: it must answer, keep its buffers together and not panic.
func FuzzServe(f *testing.F) {
	f.Add([]byte(typical+typical), uint8(3))
	for _, c := range badRequests {
		f.Add([]byte(crlf(c.head)), uint8(0))
	}
	f.Add([]byte(crlf("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n3\nabc\n0\n\nGET / HTTP/1.0\n\n")), uint8(5))
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		var out bytes.Buffer
		s := new(fakeShard)
		asked := 0
		srv, err := NewServer(ServerConfig{Handler: proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			asked++
			resp.Status = 200
			if req.Body == nil {
				return nil
			}
			for p := make([]byte, 100); ; {
				if _, err := req.Body.Read(p); err == io.EOF {
					return nil
				} else if err != nil {
					return err
				}
			}
		})})
		if err != nil {
			t.Fatal(err)
		}
		c := &fakeConn{in: b, step: int(step), wrote: func(_ *fakeConn, p []byte) { out.Write(p) }}
		for !c.closed {
			srv.Serve(s, c, nil)
		}
		if s.out != 0 {
			t.Fatalf("%q: %d buffers are missing", b, s.out)
		}
		if n := strings.Count(out.String(), "HTTP/1.1 "); n < asked {
			t.Fatalf("%q: %d requests and %d answers: %q", b, asked, n, out.String())
		}
	})
}
