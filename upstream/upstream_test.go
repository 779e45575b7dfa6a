package upstream

import (
	"errors"
	"net/netip"
	"strconv"
	"sync"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/upstream/pool"
)

// apps answers by address: nil is a 200. Probes, which are CONNECTs, are counted apart.
type apps struct {
	mu     sync.Mutex
	errs   map[netip.AddrPort]error
	answer func(req *proxy.Request, resp *proxy.Response) // instead of a 200; may be nil
	calls  []netip.AddrPort
	probes int
}

func (a *apps) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if req.Method == "CONNECT" && req.Fields == nil {
		a.probes++
	} else {
		a.calls = append(a.calls, req.Endpoint.Addr)
	}
	if err := a.errs[req.Endpoint.Addr]; err != nil {
		return err
	}
	resp.Status = 200
	if a.answer != nil {
		a.answer(req, resp)
	}
	return nil
}

// heal lets all be reached.
func (a *apps) heal() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.errs = nil
}

func (a *apps) count() (calls, probes int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.calls), a.probes
}

func addr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80)
}

func set(n int) []proxy.Endpoint {
	s := make([]proxy.Endpoint, n)
	for i := range s {
		s[i].Addr = addr(i)
	}
	return s
}

func start(rt task.Runtime, endpoints []proxy.Endpoint, a *apps) (*Upstream, task.Shard) {
	return New(Config{Shards: rt.Shards(), Direct: a,
		Services: []Service{{Name: "s", Endpoints: func() []proxy.Endpoint { return endpoints }}}}), rt.Shards()[0]
}

func call(t *testing.T, u *Upstream, s task.Shard, resp *proxy.Response) (err error) {
	proxytest.Do(t, s, func() {
		err = u.RoundTrip(&proxy.Request{Service: proxy.Service{Name: "s"}, Shard: s, Cancel: new(proxy.Cancel)}, resp)
	})
	return err
}

func views(t *testing.T, u *Upstream, s task.Shard) (all []Health) {
	proxytest.Do(t, s, func() { all = u.Health(s, "s") })
	return all
}

func TestGoesOnToAnotherEndpoint(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		down := &proxy.Error{Code: proxy.AppUnreachable, Unsent: true}
		a := &apps{errs: map[netip.AddrPort]error{addr(0): down, addr(1): down}}
		u, s := start(rt, set(3), a)
		for range 20 {
			var resp proxy.Response
			if err := call(t, u, s, &resp); err != nil || resp.Status != 200 {
				t.Fatalf("got %v, want the endpoint that lives to answer", err)
			}
			proxytest.Do(t, s, resp.Close)
		}
		if n, _ := a.count(); n > 22 {
			t.Errorf("%d calls for 20 requests: the dead endpoints were asked again and again", n)
		}
		for _, h := range views(t, u, s) {
			if h.Pending != 0 || h.Healthy() != (h.Endpoint.Addr == addr(2)) {
				t.Errorf("%v: pending %d, healthy %v", h.Endpoint.Addr, h.Pending, h.Healthy())
			}
		}
	})
}

// A request goes to an Endpoint that it was at in vain only where there is no other.
func TestAvoidsWhatWasTried(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		endpoints := set(3)
		a := &apps{}
		u, s := start(rt, endpoints, a)
		tried := []*proxy.Endpoint{{Addr: addr(0)}, {Addr: addr(2)}, {Addr: addr(9)}}
		for range 20 {
			proxytest.Do(t, s, func() {
				var resp proxy.Response
				req := &proxy.Request{Service: proxy.Service{Name: "s"}, Shard: s, Cancel: new(proxy.Cancel), Tried: tried}
				if err := u.RoundTrip(req, &resp); err != nil || req.Endpoint.Addr != addr(1) {
					t.Errorf("went to %v, %v; want the one that was not tried", req.Endpoint, err)
				}
				resp.Close()
				req.Tried = append(req.Tried, &proxy.Endpoint{Addr: addr(1)})
				if err := u.RoundTrip(req, &resp); err != nil {
					t.Errorf("got %v, want any endpoint where all were tried", err)
				}
				resp.Close()
			})
		}
	})
}

func TestWhatMayHaveRunIsNotSentAgain(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		for _, e := range []*proxy.Error{
			{Code: proxy.PeerReset},
			{Code: proxy.AppClosed},
			{Code: proxy.ConnectFailed},         // not marked as unsent
			{Code: proxy.Timeout, Unsent: true}, // no time is left
		} {
			a := &apps{errs: map[netip.AddrPort]error{addr(0): e, addr(1): e}}
			u, s := start(rt, set(2), a)
			if err := call(t, u, s, new(proxy.Response)); !errors.Is(err, e) || len(a.calls) != 1 {
				t.Errorf("%v: got %v after %d calls, want the error itself after one", e, err, len(a.calls))
			}
		}
	})
}

