package http2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	xhttp2 "golang.org/x/net/http2"
)

// wantCode checks that err is a *proxy.Error of this kind.
func wantCode(t *testing.T, what string, err error, code proxy.Code, unsent bool) {
	t.Helper()
	var e *proxy.Error
	if !errors.As(err, &e) || e.Code != code || e.Unsent != unsent {
		t.Errorf("%s: error %v (%+v), want code %s, unsent %v", what, err, e, code, unsent)
	}
}

// until waits in a task for Canceled.
type left struct {
	gate task.Gate
	err  error
	done chan struct{}
}

func (l *left) Canceled(err error) {
	l.err = err
	close(l.done)
	l.gate.Wake()
}

// stall is a handler that waits for its client to leave, and says so on the channel.
func stall(gone chan error) handler {
	return func(req *proxy.Request, resp *proxy.Response) error {
		l := &left{done: make(chan struct{})}
		req.Shard.Gate(&l.gate)
		if _, err := req.Cancel.Watch(l); err != nil {
			gone <- err
			return err
		}
		l.gate.Wait(req.Shard.Now().Add(30 * time.Second))
		err := req.Cancel.Err()
		select {
		case gone <- err:
		default:
		}
		if err == nil {
			err = errors.New("nobody left")
		}
		return err
	}
}

func TestCancelResets(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		gone := make(chan error, 1)
		req := get("/")
		var first sync.Once
		l := newLink(t, s, Config{Handler: handler(func(got *proxy.Request, resp *proxy.Response) error {
			first.Do(func() {
				cancel := req.Cancel
				s.Post(func() { cancel.Cancel(errors.New("client left")) })
			})
			return stall(gone)(got, resp)
		})}, Config{})
		defer l.close()
		l.do(func() {
			var resp proxy.Response
			wantCode(t, "RoundTrip", l.client.RoundTrip(req, &resp), proxy.ClientGone, false)

			req = get("/")
			req.Cancel.Cancel(errors.New("left before"))
			wantCode(t, "RoundTrip", l.client.RoundTrip(req, &resp), proxy.ClientGone, true)

			req = get("/")
			req.Deadline = s.Now().Add(100 * time.Millisecond)
			wantCode(t, "RoundTrip", l.client.RoundTrip(req, &resp), proxy.Timeout, false)
		})
		if err := <-gone; err == nil {
			t.Error("the handler was not told that its client left")
		}
	})
}

func TestErrorsOfTheAnswer(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		r := rawServer(t, s, Config{})
		defer r.close()
		call := func(script func(id uint32)) (status int, body string, err error) {
			t.Helper()
			done := proxytest.Go(s, func() {
				var resp proxy.Response
				if err = r.c.RoundTrip(post("/", text("x"), 1), &resp); err == nil {
					status = resp.Status
					body, err = readAll(resp.Body)
					if resp.Body != nil {
						resp.Body.Close()
						if cut := resp.Body.(proxy.Truncater).Truncated(); cut != err {
							t.Errorf("truncated: %v, want what reading gave, %v", cut, err)
						}
					}
					resp.Close()
				}
			})
			script(r.untilHeaders(0).StreamID)
			proxytest.Wait(t, done)
			return
		}
		_, _, err := call(func(id uint32) { r.WriteRSTStream(id, xhttp2.ErrCodeRefusedStream) })
		wantCode(t, "refused", err, proxy.Refused, true)
		_, _, err = call(func(id uint32) { r.WriteRSTStream(id, xhttp2.ErrCodeInternal) })
		wantCode(t, "reset", err, proxy.PeerReset, false)
		_, body, err := call(func(id uint32) {
			r.headers(id, false, ":status", "200")
			r.WriteData(id, false, []byte("part"))
			r.WriteRSTStream(id, xhttp2.ErrCodeInternal)
		})
		wantCode(t, "reset in the body after "+body, err, proxy.PeerReset, false)
		_, _, err = call(func(id uint32) {
			r.headers(id, false, ":status", "200", "content-length", "9")
			r.WriteData(id, true, []byte("short"))
		})
		wantCode(t, "short body", err, proxy.PeerReset, false)
		for _, fields := range [][]string{{":status", "20"}, {":status", "101"}, {"x", "y"}, {":status", "200", "Upper", "x"},
			{":status", "200", "connection", "close"}, {":status", "200", "a", " b"}, {":status", "200", ":path", "/"}} {
			_, _, err = call(func(id uint32) {
				r.headers(id, true, fields...)
				if got := r.untilReset(id); got != xhttp2.ErrCodeProtocol {
					t.Errorf("%q: reset with %v, want PROTOCOL_ERROR", fields, got)
				}
			})
			wantCode(t, strings.Join(fields, " "), err, proxy.PeerReset, false)
		}
		status, body, err := call(func(id uint32) {
			r.headers(id, true, ":status", "413")
			r.WriteRSTStream(id, xhttp2.ErrCodeNo)
		})
		if status != 413 || err != nil {
			t.Errorf("NO_ERROR after a complete answer: %d %q, %v", status, body, err)
		}
		_, _, err = call(func(id uint32) { r.WriteGoAway(id-2, xhttp2.ErrCodeNo, nil) })
		wantCode(t, "GOAWAY below the stream", err, proxy.Refused, true)
		proxytest.Do(t, s, func() {
			if n := r.c.Available(); n != 0 {
				t.Errorf("Available = %d after GOAWAY, want 0", n)
			}
			wantCode(t, "after GOAWAY", r.c.RoundTrip(get("/"), new(proxy.Response)), proxy.Refused, true)
		})
	})
}

