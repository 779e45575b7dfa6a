package once

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// app runs requests, each once it is let go, and says what it got.
type app struct {
	ran    atomic.Int32
	let    atomic.Bool
	answer string
	err    error
	open   atomic.Int32
}

func (a *app) CloseResponse(*proxy.Response) { a.open.Add(-1) }

func (a *app) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	n := a.ran.Add(1)
	for !a.let.Load() {
		req.Shard.Sleep(time.Millisecond)
	}
	if a.err != nil {
		return a.err
	}
	got := ""
	if req.Body != nil {
		got, _ = content(req.Body)
	}
	if req.Fields.Has(proxy.AttemptIDField) {
		got += " and the id"
	}
	a.open.Add(1)
	resp.OnClose(a)
	resp.Status = 201
	resp.Fields.Add("Ran", fmt.Sprint(n))
	resp.Body = &proxy.Content{Left: []byte(a.answer + got), End: proxy.Fields{{Name: "T", Value: "1"}}}
	resp.Length = proxy.Unknown
	return nil
}

func content(b proxy.Body) (string, error) {
	var all []byte
	p := make([]byte, 1000)
	for {
		n, err := b.Read(p)
		all = append(all, p[:n]...)
		if err == io.EOF {
			return string(all), nil
		}
		if err != nil {
			return string(all), err
		}
	}
}

func post(s task.Shard, caller, id string, age time.Duration, body string) *proxy.Request {
	return &proxy.Request{Method: "POST", Path: "/", Shard: s, Cancel: new(proxy.Cancel), Peer: &proxy.Peer{Identity: proxy.Identity(caller)},
		Fields: proxy.Fields{{Name: proxy.AttemptIDField, Value: proxy.AttemptValue(id, age)}}, Body: &proxy.Content{Left: []byte(body)}, Length: int64(len(body))}
}

// send returns what came of a request: "201 ran 1: content", or its code.
func send(rt proxy.RoundTripper, req *proxy.Request) string {
	var resp proxy.Response
	if err := rt.RoundTrip(req, &resp); err != nil {
		var e *proxy.Error
		errors.As(err, &e)
		return string(e.Code)
	}
	defer resp.Close()
	text, err := content(resp.Body)
	if err != nil {
		return "cut short: " + err.Error()
	}
	if len(text) > 50 {
		text = fmt.Sprint(len(text), " bytes")
	}
	return fmt.Sprintf("%d ran %s: %s %v", resp.Status, resp.Fields.Get("Ran"), text, resp.Body.Trailers())
}

func newMemory(s task.Shard) *Memory { return New(max(1, s.Now().Add(-time.Hour))) }

func TestAttemptsRunOnce(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		m, a := newMemory(rt.Shards()[0]), &app{answer: "done "}
		m.began = -task.Instant(time.Hour)
		stack := m.Layer(a)
		var got [20]string
		var done []<-chan struct{}
		for i := range got { // on both shards
			s := rt.Shards()[i%2]
			age := time.Duration(0)
			if i > 0 {
				age = time.Millisecond
			}
			done = append(done, proxytest.Go(s, func() { got[i] = send(stack, post(s, "web", "a", age, "it")) }))
			if i == 0 {
				proxytest.Eventually(t, "the first runs", func() bool { return a.ran.Load() == 1 })
			}
		}
		proxytest.Eventually(t, "all wait", func() bool { return m.Stats().Repeated == 19 })
		a.let.Store(true)
		for i, d := range done {
			proxytest.Wait(t, d)
			if got[i] != "201 ran 1: done it [{T 1}]" {
				t.Errorf("attempt %d got %q", i, got[i])
			}
		}
		s := rt.Shards()[1]
		proxytest.Do(t, s, func() {
			for _, c := range []struct{ caller, id, want string }{
				{"web", "a", "201 ran 1: done it [{T 1}]"},  // later
				{"shop", "a", "201 ran 2: done it [{T 1}]"}, // somebody else's
				{"web", "b", "201 ran 3: done it [{T 1}]"},  // another one
			} {
				if got := send(stack, post(s, c.caller, c.id, time.Millisecond, "it")); got != c.want {
					t.Errorf("%s %s: got %q, want %q", c.caller, c.id, got, c.want)
				}
			}
		})
		proxytest.Eventually(t, "the app's answers are closed", func() bool { return a.open.Load() == 0 })
		if st := m.Stats(); st.Known != 3 || st.Bytes == 0 {
			t.Errorf("got %+v", st)
		}
	})
}

// The caller's link breaks while the request runs: it goes on, and the next attempt gets its answer.
func TestCallerLeaves(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		m, a := newMemory(s), new(app)
		stack := m.Layer(a)
		req := post(s, "web", "a", 0, "it")
		first := proxytest.Go(s, func() {
			if got := send(stack, req); got != string(proxy.ClientGone) {
				t.Errorf("got %q", got)
			}
		})
		proxytest.Eventually(t, "it runs", func() bool { return a.ran.Load() == 1 })
		proxytest.Call(t, s, func() { req.Cancel.Cancel(errors.New("gone")) })
		proxytest.Wait(t, first)
		a.let.Store(true)
		proxytest.Do(t, s, func() {
			if got := send(stack, post(s, "web", "a", time.Second, "it")); got != "201 ran 1: it [{T 1}]" {
				t.Errorf("got %q", got)
			}
		})
		if a.ran.Load() != 1 {
			t.Errorf("it ran %d times", a.ran.Load())
		}
	})
}

