package upstream

import (
	"context"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/upstream/balance"
	"github.com/pillion-proxy/pillion/upstream/health"
)

// startService is start for a Service with settings.
func startService(rt task.Runtime, svc Service, endpoints []proxy.Endpoint, a *apps) (*Upstream, task.Shard) {
	svc.Name, svc.Endpoints = "s", func() []proxy.Endpoint { return endpoints }
	return New(Config{Shards: rt.Shards(), Direct: a, Services: []Service{svc}}), rt.Shards()[0]
}

// do sends n requests and returns how many went to each Endpoint.
func do(t *testing.T, u *Upstream, s task.Shard, n int, fields ...proxy.Field) map[netip.AddrPort]int {
	t.Helper()
	count := make(map[netip.AddrPort]int)
	proxytest.Do(t, s, func() {
		for range n {
			var resp proxy.Response
			req := &proxy.Request{Service: proxy.Service{Name: "s"}, Shard: s, Cancel: new(proxy.Cancel), Fields: fields}
			if u.RoundTrip(req, &resp) == nil {
				if resp.Body != nil {
					_, _ = io.ReadAll(resp.Body)
				}
				resp.Close()
			}
			count[req.Endpoint.Addr]++
		}
	})
	return count
}

// A dead Endpoint costs no request more than the one that found out: a probe finds out when it is back.
func TestProbeFindsOut(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		a := &apps{errs: map[netip.AddrPort]error{addr(0): &proxy.Error{Code: proxy.AppUnreachable, Unsent: true}}}
		u, s := start(rt, set(2), a)
		do(t, u, s, 50)
		if n, _ := a.count(); n > 51 {
			t.Errorf("%d calls for 50 requests", n)
		}
		if h := views(t, u, s)[0]; !h.Lost || h.Why == "" || h.Healthy() {
			t.Errorf("the dead one: %+v", h)
		}
		proxytest.Eventually(t, "a second probe", func() bool { _, n := a.count(); return n > 1 })
		before, _ := a.count()
		do(t, u, s, 50)
		if n, _ := a.count(); n != before+50 {
			t.Errorf("%d calls for 50 requests to a service with a dead endpoint that is known", n-before)
		}
		a.heal()
		proxytest.Eventually(t, "the endpoint is back", func() bool { return views(t, u, s)[0].Healthy() })
		if got := do(t, u, s, 100); got[addr(0)] == 0 {
			t.Error("it is back and gets nothing")
		}
	})
}

// All shards know what one of them has found out.
func TestShardsLearnFromEachOther(t *testing.T) {
	for _, make := range []func(task.Config) (task.Runtime, error){task.New, func(c task.Config) (task.Runtime, error) { return task.NewGoroutines(c), nil }} {
		rt, err := make(task.Config{Loops: 2})
		if err != nil {
			t.Fatal(err)
		}
		if len(rt.Shards()) < 2 {
			continue
		}
		proxytest.Start(t, rt)
		a := &apps{errs: map[netip.AddrPort]error{addr(0): &proxy.Error{Code: proxy.ConnectFailed, Unsent: true}}}
		u, s := start(rt, set(2), a)
		do(t, u, s, 20)
		before, _ := a.count()
		if got := do(t, u, rt.Shards()[1], 20); got[addr(1)] != 20 {
			t.Errorf("the other shard: %v", got)
		}
		if n, _ := a.count(); n != before+20 {
			t.Errorf("the other shard found out by itself: %d calls", n-before)
		}
	}
}

// ended is a content that ends in a way.
type ended struct {
	proxy.Content
	cut      error
	trailers proxy.Fields
}

func (e *ended) Truncated() error       { return e.cut }
func (e *ended) Trailers() proxy.Fields { return e.trailers }