func TestConnectionLost(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		r := rawServer(t, s, Config{})
		var err error
		done := proxytest.Go(s, func() { err = r.c.RoundTrip(get("/"), new(proxy.Response)) })
		r.untilHeaders(1)
		r.close()
		proxytest.Wait(t, done)
		wantCode(t, "RoundTrip", err, proxy.PeerReset, false)
	})
}

// An answer may come before the request is complete: the rest of it is refused without spoiling the answer.
func TestEarlyAnswer(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		l := newLink(t, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			resp.Status, resp.Length, resp.Body = 413, 8, text("too much")
			return nil
		})}, Config{})
		defer l.close()
		l.do(func() {
			body := &content{parts: [][]byte{make([]byte, 8<<20)}, wait: func(int) { s.Sleep(10 * time.Millisecond) }}
			var resp proxy.Response
			if err := l.client.RoundTrip(post("/", body, 8<<20), &resp); err != nil {
				t.Error(err)
				return
			}
			if got, err := readAll(resp.Body); resp.Status != 413 || got != "too much" || err != nil {
				t.Errorf("got %d %q, %v", resp.Status, got, err)
			}
			resp.Close()
			if err := l.client.RoundTrip(get("/"), &resp); err != nil {
				t.Errorf("next exchange: %v", err)
			}
			resp.Close()
		})
	})
}

// An answer is not lost where somebody still waits for more of the request's content when that is not wanted any more, whether the handler says so
// or has come to its end; and who waits does not take what is there for the whole.
func TestAnswerWhileContentIsAwaited(t *testing.T) {
	for _, closes := range []bool{true, false} {
		proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
			s := rt.Shards()[0]
			readers := make(chan error, 1)
			l := newLink(t, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
				body := req.Body.(*requestBody)
				if n, err := body.Read(make([]byte, 10)); n != 5 || err != nil {
					t.Errorf("got %d bytes, %v", n, err)
				}
				s.Go(func() {
					_, err := body.Read(make([]byte, 10))
					readers <- err
				})
				for waiting := 0; waiting == 0; {
					s.Yield()
					s.Lock()
					waiting = body.st.waiting
					s.Unlock()
				}
				resp.Status, resp.Length, resp.Body = 200, 2, text("ok")
				if closes {
					body.Close()
					for len(readers) == 0 {
						s.Yield()
					}
				}
				return nil
			})}, Config{})
			defer l.close()
			l.do(func() {
				for i := range 50 {
					answered := false
					late := &interrupted{text("hello"), func() { await(s, &answered) }}
					var resp proxy.Response
					err := l.client.RoundTrip(post("/", late, int64(10-11*(i%2))), &resp) // -1 is an unknown length
					if err == nil {
						var got string
						if got, err = readAll(resp.Body); got != "ok" {
							t.Errorf("closed %v: got %d %q, %v", closes, resp.Status, got, err)
						}
					}
					if err != nil {
						t.Errorf("closed %v: %v", closes, err)
					}
					s.Lock()
					answered = true
					s.Unlock()
					resp.Close()
					for len(readers) == 0 {
						s.Yield()
					}
					if err := <-readers; err == nil || err == io.EOF {
						t.Errorf("closed %v: the reader got %v", closes, err)
					}
				}
			})
		})
	}
}