func TestWhatIsNotKnownIsRefused(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		proxytest.Do(t, s, func() {
			a := new(app)
			a.let.Store(true)
			m := New(s.Now())
			stack := m.Layer(a)
			check := func(what, got, want string) {
				t.Helper()
				if got != want {
					t.Errorf("%s: got %q, want %q", what, got, want)
				}
			}
			check("a second attempt, just after a restart", send(stack, post(s, "web", "a", time.Millisecond, "it")), "attempt_forgotten")
			check("a first attempt", send(stack, post(s, "web", "b", 0, "it")), "201 ran 1: it [{T 1}]")
			check("its second", send(stack, post(s, "web", "b", time.Hour, "it")), "201 ran 1: it [{T 1}]")
			large := strings.Repeat("x", maxBody+1)
			check("a large request", send(stack, post(s, "web", "c", 0, large)), fmt.Sprintf("201 ran 2: %d bytes [{T 1}]", len(large)))
			check("its second", send(stack, post(s, "web", "c", time.Millisecond, large)), "attempt_forgotten")
			a.answer = strings.Repeat("y", 5*maxBody)
			check("a large answer", send(stack, post(s, "web", "d", 0, "it")), fmt.Sprintf("201 ran 3: %d bytes [{T 1}]", 5*maxBody+2))
			check("its second", send(stack, post(s, "web", "d", time.Millisecond, "it")), "attempt_forgotten")
			a.answer = ""
			a.err = &proxy.Error{Code: proxy.AppUnreachable, Unsent: true}
			check("what never ran", send(stack, post(s, "web", "e", 0, "it")), "app_unreachable")
			a.err = nil
			m.callers["web"].since = s.Now().Add(-time.Minute)
			check("may run", send(stack, post(s, "web", "e", time.Millisecond, "it")), "201 ran 5: it [{T 1}]")
			a.err = &proxy.Error{Code: proxy.AppClosed}
			check("what broke", send(stack, post(s, "web", "f", 0, "it")), "app_closed")
			a.err = nil
			check("stays so", send(stack, post(s, "web", "f", time.Millisecond, "it")), "app_closed")
		})
	})
}

func TestBounded(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		proxytest.Do(t, s, func() {
			a := &app{answer: strings.Repeat("y", 60<<10)}
			a.let.Store(true)
			m := newMemory(s)
			stack := m.Layer(a)
			for i := range 300 {
				send(stack, post(s, "web", fmt.Sprint("large", i), 0, ""))
			}
			if st := m.Stats(); st.Bytes > maxBytes || st.Known < 100 {
				t.Errorf("got %+v, want at most %d bytes", st, maxBytes)
			}
			a.answer = ""
			for i := range 2 * maxEntries {
				send(stack, post(s, "web", fmt.Sprint("small", i), 0, ""))
			}
			if st := m.Stats(); st.Known != maxEntries {
				t.Errorf("%d are known, want %d", st.Known, maxEntries)
			}
			if got := send(stack, post(s, "web", "small0", time.Millisecond, "")); got != "attempt_forgotten" {
				t.Errorf("what was pushed out: got %q", got)
			}
			if got := send(stack, post(s, "shop", "new", 0, "")); got[:3] != "201" {
				t.Errorf("another caller: got %q", got)
			}
		})
	})
}

func TestOthersPass(t *testing.T) {
	m, a := New(1), new(app)
	a.let.Store(true)
	req := &proxy.Request{Fields: proxy.Fields{{Name: "A", Value: "b"}}}
	var resp proxy.Response
	if err := m.Layer(a).RoundTrip(req, &resp); err != nil || resp.Closer() != proxy.ResponseCloser(a) {
		t.Errorf("got %v", err)
	}
	next := m.Layer(proxy.RoundTripperFunc(func(*proxy.Request, *proxy.Response) error { return nil }))
	if n := proxytest.Allocs(100, func() { _ = next.RoundTrip(req, nil) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// TestWhatIsNotRememberedTakesNoRoom: of an answer that is too large nothing is kept once it has passed.
func TestWhatIsNotRememberedTakesNoRoom(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		a := &app{answer: strings.Repeat("y", 5*maxBody)}
		a.let.Store(true)
		m := newMemory(s)
		stack := m.Layer(a)
		proxytest.Do(t, s, func() {
			if got := send(stack, post(s, "web", "a", 0, "")); got[:3] != "201" {
				t.Error(got)
			}
			var resp proxy.Response // and of one that nobody reads
			if err := stack.RoundTrip(post(s, "web", "b", 0, ""), &resp); err != nil {
				t.Error(err)
			}
			resp.Close()
		})
		proxytest.Eventually(t, "the app's answers are closed", func() bool { return a.open.Load() == 0 })
		for _, id := range []string{"a", "b"} {
			e := m.callers["web"].entries[id]
			e.mu.Lock()
			if cap(e.data) != 0 {
				t.Errorf("%s: %d bytes are still there", id, cap(e.data))
			}
			e.mu.Unlock()
		}
	})
}

// TestNobodyWaitsForAPanic: a bug below ends the request of all attempts, and its place is free again.
func TestNobodyWaitsForAPanic(t *testing.T) {
	proxytest.PanickyRuntimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		m := newMemory(s)
		stack := m.Layer(proxy.RoundTripperFunc(func(*proxy.Request, *proxy.Response) error { panic("a bug") }))
		proxytest.Do(t, s, func() {
			req := post(s, "web", "a", 0, "")
			req.Deadline = s.Now().Add(time.Minute)
			for range 2 {
				if got := send(stack, req); got != string(proxy.Internal) {
					t.Errorf("got %q", got)
				}
				req = post(s, "web", "a", time.Millisecond, "")
			}
		})
		m.mu.Lock()
		defer m.mu.Unlock()
		if e := m.callers["web"].entries["a"]; e == nil || !e.done {
			t.Errorf("%+v, want it to be over, and known", e)
		}
	})
}