// What counts as a failure, and what does not.
func TestOutcomes(t *testing.T) {
	grpc := func(status string) proxy.Fields { return proxy.Fields{{Name: "grpc-status", Value: status}} }
	for _, c := range []struct {
		name   string
		answer func(resp *proxy.Response)
		bad    bool
	}{
		{"200", func(resp *proxy.Response) {}, false},
		{"404", func(resp *proxy.Response) { resp.Status = 404 }, false},
		{"500", func(resp *proxy.Response) { resp.Status = 500 }, true},
		{"503 with content", func(resp *proxy.Response) { resp.Status, resp.Body = 503, &proxy.Content{Left: []byte("x")} }, true},
		{"501", func(resp *proxy.Response) { resp.Status = 501 }, false},
		{"gRPC unavailable, at once", func(resp *proxy.Response) { resp.Fields = grpc("14") }, true},
		{"gRPC not found, at once", func(resp *proxy.Response) { resp.Fields = grpc("5") }, false},
		{"gRPC internal, in the trailers", func(resp *proxy.Response) { resp.Body = &ended{trailers: grpc("13")} }, true},
		{"gRPC ok", func(resp *proxy.Response) { resp.Body = &ended{trailers: grpc("0")} }, false},
		{"broken off by the peer", func(resp *proxy.Response) { resp.Body = &ended{cut: &proxy.Error{Code: proxy.PeerReset}} }, true},
		{"broken off because the client left", func(resp *proxy.Response) { resp.Body = &ended{cut: &proxy.Error{Code: proxy.ClientGone}} }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
				a := &apps{answer: func(req *proxy.Request, resp *proxy.Response) {
					if req.Endpoint.Addr == addr(0) {
						c.answer(resp)
					}
				}}
				u, s := startService(rt, Service{Balance: balance.Config{Policy: balance.RoundRobin}}, set(3), a)
				got := do(t, u, s, 60)
				h := views(t, u, s)[0]
				if c.bad && (!h.Ejected || h.Failing == 0 || h.Why == "" || h.Again <= 0 || got[addr(0)] > 6) {
					t.Errorf("%+v after %d requests, want it ejected after 5", h, got[addr(0)])
				}
				if !c.bad && (h.Ejected || h.Failing != 0 || got[addr(0)] < 19) {
					t.Errorf("%+v after %d requests, want nothing against it", h, got[addr(0)])
				}
			})
		})
	}
}

// What the sidecar of an Endpoint answers itself.
func TestWhatSidecarsSay(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		for _, c := range []struct {
			code    proxy.Code
			unsent  bool
			lost    bool
			ejected bool
			failing bool
		}{
			{proxy.AppUnreachable, true, true, false, true},
			{proxy.Draining, true, true, false, true},
			{proxy.Overloaded, true, false, false, true},
			{proxy.AppClosed, false, false, true, true},
			{proxy.NoEndpoints, true, false, false, false},
			{proxy.AttemptForgotten, false, false, false, false},
			// An app that passes on what it was answered by another service is there, and fails.
			{proxy.AppUnreachable, false, false, true, true},
			{proxy.Draining, false, false, true, true},
			{proxy.Overloaded, false, false, true, true},
			{proxy.NoEndpoints, false, false, true, true},
		} {
			a := &apps{answer: func(req *proxy.Request, resp *proxy.Response) {
				if req.Endpoint.Addr == addr(0) {
					resp.Status, resp.Fields, resp.Unsent = c.code.Status(), proxy.Fields{{Name: errorField, Value: string(c.code)}}, c.unsent
				}
			}}
			u, s := startService(rt, Service{Balance: balance.Config{Policy: balance.RoundRobin}}, set(3), a)
			got := do(t, u, s, 60)
			if h := views(t, u, s)[0]; h.Lost != c.lost || h.Ejected != c.ejected || (h.Failing > 0) != c.failing || c.lost && (got[addr(0)] > 1 || h.Why == "") {
				t.Errorf("%s, unsent %v: %+v after %d requests", c.code, c.unsent, h, got[addr(0)])
			}
		}
	})
}

