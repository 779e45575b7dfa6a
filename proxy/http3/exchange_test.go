package http3

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

func TestExchange(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		l := newLink(t, s, Config{Handler: handler(echo)}, Config{})
		defer l.close()
		for _, length := range []int{0, 1, 500, 511, 512, 513, 1200, 5000, 16368, 16384, 20000, 1 << 20} {
			for _, known := range []bool{true, false} {
				sent := strings.Repeat("x", length)
				req := post("/p", text(sent), int64(length))
				if !known {
					req.Length = proxy.Unknown
				}
				if length == 0 {
					req = get("/p")
				}
				var resp proxy.Response
				if err := l.client.RoundTrip(req, &resp); err != nil {
					t.Fatalf("%d bytes: %v", length, err)
				}
				got, err := readAll(resp.Body)
				if resp.Status != 200 || resp.Version != proxy.HTTP3 || err != nil || got != sent || resp.Length != int64(length) {
					t.Errorf("%d bytes: got %d, %d bytes of %d, %v", length, resp.Status, len(got), resp.Length, err)
				}
				if g := resp.Fields.Get("got"); g != "/p" {
					t.Errorf("got path %q", g)
				}
				resp.Close()
			}
		}
		l.quiet()
	})
}

// quiet waits until both ends have no streams and handlers left.
func (l *link) quiet() {
	l.t.Helper()
	proxytest.Eventually(l.t, "no streams are left", func() bool {
		c, s := l.client.Stats(), l.server.Stats()
		return c.Streams == 0 && s.Streams == 0 && s.Running == 0
	})
}

// do carries out req and fails the test if that fails.
func (l *link) do(req *proxy.Request) *proxy.Response {
	l.t.Helper()
	resp := new(proxy.Response)
	if err := l.client.RoundTrip(req, resp); err != nil {
		l.t.Fatalf("%s %s: %v", req.Method, req.Path, err)
	}
	return resp
}

func TestTrailers(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		l := newLink(t, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			got, err := readAll(req.Body)
			if err != nil {
				return err
			}
			b := text(got)
			b.trailers = append(proxy.Fields{{Name: "From", Value: "server"}}, req.Body.Trailers()...)
			resp.Status, resp.Body, resp.Length = 200, b, req.Length
			return nil
		})}, Config{})
		defer l.close()
		for _, length := range []int64{5, proxy.Unknown} {
			b := text("hello")
			b.trailers = proxy.Fields{{Name: "grpc-status", Value: "0"}, {Name: "X-Long", Value: strings.Repeat("y", 3000)}}
			resp := l.do(post("/", b, length))
			got, err := readAll(resp.Body)
			want := append(proxy.Fields{{Name: "from", Value: "server"}, {Name: "grpc-status", Value: "0"}}, proxy.Field{Name: "x-long", Value: strings.Repeat("y", 3000)})
			if err != nil || got != "hello" || !slices.Equal(resp.Body.Trailers(), want) {
				t.Errorf("length %d: got %q, %v, trailers %v", length, got, err, resp.Body.Trailers())
			}
			resp.Close()
		}
		l.quiet()
	})
}

func TestInforms(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		l := newLink(t, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			for i := range 3 {
				req.Inform(103, proxy.Fields{{Name: "Link", Value: fmt.Sprint(i)}})
			}
			req.Inform(101, nil) // HTTP/3 has none: dropped
			resp.Status = 204
			return nil
		})}, Config{})
		defer l.close()
		var got []string
		req := get("/")
		req.Inform = func(status int, fields proxy.Fields) { got = append(got, fmt.Sprint(status, " ", fields.Get("link"))) }
		resp := l.do(req)
		if want := []string{"103 0", "103 1", "103 2"}; !slices.Equal(got, want) || resp.Status != 204 {
			t.Errorf("got %v and %d, want %v", got, resp.Status, want)
		}
		resp.Close()
		l.quiet()
	})
}

