package limit

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// app holds requests until they are let go, and knows how many ran at a time.
type app struct {
	running, most, ran atomic.Int32
	let                atomic.Bool
}

func (a *app) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	n := a.running.Add(1)
	for m := a.most.Load(); n > m && !a.most.CompareAndSwap(m, n); m = a.most.Load() {
	}
	for !a.let.Load() {
		req.Shard.Sleep(time.Millisecond)
	}
	a.ran.Add(1)
	resp.Status = 200
	resp.OnClose(a)
	return nil
}

func (a *app) CloseResponse(*proxy.Response) { a.running.Add(-1) }

func get(s task.Shard) *proxy.Request {
	return &proxy.Request{Method: "GET", Shard: s, Cancel: new(proxy.Cancel)}
}

// outcome is how one request ended: its code, or "".
func outcome(rt proxy.RoundTripper, req *proxy.Request) proxy.Code {
	var resp proxy.Response
	if err := rt.RoundTrip(req, &resp); err != nil {
		var e *proxy.Error
		if !errors.As(err, &e) || !e.Unsent {
			return "not a clear refusal: " + proxy.Code(err.Error())
		}
		return e.Code
	}
	resp.Close()
	return ""
}

func TestNoMoreThanMayRun(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		c := NewConcurrency("orders")
		c.Set(Settings{Requests: 3, Pending: 5, Wait: time.Minute})
		a := new(app)
		stack := c.Layer(a)
		var refused atomic.Int32
		var done []<-chan struct{}
		for i := range 40 { // on both shards
			s := rt.Shards()[i%2]
			done = append(done, proxytest.Go(s, func() {
				switch code := outcome(stack, get(s)); code {
				case "":
				case proxy.Overloaded:
					refused.Add(1)
				default:
					t.Errorf("got %q", code)
				}
			}))
		}
		proxytest.Eventually(t, "32 are refused", func() bool { return refused.Load() == 32 })
		if st := c.Stats(); st.Running != 3 || st.Waiting != 5 || st.Shed != 32 {
			t.Errorf("got %+v, want 3 that run, 5 that wait, 32 refused", st)
		}
		a.let.Store(true)
		for _, d := range done {
			proxytest.Wait(t, d)
		}
		if a.most.Load() != 3 || a.ran.Load() != 8 {
			t.Errorf("%d ran at a time, %d in all; want 3 and 8", a.most.Load(), a.ran.Load())
		}
		if st := c.Stats(); st.Running != 0 || st.Waiting != 0 {
			t.Errorf("left: %+v", st)
		}
	})
}

func TestLeastImportantFirst(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		c := NewConcurrency("orders")
		c.Set(Settings{Requests: 1, Pending: 2, Wait: time.Minute, Priority: "Priority"})
		a := new(app)
		stack := c.Layer(a)
		ended := make(map[string]proxy.Code) // touched on s only, under its lock
		var done []<-chan struct{}
		send := func(name, priority string) {
			done = append(done, proxytest.Go(s, func() {
				req := get(s)
				req.Fields.Add("priority", priority)
				code := outcome(stack, req)
				s.Lock()
				ended[name] = code
				s.Unlock()
			}))
		}
		seen := func(st Stats) func() bool { return func() bool { return c.Stats() == st } }
		send("runs", "7")
		proxytest.Eventually(t, "one runs", seen(Stats{Running: 1, Limit: 1}))
		send("background", "u=7, i")
		proxytest.Eventually(t, "one waits", seen(Stats{Running: 1, Limit: 1, Waiting: 1}))
		send("plain", "")
		proxytest.Eventually(t, "two wait", seen(Stats{Running: 1, Limit: 1, Waiting: 2}))
		send("urgent", "u=0")
		proxytest.Eventually(t, "one is turned away", seen(Stats{Running: 1, Limit: 1, Waiting: 2, Shed: 1}))
		send("late", "")
		proxytest.Eventually(t, "another is turned away", seen(Stats{Running: 1, Limit: 1, Waiting: 2, Shed: 2}))
		a.let.Store(true)
		for _, d := range done {
			proxytest.Wait(t, d)
		}
		proxytest.Call(t, s, func() {
			if fmt.Sprint(ended) != "map[background:overloaded late:overloaded plain: runs: urgent:]" {
				t.Errorf("got %v", ended)
			}
		})
	})
}