func TestNoEndpoints(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		u, s := start(rt, nil, &apps{})
		var e *proxy.Error
		if err := call(t, u, s, new(proxy.Response)); !errors.As(err, &e) || e.Code != proxy.NoEndpoints {
			t.Errorf("got %v, want no_endpoints", err)
		}
	})
}

func TestPendingCountsUntilClose(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		u, s := start(rt, set(1), &apps{})
		var resp proxy.Response
		if err := call(t, u, s, &resp); err != nil {
			t.Fatal(err)
		}
		if n := views(t, u, s)[0].Pending; n != 1 {
			t.Errorf("pending %d before Close, want 1", n)
		}
		proxytest.Do(t, s, resp.Close)
		if n := views(t, u, s)[0].Pending; n != 0 {
			t.Errorf("pending %d after Close, want 0", n)
		}
	})
}

func TestRoundTripAllocatesNothing(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		a := &apps{calls: make([]netip.AddrPort, 0, 1000)}
		u, s := start(rt, set(3), a)
		proxytest.Do(t, s, func() {
			req, resp := &proxy.Request{Service: proxy.Service{Name: "s"}, Shard: s, Cancel: new(proxy.Cancel)}, new(proxy.Response)
			n := proxytest.Allocs(100, func() {
				if u.RoundTrip(req, resp) == nil {
					resp.Close()
				}
			})
			if n != 0 {
				t.Errorf("%v allocations for a request, want 0", n)
			}
		})
	})
}

// mute is a Link to a peer that may stop to answer.
type mute struct {
	apps
	silent bool
}

func (m *mute) AvailableLocked() int {
	if m.silent {
		return 0
	}
	return 1
}
func (m *mute) LeavingLocked() bool  { return false }
func (m *mute) DoubtfulLocked() bool { return m.silent }
func (m *mute) Shutdown()            {}
func (m *mute) Close()               {}

// A peer that does not answer gets nothing while there is another one, and nobody waits to find out.
func TestSilentPeerIsPassedOver(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		endpoints := set(2)
		links := make(map[netip.AddrPort]*mute)
		for i := range endpoints {
			endpoints[i].Mesh = true
		}
		p := pool.New(pool.Config{Shard: s, Dial: func(_ task.Shard, ep *proxy.Endpoint, _, _ func(pool.Link)) (pool.Link, error) {
			if links[ep.Addr] != nil {
				return nil, errors.New("no answer")
			}
			links[ep.Addr] = new(mute)
			return links[ep.Addr], nil
		}})
		u := New(Config{Shards: rt.Shards(), Pools: []*pool.Pool{p, p},
			Services: []Service{{Name: "s", Endpoints: func() []proxy.Endpoint { return endpoints }}}})
		ask := func() {
			t.Helper()
			proxytest.Do(t, s, func() {
				var resp proxy.Response
				if err := u.RoundTrip(&proxy.Request{Service: proxy.Service{Name: "s"}, Shard: s, Cancel: new(proxy.Cancel)}, &resp); err != nil {
					t.Error(err)
				}
				resp.Close()
			})
		}
		for len(links) < 2 {
			ask()
		}
		proxytest.Do(t, s, func() { s.Lock(); links[addr(0)].silent = true; s.Unlock() })
		before := len(links[addr(0)].calls)
		for range 50 {
			ask()
		}
		if got := len(links[addr(0)].calls) - before; got != 0 {
			t.Errorf("the silent peer got %d of 50 requests", got)
		}
	})
}

// BenchmarkRoundTrip is what choosing and learning cost for a request.
func BenchmarkRoundTrip(b *testing.B) {
	for _, n := range []int{1, 10, 5000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			run := task.NewGoroutines(task.Config{})
			proxytest.Start(b, run)
			s := run.Shards()[0]
			endpoints := make([]proxy.Endpoint, n)
			for i := range endpoints {
				endpoints[i].Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80)
			}
			answer := proxy.RoundTripperFunc(func(_ *proxy.Request, resp *proxy.Response) error {
				resp.Status = 200
				return nil
			})
			u := New(Config{Shards: run.Shards(), Direct: answer, Services: []Service{{Name: "s", Endpoints: func() []proxy.Endpoint { return endpoints }}}})
			proxytest.Call(b, s, func() {
				req, resp := &proxy.Request{Service: proxy.Service{Name: "s"}, Shard: s, Cancel: new(proxy.Cancel)}, new(proxy.Response)
				b.ReportAllocs()
				for b.Loop() {
					if u.RoundTrip(req, resp) == nil {
						resp.Close()
					}
				}
			})
		})
	}
}