// A body that waits for 100 (Continue) goes when that comes, and 100 comes when the body is wanted.
func TestExpect(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		l := newLink(t, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			if !req.Expect {
				t.Error("the server does not know of Expect")
			}
			if req.Path == "/refused" {
				resp.Status = 417
				return nil
			}
			return echo(req, resp)
		})}, Config{})
		defer l.close()
		req := post("/", text("hello"), 5)
		req.Expect = true
		continued := false
		req.Inform = func(status int, _ proxy.Fields) { continued = continued || status == 100 }
		resp := l.do(req)
		if got, err := readAll(resp.Body); got != "hello" || err != nil || !continued {
			t.Errorf("got %q, %v, 100 seen: %v", got, err, continued)
		}
		resp.Close()
		req = post("/refused", text("hello"), 5)
		req.Expect = true
		resp = l.do(req)
		if resp.Status != 417 {
			t.Errorf("got %d, want 417", resp.Status)
		}
		resp.Close()
		l.quiet()
	})
}

func TestNoContent(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		l := newLink(t, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			fmt.Sscan(req.Path[1:], &resp.Status)
			if resp.Status != 204 {
				resp.Length = 7
				resp.Body = text("content")
			}
			return nil
		})}, Config{})
		defer l.close()
		for _, c := range []struct {
			method, path string
			length       int64
			body         string
		}{
			{"HEAD", "/200", 7, ""},
			{"GET", "/204", 0, ""},
			{"GET", "/304", 7, ""},
			{"GET", "/200", 7, "content"},
		} {
			req := get(c.path)
			req.Method = c.method
			resp := l.do(req)
			got, err := readAll(resp.Body)
			if got != c.body || err != nil || resp.Length != c.length || (resp.Body == nil) != (c.body == "") {
				t.Errorf("%s %s: got %q, %v, length %d", c.method, c.path, got, err, resp.Length)
			}
			resp.Close()
		}
		l.quiet()
	})
}

// A body that does not have the length that was announced is a reset on the other side, never a shorter one that is complete.
func TestWrongLengths(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		read := make(chan error, 100)
		l := newLink(t, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			if req.Method == "POST" {
				_, err := readAll(req.Body)
				read <- err
				return err
			}
			resp.Status, resp.Length, resp.Body = 200, 10, text(req.Path)
			if req.Path == "/broken" {
				b := text("abc")
				b.err = errors.New("broke")
				resp.Length, resp.Body = proxy.Unknown, b
			}
			return nil
		})}, Config{})
		defer l.close()
		for _, path := range []string{"/short", "/much-too-long", "/broken"} {
			resp := new(proxy.Response)
			err := l.client.RoundTrip(get(path), resp)
			if err == nil {
				_, err = readAll(resp.Body)
				resp.Close()
			}
			var e *proxy.Error
			if !errors.As(err, &e) || e.Code != proxy.PeerReset {
				t.Errorf("%s: got %v, want a reset", path, err)
			}
			for _, length := range []int64{3, 10, proxy.Unknown} {
				b := text("abcdef")
				if length == proxy.Unknown {
					b.err = errors.New("broke")
				}
				err := l.client.RoundTrip(post("/", b, length), new(proxy.Response))
				if err == nil || !errors.As(err, &e) {
					t.Errorf("length %d for 6 bytes: got %v", length, err)
				}
			}
		}
		l.quiet()
		for range len(read) { // of those that were sent at all
			if err := <-read; err == nil || err == io.EOF {
				t.Errorf("the server got %v for a request of a wrong length", err)
			}
		}
	})
}

// The answer counts although the request's content was not wanted.
func TestAnswerBeforeTheRequestHasEnded(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		l := newLink(t, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			req.Body.Close()
			resp.Status, resp.Length, resp.Body = 403, 2, text("no")
			return nil
		})}, Config{})
		defer l.close()
		stop := make(chan struct{})
		endless := &parts{parts: slices.Repeat([][]byte{make([]byte, 10000)}, 2000), wait: func(i int) {
			if i == 1999 {
				<-stop
			}
		}}
		resp := l.do(post("/", endless, proxy.Unknown))
		got, err := readAll(resp.Body)
		if resp.Status != 403 || got != "no" || err != nil {
			t.Errorf("got %d %q, %v", resp.Status, got, err)
		}
		close(stop)
		resp.Close()
		l.quiet()
	})
}