func TestWaitEnds(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		c := NewConcurrency("orders")
		c.Set(Settings{Requests: 1, Pending: 2, Wait: 30 * time.Millisecond})
		a := new(app)
		stack := c.Layer(a)
		first := proxytest.Go(s, func() { outcome(stack, get(s)) })
		proxytest.Eventually(t, "one runs", func() bool { return c.Stats().Running == 1 })
		proxytest.Do(t, s, func() {
			if code := outcome(stack, get(s)); code != proxy.Overloaded {
				t.Errorf("after its wait: %q, want overloaded", code)
			}
		})
		c.Set(Settings{Requests: 1, Pending: 2, Wait: time.Minute})
		req := get(s)
		second := proxytest.Go(s, func() {
			if code := outcome(stack, req); code != proxy.ClientGone {
				t.Errorf("after its client left: %q", code)
			}
		})
		proxytest.Eventually(t, "it waits", func() bool { return c.Stats().Waiting == 1 })
		proxytest.Call(t, s, func() { req.Cancel.Cancel(errors.New("gone")) })
		proxytest.Wait(t, second)
		a.let.Store(true)
		proxytest.Wait(t, first)
		if st := c.Stats(); st.Running != 0 || st.Waiting != 0 {
			t.Errorf("left: %+v", st)
		}
	})
}

// A simulated app that can do ten things at a time, 10 ms each: beyond that, requests queue within it.
func TestGradientFindsTheApp(t *testing.T) {
	for _, start := range []float64{firstLimit, 200, 1} {
		g := gradient{most: 1000, limit: start}
		now := task.Instant(1)
		for i := range 3000 {
			running := int(g.limit)
			if i < 50 {
				running = min(running, 5) // a quiet beginning, from which it knows how fast the app is
			}
			took := 10 * time.Millisecond * time.Duration(max(10, running)) / 10
			for range sampleLeast {
				g.add(now, took, running)
				now = now.Add(sampleTime/(sampleLeast-1) + 1)
			}
		}
		if g.limit < 8 || g.limit > 60 {
			t.Errorf("from %v the limit became %v, want some 10 to 40", start, g.limit)
		}
	}
}

// The app becomes four times as slow for good, while the load stays: the limit must not stay at its least.
func TestGradientFollowsASlowerApp(t *testing.T) {
	g := gradient{most: 1000, limit: firstLimit}
	service := 10 * time.Millisecond
	for i := range 3000 {
		running := int(g.limit)
		if i < 50 {
			running = 5
		}
		if i == 500 {
			service *= 4
		}
		g.sample(float64(service)*max(1, float64(running)/10), running)
	}
	if g.limit < 8 || g.limit > 60 {
		t.Errorf("the limit became %v, want some 10 to 40", g.limit)
	}
}

func TestGradientDoesNotGrowUnused(t *testing.T) {
	g := gradient{most: 1000, limit: 20}
	for range 1000 {
		g.sample(1e6, 3)
	}
	if g.limit != 20 {
		t.Errorf("the limit became %v though three requests ran at a time", g.limit)
	}
}

func TestRate(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		proxytest.Do(t, s, func() {
			passed := 0
			next := proxy.RoundTripperFunc(func(*proxy.Request, *proxy.Response) error { passed++; return nil })
			r := NewRate("orders")
			stack := r.Layer([]RateSettings{{Requests: 10, Per: time.Hour, Burst: 3, By: ByCaller}, {Requests: 1, Per: time.Hour, Burst: 1, By: "X-Key"}, {}})(next)
			send := func(n, rule int, caller, value string) (refused int) {
				for range n {
					req := get(s)
					req.Rule, req.Peer = rule, &proxy.Peer{Identity: proxy.Identity(caller)}
					req.Fields.Add("x-key", value)
					err := stack.RoundTrip(req, new(proxy.Response))
					var e *proxy.Error
					if err == nil {
						continue
					}
					if !errors.As(err, &e) || e.Code != proxy.RateLimited || !e.Unsent || e.Fields.Get("Retry-After") == "" {
						t.Errorf("got %+v", err)
					}
					refused++
				}
				return refused
			}
			for _, c := range []struct {
				rule          int
				caller, value string
				refused       int
			}{{0, "web", "", 2}, {0, "shop", "", 2}, {0, "web", "", 5}, {1, "web", "a", 4}, {1, "shop", "a", 5}, {1, "web", "b", 4}, {2, "web", "", 0}, {9, "other", "", 2}} {
				if n := send(5, c.rule, c.caller, c.value); n != c.refused {
					t.Errorf("rule %d, %s, %s: %d of 5 refused, want %d", c.rule, c.caller, c.value, n, c.refused)
				}
			}
			if int(r.Refused())+passed != 40 {
				t.Errorf("%d refused and %d passed of 40", r.Refused(), passed)
			}
		})
	})
}