// interrupted is content whose end does not come before until returns, and is then an error.
type interrupted struct {
	*content
	until func()
}

func (b *interrupted) Read(p []byte) (int, error) {
	if b.i == len(b.parts) {
		b.until()
		return 0, errors.New("never")
	}
	return b.content.Read(p)
}

func (b *interrupted) Buffered() int { return max(0, b.content.Buffered()) }

// await waits, in a task, until ok has been set.
func await(s task.Shard, ok *bool) {
	for done := false; !done; {
		s.Sleep(time.Millisecond)
		s.Lock()
		done = *ok
		s.Unlock()
	}
}

func TestHeadsWithoutContent(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		l := newLink(t, rt.Shards()[0], Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			fmt.Sscan(req.Path[1:], &resp.Status)
			if req.Method == "HEAD" || resp.Status == 304 {
				resp.Length = 1234
			}
			if resp.Status == 200 && req.Method == "GET" {
				resp.Fields.Add("grpc-status", "12") // trailers only
			}
			return nil
		})}, Config{})
		defer l.close()
		l.do(func() {
			for _, x := range []struct {
				method, path string
				status       int
				length       int64
			}{{"HEAD", "/200", 200, 1234}, {"GET", "/304", 304, 1234}, {"GET", "/204", 204, 0}, {"GET", "/200", 200, 0}, {"DELETE", "/404", 404, 0}} {
				req := get(x.path)
				req.Method = x.method
				var resp proxy.Response
				if err := l.client.RoundTrip(req, &resp); err != nil {
					t.Error(err)
					continue
				}
				if resp.Status != x.status || resp.Length != x.length || resp.Body != nil {
					t.Errorf("%s %s: %d, length %d, body %v, want %d, %d, none", x.method, x.path, resp.Status, resp.Length, resp.Body, x.status, x.length)
				}
				if x.path == "/200" && x.method == "GET" && resp.Fields.Get("grpc-status") != "12" {
					t.Error("trailers-only answer lost its grpc-status")
				}
				resp.Close()
			}
		})
	})
}

func TestInformAndExpect(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		l := newLink(t, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			if !req.Expect {
				t.Error("Expect is not set")
			}
			req.Inform(103, proxy.Fields{{Name: "Link", Value: "</a>"}})
			s.Sleep(20 * time.Millisecond)
			return echo(req, resp)
		})}, Config{})
		defer l.close()
		l.do(func() {
			var got []string
			var read atomic.Bool
			body := text("late")
			body.wait = func(int) { read.Store(true) }
			req := post("/", body, 4)
			req.Expect = true
			req.Inform = func(status int, fields proxy.Fields) {
				if status == 103 && read.Load() {
					t.Error("the body was read before 100 (Continue)")
				}
				got = append(got, fmt.Sprint(status, fields))
			}
			var resp proxy.Response
			before := s.Now()
			if err := l.client.RoundTrip(req, &resp); err != nil {
				t.Error(err)
				return
			}
			if b, err := readAll(resp.Body); b != "late" || err != nil {
				t.Errorf("body = %q, %v", b, err)
			}
			resp.Close()
			if want := "[103 [{link </a>}] 100 []]"; fmt.Sprint(got) != want {
				t.Errorf("informed of %v, want %s", got, want)
			}
			if d := s.Now().Sub(before); d > 900*time.Millisecond {
				t.Errorf("took %v: 100 (Continue) did not end the wait", d)
			}
		})
	})
}