// An answer is not lost where somebody still waits for more of the request's content when that is not wanted any more, whether the handler says so
// or has come to its end.
func TestAnswerWhileContentIsAwaited(t *testing.T) {
	for _, closes := range []bool{true, false} {
		goroutines(t, func(t *testing.T, s task.Shard) {
			readers := make(chan error, 1)
			l := newLink(t, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
				body := req.Body
				if n, err := body.Read(make([]byte, 10)); n != 5 || err != nil {
					t.Errorf("got %d bytes, %v", n, err)
				}
				reading := &body.(*requestBody).st.reading
				s.Go(func() {
					_, err := body.Read(make([]byte, 10))
					readers <- err
				})
				proxytest.Eventually(t, "somebody reads", func() bool {
					free := reading.TryLock()
					if free {
						reading.Unlock()
					}
					return !free
				})
				resp.Status, resp.Length, resp.Body = 200, 2, text("ok")
				if closes {
					body.Close()
					if err := <-readers; err == nil || err == io.EOF {
						t.Errorf("the reader got %v", err)
					}
				}
				return nil
			})}, Config{})
			defer l.close()
			for range 50 {
				stop := make(chan struct{})
				late := &parts{parts: [][]byte{[]byte("hello"), []byte("never")}, wait: func(i int) {
					if i == 1 {
						<-stop
					}
				}}
				var resp proxy.Response
				err := l.client.RoundTrip(post("/", late, 10), &resp)
				if err == nil {
					var got string
					if got, err = readAll(resp.Body); got != "ok" {
						t.Errorf("closed %v: got %d %q, %v", closes, resp.Status, got, err)
					}
				}
				if err != nil {
					t.Errorf("closed %v: %v", closes, err)
				}
				close(stop)
				resp.Close()
				if !closes {
					<-readers
				}
			}
			l.quiet()
		})
	}
}

// What a pillion writes keeps case, order, Host, Content-Length in place and the reason.
func TestVerbatimBetweenPillions(t *testing.T) {
	for _, pillion := range []bool{true, false} {
		goroutines(t, func(t *testing.T, s task.Shard) {
			arrived := make(chan proxy.Request, 1) // QUIC's sockets are no synchronisation
			l := newLink(t, s, Config{Pillion: pillion, Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
				arrived <- proxy.Request{Authority: req.Authority, Fields: slices.Clone(req.Fields)}
				if _, err := readAll(req.Body); err != nil {
					return err
				}
				resp.Status, resp.Reason, resp.Length, resp.Body = 200, "Fine Indeed", 2, text("ok")
				resp.Fields = proxy.Fields{{Name: "X-B", Value: "1"}, {Name: "Content-Length", Value: "2"}, {Name: "x-A", Value: "2"}}
				return nil
			})}, Config{Pillion: true})
			defer l.close()
			if err := l.client.WaitReady(s.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if got := l.client.Stats(); got.Pillion != pillion || !got.Ready {
				t.Errorf("stats %+v", got)
			}
			req := post("/", text("hi"), 2)
			req.Fields = proxy.Fields{{Name: "User-Agent", Value: "x"}, {Name: "Host", Value: "orders"}, {Name: "CONTENT-Length", Value: "2"}, {Name: "X-Z", Value: "é"}}
			sent := slices.Clone(req.Fields)
			resp := l.do(req)
			want, wantBack, reason := sent, proxy.Fields{{Name: "X-B", Value: "1"}, {Name: "Content-Length", Value: "2"}, {Name: "x-A", Value: "2"}}, "Fine Indeed"
			if !pillion {
				want = proxy.Fields{{Name: "user-agent", Value: "x"}, {Name: "x-z", Value: "é"}}
				wantBack, reason = proxy.Fields{{Name: "x-b", Value: "1"}, {Name: "x-a", Value: "2"}}, ""
			}
			seen := <-arrived
			if !slices.Equal(seen.Fields, want) || seen.Authority != "orders" {
				t.Errorf("the server got %v, want %v", seen.Fields, want)
			}
			if !slices.Equal(resp.Fields, wantBack) || resp.Reason != reason {
				t.Errorf("the client got %q %v, want %v", resp.Reason, resp.Fields, wantBack)
			}
			readAll(resp.Body)
			resp.Close()
			l.quiet()
		})
	}
}

