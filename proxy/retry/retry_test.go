package retry

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// step is what one attempt brings.
type step struct {
	status int
	fields proxy.Fields
	unsent bool
	err    error
	read   int // bytes of the body that are read; -1: all
}

// script answers attempts in their order, the last step again and again, from endpoints 10.0.0.1, 10.0.0.2, ...
type script struct {
	steps []step
	seen  []string // what each attempt looked like
	ids   []string // of each attempt
	open  int      // answers that are not closed
}

func (p *script) CloseResponse(*proxy.Response) { p.open-- }

func (p *script) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	n := len(p.seen)
	ep := req.Again
	if ep == nil {
		ep = &proxy.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n + 1)}), 1), Mesh: true}
	}
	req.Endpoint = ep
	st := p.steps[min(n, len(p.steps)-1)]
	body := ""
	if req.Body != nil && st.read != 0 {
		b := make([]byte, 7) // odd, to cross what is kept in pieces
		for st.read < 0 || len(body) < st.read {
			m, err := req.Body.Read(b)
			body += string(b[:m])
			if err != nil {
				if err != io.EOF {
					body += "!" + err.Error()
				}
				break
			}
		}
	}
	p.ids = append(p.ids, req.AttemptID)
	p.seen = append(p.seen, fmt.Sprintf("%s tried=%d attempt=%s body=%d", ep.Addr.Addr(), len(req.Tried), req.Fields.Get(AttemptField), len(body)))
	if st.err != nil {
		return st.err
	}
	resp.Status, resp.Unsent = st.status, st.unsent
	resp.Fields = append(resp.Fields, st.fields...)
	resp.OnClose(p)
	p.open++
	return nil
}

// text is a body.
type text struct{ rest string }