// What is told of a failure is how long it took, though others use what counted the request by then.
func TestFailureIsTimed(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		a := &apps{errs: map[netip.AddrPort]error{addr(0): &proxy.Error{Code: proxy.PeerReset}}}
		u, s := start(rt, set(1), a)
		proxytest.Do(t, s, func() {
			began := s.Now()
			req := &proxy.Request{Service: proxy.Service{Name: "s"}, Shard: s, Cancel: new(proxy.Cancel), Record: new(proxy.Record)}
			_ = u.RoundTrip(req, new(proxy.Response))
			events, _ := req.Record.Events()
			if most := s.Now().Sub(began).Milliseconds(); len(events) != 1 || events[0].N < 0 || events[0].N > most {
				t.Errorf("%+v, want one that took at most %d ms", events, most)
			}
		})
	})
}

// Errors of requests that had a connection.
func TestBlames(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		for code, bad := range map[proxy.Code]bool{proxy.PeerReset: true, proxy.Timeout: true, proxy.AppClosed: true, proxy.ClientGone: false, proxy.HeadTooLarge: false, proxy.Draining: false} {
			a := &apps{errs: map[netip.AddrPort]error{addr(0): &proxy.Error{Code: code}}}
			u, s := startService(rt, Service{Balance: balance.Config{Policy: balance.RoundRobin}}, set(3), a)
			do(t, u, s, 60)
			if h := views(t, u, s)[0]; h.Ejected != bad || h.Pending != 0 {
				t.Errorf("%s: %+v, want ejected %v", code, h, bad)
			}
		}
	})
}

func TestChecks(t *testing.T) {
	serving := append([]byte{0, 0, 0, 0, 2}, 8, 1)
	for _, c := range []struct {
		name  string
		check Check
		want  func(req *proxy.Request) bool
		good  func(resp *proxy.Response)
		bad   func(resp *proxy.Response)
	}{
		{"http", Check{Kind: CheckHTTP, Path: "/healthz"},
			func(req *proxy.Request) bool {
				return req.Method == "GET" && req.Path == "/healthz" && req.Authority == "s"
			},
			func(resp *proxy.Response) { resp.Status = 204 },
			func(resp *proxy.Response) { resp.Status = 500 }},
		{"grpc", Check{Kind: CheckGRPC, Name: "a.B"},
			func(req *proxy.Request) bool {
				body, _ := io.ReadAll(req.Body)
				return req.Path == "/grpc.health.v1.Health/Check" && string(body) == "\x00\x00\x00\x00\x05\x0a\x03a.B" && req.Fields.Get("content-type") == "application/grpc"
			},
			func(resp *proxy.Response) {
				resp.Body = &ended{Content: proxy.Content{Left: serving}, trailers: proxy.Fields{{Name: "grpc-status", Value: "0"}}}
			},
			func(resp *proxy.Response) {
				resp.Body = &ended{Content: proxy.Content{Left: []byte{0, 0, 0, 0, 2, 8, 2}}, trailers: proxy.Fields{{Name: "grpc-status", Value: "0"}}}
			}},
		{"grpc without the service", Check{Kind: CheckGRPC, Port: 9000},
			func(req *proxy.Request) bool { return req.Authority == "s:9000" },
			func(resp *proxy.Response) {
				resp.Body = &ended{Content: proxy.Content{Left: serving}, trailers: proxy.Fields{{Name: "grpc-status", Value: "0"}}}
			},
			func(resp *proxy.Response) { resp.Fields = proxy.Fields{{Name: "grpc-status", Value: "12"}} }},
		{"tcp", Check{Kind: CheckTCP},
			func(req *proxy.Request) bool { return req.Method == "CONNECT" },
			func(resp *proxy.Response) {},
			func(resp *proxy.Response) {
				resp.Status, resp.Fields = 503, proxy.Fields{{Name: errorField, Value: "app_unreachable"}}
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
				well := false
				a := &apps{answer: func(req *proxy.Request, resp *proxy.Response) {
					switch {
					case !c.want(req):
						resp.Status = 999
						t.Errorf("asked %s %s %s", req.Method, req.Authority, req.Path)
					case req.Endpoint.Addr != addr(0) || well:
						c.good(resp)
					default:
						c.bad(resp)
					}
				}}
				c.check.Interval = 20 * time.Millisecond
				endpoints := set(3)
				u := New(Config{Shards: rt.Shards(), Direct: a, Services: []Service{{Name: "s", Check: c.check, Endpoints: func() []proxy.Endpoint { return endpoints }}}})
				s := rt.Shards()[0]
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- u.Run(ctx) }()
				sick := func() (n int) {
					for _, h := range views(t, u, s) {
						if h.Sick {
							n++
						}
					}
					return n
				}
				proxytest.Eventually(t, "it is found sick", func() bool { return views(t, u, s)[0].Sick })
				if n := sick(); n != 1 {
					t.Errorf("%d are sick, want one", n)
				}
				a.mu.Lock()
				well = true
				a.mu.Unlock()
				proxytest.Eventually(t, "it is found well", func() bool { return sick() == 0 })
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A check that gets no answer ends in time, and the Endpoint is sick.
func TestCheckTimesOut(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		u := New(Config{Shards: rt.Shards(), Direct: proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			w := &waiting{}
			s.Gate(&w.gate)
			if _, err := req.Cancel.Watch(w); err != nil {
				return err
			}
			for req.Cancel.Err() == nil {
				w.gate.Wait(s.Now().Add(time.Minute))
			}
			return req.Cancel.Err()
		})})
		proxytest.Do(t, s, func() {
			if why := u.ask(s, &proxy.Endpoint{}, proxy.Service{Name: "s"}, &Check{Kind: CheckHTTP, Timeout: 10 * time.Millisecond}); why != errLate.Error() {
				t.Errorf("got %q, want %q", why, errLate)
			}
		})
	})
}