// A client that leaves ends the server's half, and the handler learns of it.
func TestClientLeaves(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		arrived := make(chan *proxy.Request, 1)
		l := newLink(t, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			w := &waiter{left: make(chan error, 1)}
			if _, err := req.Cancel.Watch(w); err != nil {
				return err
			}
			arrived <- req
			return <-w.left
		})}, Config{})
		defer l.close()
		req := get("/")
		gone := errors.New("gone")
		done := proxytest.Go(s, func() {
			err := l.client.RoundTrip(req, new(proxy.Response))
			var e *proxy.Error
			if !errors.As(err, &e) || e.Code != proxy.ClientGone || !errors.Is(err, gone) {
				t.Errorf("got %v, want that the client is gone", err)
			}
		})
		far := <-arrived
		req.Cancel.Cancel(gone)
		proxytest.Wait(t, done)
		proxytest.Eventually(t, "the server's request is cancelled", func() bool { return far.Cancel.Err() != nil })
		var reset StreamReset
		if err := far.Cancel.Err(); !errors.As(err, &reset) || reset.Code != ErrRequestCancelled || !reset.Peer {
			t.Errorf("the handler was told %v", err)
		}
		l.quiet()
	})
}

type waiter struct{ left chan error }

func (w *waiter) Canceled(err error) { w.left <- err }

// In the middle of an answer too.
func TestClientLeavesTheAnswer(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		body := &parts{parts: slices.Repeat([][]byte{make([]byte, 1<<20)}, 100)}
		var closed atomic.Bool
		l := newLink(t, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			resp.Status, resp.Length, resp.Body = 200, proxy.Unknown, body
			resp.OnClose(closer(func() { closed.Store(true) }))
			return nil
		})}, Config{})
		defer l.close()
		resp := l.do(get("/"))
		if _, err := resp.Body.Read(make([]byte, 100)); err != nil {
			t.Error(err)
		}
		resp.Close()
		proxytest.Eventually(t, "the answer is closed", closed.Load)
		l.quiet()
	})
}

type closer func()

func (c closer) CloseResponse(*proxy.Response) { c() }

func TestDeadline(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		release := make(chan struct{})
		l := newLink(t, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			<-release
			resp.Status = 200
			return nil
		})}, Config{})
		defer l.close()
		req := get("/")
		req.Deadline = s.Now().Add(20 * time.Millisecond)
		err := l.client.RoundTrip(req, new(proxy.Response))
		var e *proxy.Error
		if !errors.As(err, &e) || e.Code != proxy.Timeout {
			t.Errorf("got %v, want a timeout", err)
		}
		close(release)
		l.quiet()
	})
}

// The deadline counts while the head waits for window, too.
func TestDeadlineOfAHeadThatCannotBeSent(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		const window = 32 << 10
		release := make(chan struct{})
		l := newLink(t, s, Config{ConnWindow: window, Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			<-release
			resp.Status = 200
			return nil
		})}, Config{})
		defer l.close()
		stalled := proxytest.Go(s, func() {
			var resp proxy.Response
			if l.client.RoundTrip(post("/", &parts{parts: [][]byte{make([]byte, 10*window)}}, proxy.Unknown), &resp) == nil {
				resp.Close()
			}
		})
		proxytest.Eventually(t, "the connection's window is used up", func() bool { return l.client.Stats().Out > window })
		req := get("/")
		req.Fields.Add("X-Long", strings.Repeat("x", window/2))
		req.Deadline = s.Now().Add(20 * time.Millisecond)
		var err error
		ended := proxytest.Go(s, func() { err = l.client.RoundTrip(req, new(proxy.Response)) })
		proxytest.Wait(t, ended)
		var e *proxy.Error
		if !errors.As(err, &e) || e.Code != proxy.Timeout {
			t.Errorf("got %v, want a timeout", err)
		}
		close(release)
		proxytest.Wait(t, stalled)
		l.quiet()
	})
}