func (b *text) Read(p []byte) (int, error) {
	if b.rest == "" {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *text) Buffered() int {
	if b.rest == "" {
		return -1
	}
	return len(b.rest)
}
func (b *text) Trailers() proxy.Fields { return nil }
func (b *text) Close() error           { return nil }

var (
	refused = &proxy.Error{Code: proxy.Refused, Unsent: true}
	broke   = &proxy.Error{Code: proxy.PeerReset}
)

func defaults() Settings {
	return Settings{Attempts: 3, Budget: 0.2, Floor: 10, Body: 64 << 10, Backoff: time.Millisecond, MaxBackoff: 4 * time.Millisecond}
}

func newRequest(s task.Shard, method, body string) *proxy.Request {
	req := &proxy.Request{Method: method, Service: proxy.Service{Name: "s"}, Shard: s, Cancel: new(proxy.Cancel), Fields: proxy.Fields{{Name: "A", Value: "b"}}}
	if body != "" {
		req.Body, req.Length = &text{body}, int64(len(body))
	}
	return req
}

func TestWhatIsRepeated(t *testing.T) {
	big := strings.Repeat("x", 40<<10)
	for _, c := range []struct {
		what   string
		method string
		body   string
		steps  []step
		change func(*Settings, *proxy.Request)
		seen   int
		status int
		code   proxy.Code
	}{
		{"a good answer", "GET", "", []step{{status: 200}}, nil, 1, 200, ""},
		{"an error of the app", "GET", "", []step{{status: 500}}, nil, 1, 500, ""},
		{"503, then well", "GET", "", []step{{status: 503}, {status: 200}}, nil, 2, 200, ""},
		{"always 502", "DELETE", "", []step{{status: 502}}, nil, 3, 502, ""},
		{"the last answer is passed on", "GET", "", []step{{err: broke}, {err: broke}, {status: 504}}, nil, 3, 504, ""},
		{"the last error is passed on", "PUT", "b", []step{{status: 503, read: -1}, {err: broke, read: -1}}, nil, 3, 0, proxy.PeerReset},
		{"POST that broke", "POST", "b", []step{{err: broke, read: -1}}, nil, 1, 0, proxy.PeerReset},
		{"POST, 503", "POST", "b", []step{{status: 503, read: -1}}, nil, 1, 503, ""},
		{"POST that never ran", "POST", "b", []step{{err: refused, read: -1}, {status: 201, read: -1}}, nil, 2, 201, ""},
		{"POST that never ran at the app", "POST", big, []step{{status: 503, unsent: true, read: 9000}, {status: 201, read: -1}}, nil, 2, 201, ""},
		{"POST, twice refused", "POST", big, []step{{err: refused, read: 30 << 10}, {err: refused, read: 3}, {status: 201, read: -1}}, nil, 3, 201, ""},
		{"a body that is not kept, unread", "POST", big, []step{{err: refused}, {status: 201, read: -1}}, func(s *Settings, _ *proxy.Request) { s.Body = 1 << 10 }, 2, 201, ""},
		{"a body that outgrew", "PUT", big, []step{{status: 503, read: -1}}, func(s *Settings, _ *proxy.Request) { s.Body = 1 << 10 }, 1, 503, ""},
		{"a body of unknown length that outgrew", "PUT", big, []step{{err: broke, read: -1}}, func(s *Settings, r *proxy.Request) { s.Body, r.Length = 30<<10, proxy.Unknown }, 1, 0, proxy.PeerReset},
		{"gRPC UNAVAILABLE", "POST", "b", []step{{status: 200, fields: proxy.Fields{{Name: "grpc-status", Value: "14"}}}}, nil, 1, 200, ""},
		{"gRPC UNAVAILABLE of a sidecar", "POST", "b", []step{{status: 200, unsent: true, fields: proxy.Fields{{Name: "grpc-status", Value: "14"}}}, {status: 200}}, nil, 2, 200, ""},
		{"gRPC UNAVAILABLE, allowed", "POST", "b", []step{{status: 200, fields: proxy.Fields{{Name: "grpc-status", Value: "14"}}}, {status: 200}}, func(s *Settings, _ *proxy.Request) { s.Unavailable = true }, 2, 200, ""},
		{"gRPC UNAVAILABLE to a GET", "GET", "", []step{{status: 200, fields: proxy.Fields{{Name: "grpc-status", Value: "14"}}}, {status: 200}}, nil, 2, 200, ""},
		{"what ran beside a sidecar", "POST", "b", []step{{status: 503}}, func(s *Settings, _ *proxy.Request) { s.Unsafe = true }, 1, 503, ""},
		{"other gRPC statuses", "POST", "b", []step{{status: 200, fields: proxy.Fields{{Name: "grpc-status", Value: "4"}}}}, func(s *Settings, _ *proxy.Request) { s.Unsafe = true }, 1, 200, ""},
		{"a retry of a retry", "GET", "", []step{{status: 503}}, func(_ *Settings, r *proxy.Request) { r.Fields.Add(AttemptField, "2") }, 1, 503, ""},
		{"a retry of a retry that never ran", "GET", "", []step{{err: refused}, {status: 200}}, func(_ *Settings, r *proxy.Request) { r.Fields.Add(AttemptField, "2") }, 2, 200, ""},
		{"no budget", "GET", "", []step{{status: 503}}, func(s *Settings, _ *proxy.Request) { s.Floor = 0 }, 1, 503, ""},
		{"Retry-After, far", "GET", "", []step{{status: 503, fields: proxy.Fields{{Name: "Retry-After", Value: "120"}}}}, nil, 1, 503, ""},
		{"Retry-After, now", "GET", "", []step{{status: 503, fields: proxy.Fields{{Name: "retry-after", Value: "0"}}}, {status: 200}}, nil, 2, 200, ""},
		{"switched off", "GET", "", []step{{status: 503}}, func(s *Settings, _ *proxy.Request) { s.Attempts = 1 }, 1, 503, ""},
		{"a shed request", "GET", "", []step{{err: &proxy.Error{Code: proxy.NoEndpoints, Unsent: true}}}, nil, 1, 0, proxy.NoEndpoints},
		{"an upgrade that broke", "GET", "", []step{{err: broke}}, func(_ *Settings, r *proxy.Request) { r.Upgrade = "websocket" }, 1, 0, proxy.PeerReset},
		{"an upgrade that never ran", "GET", "", []step{{err: refused}, {status: 200}}, func(_ *Settings, r *proxy.Request) { r.Upgrade = "websocket" }, 2, 200, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
				s := rt.Shards()[0]
				proxytest.Do(t, s, func() {
					p := &script{steps: c.steps}
					set, req := defaults(), newRequest(s, c.method, c.body)
					if c.change != nil {
						c.change(&set, req)
					}
					body, fields := req.Body, len(req.Fields)
					st := NewState(2, proxytest.Logger(t))
					var resp proxy.Response
					err := st.Layers(Config{Services: map[string][]Settings{"s": {set}}})["s"](p).RoundTrip(req, &resp)
					var e *proxy.Error
					if c.code != "" && (!errors.As(err, &e) || e.Code != c.code) || c.code == "" && err != nil || resp.Status != c.status || len(p.seen) != c.seen {
						t.Errorf("got %d, %v after %d attempts %q; want %d, %q, %d", resp.Status, err, len(p.seen), p.seen, c.status, c.code, c.seen)
					}
					for i, seen := range p.seen {
						if i == 0 && fields > 1 {
							continue
						}
						if i > 0 && !strings.Contains(seen, fmt.Sprintf("attempt=%d", i+1)) && fields == 1 || i == 0 && !strings.Contains(seen, "attempt= ") {
							t.Errorf("attempt %d was %q", i+1, seen)
						}
					}
					if last := p.seen[len(p.seen)-1]; c.steps[min(len(p.seen), len(c.steps))-1].read < 0 && !strings.HasSuffix(last, fmt.Sprintf("body=%d", len(c.body))) {
						t.Errorf("the last attempt was %q, want all %d bytes", last, len(c.body))
					}
					if err == nil {
						resp.Close()
					}
					if p.open != 0 || req.Body != body || len(req.Fields) != fields || len(req.Tried) > 0 || req.Again != nil || req.AttemptID != "" {
						t.Errorf("%d answers left open; the request is left as %+v", p.open, req)
					}
					if held := st.shards[0].held; held != 0 {
						t.Errorf("%d bytes are still counted as kept", held)
					}
				})
			})
		})
	}
}