// TestLongBurst: a burst that is worth centuries is no burst of none.
func TestLongBurst(t *testing.T) {
	r := NewRate("orders")
	set := &RateSettings{Requests: 1, Per: 24 * time.Hour, Burst: 200_000}
	for range 100 {
		if wait := r.take(key{}, 1, set); wait != 0 {
			t.Fatalf("refused within the burst, for %v", wait)
		}
	}
}

// Streams count until their end, other requests do not; and each route has its own bound.
func TestStreamsAndRules(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		proxytest.Do(t, s, func() {
			open, slots := NewStreams("orders"), NewConcurrency("route 1 of orders")
			open.Set(Settings{Requests: 1})
			slots.Set(Settings{Requests: 1})
			next := proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
				resp.Status = 200
				if req.IsConnect() && req.Path == "" || req.Upgrade != "" {
					resp.Stream = noStream{}
				}
				return nil
			})
			stack := Rules([]proxy.Layer{nil, slots.Layer})(open.Streams(next))
			send := func(rule int, method, upgrade, path string) (*proxy.Response, error) {
				req, resp := get(s), new(proxy.Response)
				req.Rule, req.Method, req.Upgrade, req.Path = rule, method, upgrade, path
				return resp, stack.RoundTrip(req, resp)
			}
			first, err := send(0, "CONNECT", "", "")
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct {
				rule                  int
				method, upgrade, path string
				want                  bool
			}{{0, "CONNECT", "", "", false}, {1, "GET", "websocket", "/", false}, {0, "GET", "", "/", true}, {0, "CONNECT", proxy.ConnectUDP, "", true}, {1, "GET", "", "/", true}, {9, "GET", "", "/", true}} {
				resp, err := send(c.rule, c.method, c.upgrade, c.path)
				if (err == nil) != c.want {
					t.Errorf("%+v beside a stream: got %v", c, err)
				}
				resp.Close()
			}
			if st := open.Stats(); st.Running != 1 || st.Shed != 2 {
				t.Errorf("got %+v", st)
			}
			first.Close()
			declined, err := send(0, "CONNECT", "", "no")
			if st := open.Stats(); err != nil || st.Running != 0 {
				t.Errorf("a stream that is not opened: got %v, %+v", err, st)
			}
			declined.Close()
			running, err := send(1, "GET", "", "/")
			if _, second := send(1, "GET", "", "/"); err != nil || second == nil {
				t.Errorf("two requests of the route: got %v and %v, want the second refused", err, second)
			}
			if _, err := send(0, "GET", "", "/"); err != nil {
				t.Errorf("another request: got %v", err)
			}
			running.Close()
		})
	})
}

// noStream is a Stream that nobody uses.
type noStream struct{ proxy.Stream }

func TestRateRefills(t *testing.T) {
	r := NewRate("orders")
	set := &RateSettings{Requests: 10, Per: time.Second, Burst: 2}
	now := task.Instant(1)
	for range 2 {
		if wait := r.take(key{}, now, set); wait != 0 {
			t.Errorf("refused within the burst, for %v", wait)
		}
	}
	if wait := r.take(key{}, now, set); wait != 100*time.Millisecond {
		t.Errorf("the next is due in %v, want 100 ms", wait)
	}
	if wait := r.take(key{}, now.Add(100*time.Millisecond), set); wait != 0 {
		t.Errorf("refused when it was due, for %v", wait)
	}
}

func TestAllocatesNothing(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		proxytest.Do(t, s, func() {
			c, r := NewConcurrency("orders"), NewRate("orders")
			c.Set(Settings{Requests: 10, Adaptive: true})
			next := proxy.RoundTripperFunc(func(*proxy.Request, *proxy.Response) error { return nil })
			stack := r.Layer([]RateSettings{{Requests: 1e9, Per: time.Second, Burst: 1e9, By: ByCaller}})(c.Layer(next))
			req, resp := get(s), new(proxy.Response)
			req.Peer = &proxy.Peer{Identity: "web"}
			one := func() {
				if err := stack.RoundTrip(req, resp); err != nil {
					t.Error(err)
				}
				resp.Close()
			}
			one()
			if n := proxytest.Allocs(100, one); n != 0 {
				t.Errorf("%v allocations, want 0", n)
			}
		})
	})
}