// Each part of a stream of events arrives on its own, before the next exists.
func TestEventsAreFlushed(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		var go1 task.Gate
		proxytest.Call(t, s, func() { s.Gate(&go1) })
		l := newLink(t, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			resp.Status, resp.Length = 200, proxy.Unknown
			resp.Body = &gated{parts: []string{"data: 1\n\n", "data: 2\n\n", "data: 3\n\n"}, gate: &go1}
			return nil
		})}, Config{})
		defer l.close()
		l.do(func() {
			var resp proxy.Response
			if err := l.client.RoundTrip(get("/"), &resp); err != nil {
				t.Error(err)
				return
			}
			p := make([]byte, 100)
			for i := range 3 {
				go1.Wake()
				n, err := resp.Body.Read(p)
				if want := fmt.Sprintf("data: %d\n\n", i+1); string(p[:n]) != want || err != nil {
					t.Errorf("read %q, %v, want %q", p[:n], err, want)
				}
			}
			go1.Wake()
			if n, err := resp.Body.Read(p); err != io.EOF {
				t.Errorf("read %q, %v, want the end", p[:n], err)
			}
			resp.Close()
		})
	})
}

// gated gives one part per wake of its gate.
type gated struct {
	parts []string
	gate  *task.Gate
}

func (b *gated) Read(p []byte) (int, error) {
	b.gate.Wait(0)
	if len(b.parts) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.parts[0])
	b.parts = b.parts[1:]
	return n, nil
}
func (b *gated) Buffered() int          { return 0 }
func (b *gated) Trailers() proxy.Fields { return nil }
func (b *gated) Close() error           { return nil }

// A broken content never looks complete.
func TestBrokenContentIsReset(t *testing.T) {
	proxytest.PanickyRuntimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		l := newLink(t, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			resp.Status, resp.Length = 200, proxy.Unknown
			switch req.Path {
			case "/error":
				resp.Body = &content{parts: [][]byte{[]byte("part")}, err: errors.New("app died")}
			case "/short":
				resp.Length, resp.Body = 9, text("part")
			case "/long":
				resp.Length, resp.Body = 2, text("part")
			case "/panic":
				panic("on purpose")
			case "/x": // an answer before the content has ended would be a good one
				_, err := readAll(req.Body)
				return err
			}
			return nil
		})}, Config{})
		defer l.close()
		l.do(func() {
			for _, path := range []string{"/error", "/short", "/long", "/panic"} {
				var resp proxy.Response
				err := l.client.RoundTrip(get(path), &resp)
				if err == nil {
					_, err = readAll(resp.Body)
					resp.Close()
				}
				wantCode(t, path, err, proxy.PeerReset, false)
			}
			var resp proxy.Response
			body := &content{parts: [][]byte{[]byte("part")}, err: errors.New("client died")}
			wantCode(t, "request", l.client.RoundTrip(post("/x", body, proxy.Unknown), &resp), proxy.ClientGone, false)
		})
	})
}