func TestWhatMayHaveRunGoesToTheSameEndpoint(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		proxytest.Do(t, s, func() {
			set := defaults()
			set.Unsafe, set.Attempts = true, 4
			p := &script{steps: []step{{err: refused, read: -1}, {err: broke, read: -1}, {err: refused}, {status: 201, read: -1}}}
			var resp proxy.Response
			if err := NewState(2, nil).Layers(Config{Services: map[string][]Settings{"s": {set}}})["s"](p).RoundTrip(newRequest(s, "POST", "abc"), &resp); err != nil {
				t.Error(err)
				return
			}
			resp.Close()
			want := []string{"10.0.0.1 tried=0 attempt= body=3", "10.0.0.2 tried=1 attempt=2 body=3", "10.0.0.2 tried=1 attempt=3 body=0", "10.0.0.2 tried=1 attempt=4 body=3"}
			if fmt.Sprint(p.seen) != fmt.Sprint(want) || p.ids[1] == p.ids[0] || p.ids[2] != p.ids[1] || p.ids[3] != p.ids[1] {
				t.Errorf("got %q %q, want %q, with one id at the second", p.seen, p.ids, want)
			}
		})
	})
}

// TestWhatRunsOnceHasTheTimeOfAll: an attempt that is given up after Settings.PerTry leaves its run at the peer the time of all attempts, so that the next one
// finds it there.
func TestWhatRunsOnceHasTheTimeOfAll(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		proxytest.Do(t, s, func() {
			set := defaults()
			set.Unsafe, set.PerTry = true, time.Millisecond
			at := &proxy.Endpoint{Mesh: true}
			by, tries := s.Now().Add(time.Hour), 0
			next := proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
				if req.AllBy != by || req.Deadline >= by || req.AttemptID == "" {
					t.Errorf("attempt %q may run until %v, its caller waits until %v; want %v and less", req.AttemptID, req.AllBy, req.Deadline, by)
				}
				if tries++; tries == 2 {
					resp.Status = 200
					return nil
				}
				req.Endpoint = at
				s.Sleep(req.Deadline.Sub(s.Now()) + 5*time.Millisecond)
				return &proxy.Error{Code: proxy.Timeout, Err: task.ErrDeadline}
			})
			req := newRequest(s, "POST", "")
			req.Deadline = by
			var resp proxy.Response
			if err := NewState(2, nil).Layers(Config{Services: map[string][]Settings{"s": {set}}})["s"](next).RoundTrip(req, &resp); err != nil || tries != 2 {
				t.Errorf("%v after %d tries", err, tries)
			}
		})
	})
}