// waiting is at the bottom of an Exchange that never ends by itself.
type waiting struct{ gate task.Gate }

func (w *waiting) Canceled(error) { w.gate.Wake() }

// Replaced settings hold at once, and what was known is known.
func TestReplace(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		endpoints := set(10)
		s := rt.Shards()[0]
		svc := Service{Name: "s", Endpoints: func() []proxy.Endpoint { return endpoints }}
		u := New(Config{Shards: rt.Shards(), Direct: &apps{}, Services: []Service{svc}})
		do(t, u, s, 100)
		cookie := proxy.Field{Name: "Cookie", Value: "a=b; session=xyz"}
		svc.Balance.Policy = balance.RingHash
		svc.Key = proxy.Key{Cookie: "session"}
		svc.Health = health.Config{Consecutive: -1}
		u.Replace([]Service{svc})
		if h := views(t, u, s)[3]; !h.Answered {
			t.Errorf("%+v: what was known is forgotten", h)
		}
		if got := do(t, u, s, 50, cookie); len(got) != 1 {
			t.Errorf("one session went to %v", got)
		}
		svc.Balance.Policy = balance.RoundRobin
		u.Replace([]Service{svc})
		if got := do(t, u, s, 50, cookie); len(got) != 10 {
			t.Errorf("round robin went to %v", got)
		}
		u.Replace(nil)
		if u.Health(s, "s") != nil || u.Stats(s, "s") != (Stats{}) {
			t.Error("a service that is gone is shown")
		}
	})
}

func TestSubsets(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		endpoints := set(4)
		endpoints[2].Labels = "version=v2"
		u, s := startService(rt, Service{Subset: "X-Version", Balance: balance.Config{Policy: balance.RoundRobin, Label: "version", Strict: true}}, endpoints, &apps{})
		if got := do(t, u, s, 20, proxy.Field{Name: "x-version", Value: "v2"}); got[addr(2)] != 20 {
			t.Errorf("v2: %v", got)
		}
		if got := do(t, u, s, 50); len(got) != 4 {
			t.Errorf("no version: %v", got)
		}
		proxytest.Do(t, s, func() {
			req := &proxy.Request{Service: proxy.Service{Name: "s"}, Shard: s, Cancel: new(proxy.Cancel), Fields: proxy.Fields{{Name: "X-Version", Value: "v9"}}}
			if err := u.RoundTrip(req, new(proxy.Response)); err == nil || err.(*proxy.Error).Code != proxy.NoEndpoints {
				t.Errorf("v9: %v", err)
			}
		})
	})
}