func TestPillionKeepsNames(t *testing.T) {
	fields := proxy.Fields{{Name: "Host", Value: "Orders"}, {Name: "X-Signed-By", Value: "me"}, {Name: "accept", Value: "*/*"}}
	run := func(t *testing.T, s task.Shard, server, client bool) (seen proxy.Fields, resp proxy.Response) {
		l := newLink(t, s, Config{Pillion: server, Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			seen = append(seen[:0], req.Fields...)
			resp.Status, resp.Reason = 200, "Fine With Me"
			resp.Fields.Add("ETag", "1")
			return nil
		})}, Config{Pillion: client})
		defer l.close()
		l.do(func() {
			for i := range 3 {
				if i == 0 {
					for range 1000 { // until the SETTINGS are there
						if l.client.Stats().Ready {
							break
						}
						s.Sleep(10 * time.Millisecond)
					}
				}
				resp.Close()
				req := get("/")
				req.Authority, req.Fields = "Orders", fields
				if err := l.client.RoundTrip(req, &resp); err != nil {
					t.Error(err)
				}
			}
		})
		return
	}
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		seen, resp := run(t, s, true, true)
		if fmt.Sprint(seen) != fmt.Sprint(fields) || resp.Reason != "Fine With Me" || resp.Fields[0].Name != "ETag" {
			t.Errorf("between pillions: request %v, answer %q %v", seen, resp.Reason, resp.Fields)
		}
		for _, one := range []bool{true, false} {
			seen, resp = run(t, s, one, !one)
			if fmt.Sprint(seen) != "[{x-signed-by me} {accept */*}]" || resp.Reason != "" || resp.Fields[0].Name != "etag" {
				t.Errorf("to others: request %v, answer %q %v", seen, resp.Reason, resp.Fields)
			}
		}
	})
}

// Before the server's SETTINGS have come, a client sends what any server takes.
func TestPillionWaitsForSettings(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		tc, nc := proxytest.Pair(t, s)
		r := newRaw(t, nc)
		proxytest.Call(t, s, func() {
			r.c = NewClient(s, tc, Config{Pillion: true})
			s.Go(func() { r.ended <- r.c.Serve(nil) })
		})
		defer r.close()
		io.ReadFull(nc, make([]byte, len(preface)))
		done := proxytest.Go(s, func() {
			req := get("/")
			req.Fields = proxy.Fields{{Name: "X-Case", Value: "1"}}
			r.c.RoundTrip(req, new(proxy.Response))
		})
		for {
			f, err := r.ReadFrame() // and no SETTINGS from here
			if err != nil {
				t.Fatal(err)
			}
			if h, ok := f.(*xhttp2.MetaHeadersFrame); ok {
				if got := h.RegularFields()[0].Name; got != "x-case" {
					t.Errorf("before SETTINGS the name is %q, want lower case", got)
				}
				break
			}
		}
		r.nc.Close()
		proxytest.Wait(t, done)
	})
}

func TestCookieCrumbs(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		fields := make(chan string, 1)
		r := rawClient(t, rt.Shards()[0], Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			fields <- fmt.Sprint(req.Fields)
			resp.Status = 204
			return nil
		})})
		defer r.close()
		r.headers(1, true, ":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/", "cookie", "a=1", "x", "y", "cookie", "b=2", "cookie", "c=3")
		r.untilHeaders(1)
		if got, want := <-fields, "[{cookie a=1; b=2; c=3} {x y}]"; got != want {
			t.Errorf("fields = %s, want %s", got, want)
		}
	})
}