func TestErrorsBecomeStatuses(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		l := newLink(t, s, Config{Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			if req.Path == "/panic" {
				panic("a bug, as tested")
			}
			return &proxy.Error{Code: proxy.NoEndpoints, Detail: "none"}
		})}, Config{})
		resp := l.do(get("/"))
		if resp.Status != 503 {
			t.Errorf("got %d, want 503", resp.Status)
		}
		resp.Close()
		l.quiet()
		l.close()
	})
}

// Where no stream is free RoundTrip says so at once, has read nothing, and OnChange tells when one is.
func TestNoStream(t *testing.T) {
	for _, limit := range []string{"ours", "theirs"} {
		goroutines(t, func(t *testing.T, s task.Shard) {
			release := make(chan struct{})
			server, client := Config{MaxStreams: 3}, Config{MaxStreams: 3}
			if limit == "theirs" {
				client.MaxStreams = 100
			} else {
				server.MaxStreams = 100
			}
			server.Handler = handler(func(req *proxy.Request, resp *proxy.Response) error {
				if req.Path == "/wait" {
					<-release
				}
				return echo(req, resp)
			})
			changed := make(chan struct{}, 100)
			client.OnChange = func(*Conn) { changed <- struct{}{} }
			l := newLink(t, s, server, client)
			defer l.close()
			var done []<-chan struct{}
			for range 3 {
				done = append(done, proxytest.Go(s, func() { resp := l.do(get("/wait")); resp.Close() }))
			}
			proxytest.Eventually(t, "three requests are under way", func() bool { return l.server.Stats().Running == 3 })
			body := text("hello")
			for range 3 {
				if err := l.client.RoundTrip(post("/", body, 5), new(proxy.Response)); err != proxy.ErrNoStream {
					t.Errorf("%s: got %v, want ErrNoStream", limit, err)
				}
			}
			if n := l.client.Available(); n != 0 || l.client.LeavingLocked() {
				t.Errorf("%s: available %d", limit, n)
			}
			for len(changed) > 0 {
				<-changed
			}
			close(release)
			for _, d := range done {
				proxytest.Wait(t, d)
			}
			select {
			case <-changed:
			case <-time.After(patience):
				t.Fatalf("%s: OnChange was not called", limit)
			}
			proxytest.Eventually(t, "a stream is available", func() bool { return l.client.AvailableLocked() > 0 })
			resp := l.do(post("/", body, 5))
			if got, err := readAll(resp.Body); got != "hello" || err != nil {
				t.Errorf("%s: got %q, %v", limit, got, err)
			}
			resp.Close()
			l.quiet()
		})
	}
}

func TestManyAtOnce(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		l := newLink(t, s, Config{Handler: handler(echo), Pillion: true}, Config{Pillion: true})
		defer l.close()
		var done []<-chan struct{}
		for i := range 50 {
			done = append(done, proxytest.Go(s, func() {
				for j := range 10 {
					want := strings.Repeat(fmt.Sprint(i, j), 1+i*j*10)
					resp := new(proxy.Response)
					if err := l.client.RoundTrip(post("/", text(want), int64(len(want))), resp); err != nil {
						t.Error(err)
						return
					}
					if got, err := readAll(resp.Body); got != want || err != nil {
						t.Errorf("got %d bytes, %v, want %d", len(got), err, len(want))
					}
					resp.Close()
				}
			}))
		}
		for _, d := range done {
			proxytest.Wait(t, d)
		}
		l.quiet()
	})
}