func TestOutgrownIsVisible(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		proxytest.Do(t, s, func() {
			st := NewState(2, proxytest.Logger(t))
			set := defaults()
			set.Body = 1
			layer := st.Layers(Config{Services: map[string][]Settings{"s": {set}}})["s"]
			var resp proxy.Response
			err := layer(&script{steps: []step{{err: broke, read: -1}}}).RoundTrip(newRequest(s, "PUT", "abc"), &resp)
			var e *proxy.Error
			if !errors.As(err, &e) || e.Fields.Get(OutgrownField) == "" || len(broke.Fields) > 0 {
				t.Errorf("got %+v, want it to say why it was not repeated", err)
			}
			if err := layer(&script{steps: []step{{status: 502, read: -1}}}).RoundTrip(newRequest(s, "PUT", "abc"), &resp); err != nil || !resp.Fields.Has(OutgrownField) {
				t.Errorf("got %v, %v, want a field that says why it was not repeated", resp.Fields, err)
			}
			resp.Close()
			if n := st.Stats()["s"].Outgrown; n != 2 {
				t.Errorf("%d are counted, want 2", n)
			}
		})
	})
}

func TestPerTry(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		proxytest.Do(t, s, func() {
			set := defaults()
			set.PerTry = 20 * time.Millisecond
			tries := 0
			next := proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
				if tries++; tries < 3 {
					s.Sleep(req.Deadline.Sub(s.Now()) + 5*time.Millisecond)
					return &proxy.Error{Code: proxy.Timeout, Err: task.ErrDeadline}
				}
				resp.Status = 200
				return nil
			})
			req := newRequest(s, "GET", "")
			var resp proxy.Response
			err := NewState(2, nil).Layers(Config{Services: map[string][]Settings{"s": {set}}})["s"](next).RoundTrip(req, &resp)
			if err != nil || resp.Status != 200 || tries != 3 || req.Deadline != 0 {
				t.Errorf("got %d, %v after %d tries, deadline %v", resp.Status, err, tries, req.Deadline)
			}
			resp.Close()
		})
	})
}

// The old attempt's sender is still reading the body, which comes slowly, when the next attempt begins.
func TestBodyIsReadByOneAtATime(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		c, nc := proxytest.Pair(t, s)
		peer := proxytest.NewPeer(t, nc)
		peer.Send("first ")
		started, done := make(chan struct{}), make(chan struct{}, 1)
		var got string
		tries := 0
		next := proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			if tries++; tries == 1 {
				b := make([]byte, 100)
				n, _ := req.Body.Read(b)
				got = string(b[:n]) + "|"
				body := req.Body
				s.Go(func() { // the sender, which does not know yet that the attempt is over
					_ = body.(proxy.Waiter).WaitReadable()
					if _, err := body.Read(make([]byte, 100)); err != errOld {
						t.Errorf("the old attempt reads %v", err)
					}
					done <- struct{}{}
				})
				s.Yield()
				return refused
			}
			close(started)
			b, err := readAll(req.Body)
			got += b
			resp.Status = 200
			return err
		})
		finished := proxytest.Go(s, func() {
			req := newRequest(s, "POST", "")
			req.Body, req.Length = &connBody{Conn: c}, proxy.Unknown
			var resp proxy.Response
			if err := NewState(2, nil).Layers(Config{Services: map[string][]Settings{"s": {defaults()}}})["s"](next).RoundTrip(req, &resp); err != nil {
				t.Error(err)
				return
			}
			resp.Close()
		})
		proxytest.Wait(t, started)
		peer.Send("second")
		peer.FinishSending()
		proxytest.Wait(t, finished)
		<-done
		if got != "first |first second" {
			t.Errorf("got %q", got)
		}
		proxytest.Do(t, s, func() { c.Close() })
	})
}