func TestMalformedRequests(t *testing.T) {
	base := []string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/"}
	with := func(more ...string) []string { return append(append([]string(nil), base...), more...) }
	cases := map[string][]string{
		"upper case":           with("X-A", "b"),
		"space in name":        with("x a", "b"),
		"empty name":           with("", "b"),
		"NUL in value":         with("a", "b\x00"),
		"newline in value":     with("a", "b\r\nc: d"),
		"leading blank":        with("a", " b"),
		"trailing tab":         with("a", "b\t"),
		"connection":           with("connection", "close"),
		"transfer-encoding":    with("transfer-encoding", "chunked"),
		"upgrade":              with("upgrade", "h2c"),
		"te":                   with("te", "gzip"),
		"two lengths":          with("content-length", "1", "content-length", "2"),
		"bad length":           with("content-length", "+0"),
		"host differs":         with("host", "b"),
		"two hosts":            with("host", "a", "host", "a"),
		"late pseudo":          with("a", "b", ":path", "/"),
		"double pseudo":        with(":path", "/"),
		"unknown pseudo":       with(":x", "/"),
		"private pseudo":       with(":reason", "x"),
		"status":               with(":status", "200"),
		"protocol, no CONNECT": with(":protocol", "websocket"),
		"no path":              {":method", "GET", ":scheme", "http", ":authority", "a"},
		"path with space":      {":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/ HTTP/1.1"},
		"relative path":        {":method", "GET", ":scheme", "http", ":authority", "a", ":path", "x"},
		"star":                 {":method", "GET", ":scheme", "http", ":authority", "a", ":path", "*"},
		"userinfo":             {":method", "GET", ":scheme", "http", ":authority", "u@a", ":path", "/"},
		"method with space":    {":method", "GET /", ":scheme", "http", ":authority", "a", ":path", "/"},
		"CONNECT with path":    {":method", "CONNECT", ":authority", "a:1", ":scheme", "http", ":path", "/"},
		"CONNECT to nobody":    {":method", "CONNECT"},
		"extended, no path":    {":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "a"},
	}
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		r := rawClient(t, rt.Shards()[0], Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			if req.Path != "/good" {
				t.Errorf("handled: %+v", req)
			}
			resp.Status = 204
			return nil
		})})
		defer r.close()
		id := uint32(1)
		for name, fields := range cases {
			r.headers(id, true, fields...)
			if got := r.untilReset(id); got != xhttp2.ErrCodeProtocol {
				t.Errorf("%s: reset with %v, want PROTOCOL_ERROR", name, got)
			}
			id += 2
		}
		r.get(id, "/good")
		r.untilHeaders(id)
	})
}

func TestHeadTooLarge(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		r := rawClient(t, rt.Shards()[0], Config{MaxHead: 8 << 10, Handler: handler(echo)})
		defer r.close()
		big := r.block(":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/", "x", strings.Repeat("x", 10<<10))
		r.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: big[:5000], EndStream: true})
		r.WriteContinuation(1, true, big[5000:])
		if got := r.untilHeaders(1).PseudoValue("status"); got != "431" {
			t.Errorf("status = %s, want 431", got)
		}
		r.get(3, "/")
		if got := r.untilHeaders(3).PseudoValue("status"); got != "200" {
			t.Errorf("status = %s, want 200: the table is out of step", got)
		}
	})
}

// A head larger than a frame goes out in CONTINUATION frames, and the other end takes it.
func TestLargeHeads(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		l := newLink(t, rt.Shards()[0], Config{Handler: handler(echo)}, Config{})
		defer l.close()
		l.do(func() {
			req := get("/")
			want := strings.Repeat("~", 40<<10)
			req.Fields = proxy.Fields{{Name: "x", Value: want}}
			var resp proxy.Response
			if err := l.client.RoundTrip(req, &resp); err != nil {
				t.Error(err)
				return
			}
			if got := resp.Fields.Get("x-got-x"); got != want {
				t.Errorf("got %d bytes, want %d", len(got), len(want))
			}
			resp.Close()
			req.Fields[0].Value = strings.Repeat("x", 70<<10)
			time.Sleep(0)
			wantCode(t, "more than the peer takes", l.client.RoundTrip(req, &resp), proxy.HeadTooLarge, true)
		})
	})
}

// The strings of a request may be overwritten once the exchange is over: no table may hold them.
func TestEncoderClones(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		l := newLink(t, rt.Shards()[0], Config{Handler: handler(echo)}, Config{})
		defer l.close()
		l.do(func() {
			for i := range 200 {
				mem := []byte(fmt.Sprintf("X-Name-%d=value-%d", i%7, i%5))
				eq := bytes.IndexByte(mem, '=')
				req := get("/")
				req.Fields = proxy.Fields{{Name: str(mem[:eq]), Value: str(mem[eq+1:])}}
				var resp proxy.Response
				if err := l.client.RoundTrip(req, &resp); err != nil {
					t.Error(err)
					return
				}
				if got, want := resp.Fields.Get(fmt.Sprintf("x-got-x-name-%d", i%7)), fmt.Sprintf("value-%d", i%5); got != want {
					t.Errorf("exchange %d: got %q, want %q", i, got, want)
				}
				resp.Close()
				for j := range mem {
					mem[j] = '!'
				}
			}
		})
	})
}