type connBody struct{ task.Conn }

func (b *connBody) Buffered() int          { return 0 }
func (b *connBody) Trailers() proxy.Fields { return nil }
func (b *connBody) Close() error           { return nil }

// early answers its second request before it has read any of the content, which goes on being read when the answer is there.
type early struct {
	calls int
	body  proxy.Body
}

func (e *early) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	if e.calls++; e.calls == 1 {
		_, _ = readAll(req.Body)
		return broke
	}
	e.body, resp.Status = req.Body, 200
	return nil
}

// TestAnswerBeforeTheBody: what was kept of a body is there until the answer is over, as long as it is being sent.
func TestAnswerBeforeTheBody(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		proxytest.Do(t, s, func() {
			for _, body := range []string{"short", strings.Repeat("x", 30<<10)} {
				st, e := NewState(len(rt.Shards()), nil), new(early)
				layer := st.Layers(Config{Services: map[string][]Settings{"s": {defaults()}}})["s"]
				var resp proxy.Response
				if err := layer(e).RoundTrip(newRequest(s, "PUT", body), &resp); err != nil || resp.Status != 200 {
					t.Errorf("%d, %v", resp.Status, err)
					return
				}
				if got, err := readAll(e.body); err != nil || got != body {
					t.Errorf("after the answer to a second attempt its body of %d bytes is %d bytes, %v", len(body), len(got), err)
				}
				resp.Close()
				if held := st.shards[s.Index()].held; held != 0 {
					t.Errorf("%d bytes are held at the end", held)
				}
			}
		})
	})
}

func readAll(b proxy.Body) (s string, err error) {
	p := make([]byte, 100)
	for {
		n, err := b.Read(p)
		s += string(p[:n])
		if err == io.EOF {
			return s, nil
		}
		if err != nil {
			return s, err
		}
	}
}

func TestFirstTryAllocatesNothing(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		proxytest.Do(t, s, func() {
			rt := NewState(2, nil).Layers(Config{Services: map[string][]Settings{"s": {defaults()}}})["s"](proxy.RoundTripperFunc(func(_ *proxy.Request, resp *proxy.Response) error {
				resp.Status = 200
				return nil
			}))
			req, resp := newRequest(s, "GET", ""), new(proxy.Response)
			if n := proxytest.Allocs(100, func() { _ = rt.RoundTrip(req, resp); resp.Close() }); n != 0 {
				t.Errorf("%v allocations, want 0", n)
			}
		})
	})
}

func TestBudget(t *testing.T) {
	b := NewBudget(2)
	now := task.Instant(time.Hour)
	for i := range 1000 {
		b.Deposit(i%2, now)
	}
	taken := func() (n int) {
		for b.Withdraw(now, 0.2, 1) {
			n++
		}
		return n
	}
	if n := taken(); n != 210 {
		t.Errorf("%d retries after 1000 requests, want 20 %% and the floor of 10 s", n)
	}
	now = now.Add(5 * time.Second)
	if n := taken(); n != 0 {
		t.Errorf("%d retries though the window is used up", n)
	}
	now = now.Add(6 * time.Second)
	if n := taken(); n != 10 {
		t.Errorf("%d retries without requests, want the floor's 10", n)
	}
}

func BenchmarkFirstTry(b *testing.B) {
	rt := task.NewGoroutines(task.Config{Loops: 1})
	defer proxytest.Start(b, rt)()
	s := rt.Shards()[0]
	next := proxy.RoundTripperFunc(func(_ *proxy.Request, resp *proxy.Response) error {
		resp.Status = 200
		return nil
	})
	layered := NewState(1, nil).Layers(Config{Services: map[string][]Settings{"s": {defaults()}}})["s"](next)
	for _, c := range []struct {
		name string
		rt   proxy.RoundTripper
	}{{"without", next}, {"with", layered}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			req, resp := newRequest(s, "GET", ""), new(proxy.Response)
			for b.Loop() {
				_ = c.rt.RoundTrip(req, resp)
				resp.Close()
			}
		})
	}
}
