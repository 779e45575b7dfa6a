package upstream

import (
	"net/netip"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/upstream/balance"
)

// Of many Endpoints few are asked while there is little to do, and others where those do not answer.
func TestAperture(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		endpoints := set(100)
		down := &proxy.Error{Code: proxy.AppUnreachable, Unsent: true}
		a := &apps{errs: make(map[netip.AddrPort]error)}
		opening := balance.NewAperture(balance.ApertureConfig{Self: "web", Min: 4, Shards: len(rt.Shards())})
		part := opening.Of(endpoints)
		for _, ep := range part {
			a.errs[ep.Addr] = down
		}
		// One of four lives, so that nothing depends on when the part grows.
		delete(a.errs, part[3].Addr)
		u := New(Config{Shards: rt.Shards(), Direct: a,
			Services: []Service{{Name: "s", Endpoints: func() []proxy.Endpoint { return endpoints }, Aperture: opening}}})
		s := rt.Shards()[0]
		asked := make(map[netip.AddrPort]bool)
		for range 50 {
			var resp proxy.Response
			if err := call(t, u, s, &resp); err != nil {
				continue // three tries have met the three that are down
			}
			proxytest.Do(t, s, resp.Close)
		}
		for _, to := range a.calls {
			asked[to] = true
		}
		if len(asked) > 7 {
			t.Errorf("%d endpoints were asked, want 4 and one for each of the three that are down at most", len(asked))
		}
		used := views(t, u, s)
		if n := len(used); n < 4 || n > 7 {
			t.Errorf("%d endpoints are in use, want 4 to 7", n)
		}
		var now task.Instant
		proxytest.Do(t, s, func() { now = s.Now() })
		inUse := 0
		for i, h := range u.All("s", used, now) {
			if h.Endpoint != endpoints[i] {
				t.Errorf("endpoint %d is %v, want %v", i, &h.Endpoint, &endpoints[i])
			}
			if h.InUse {
				inUse++
			} else if !h.Healthy() || h.Answered {
				t.Errorf("%v was never asked, and is %+v", &h.Endpoint, h)
			}
		}
		if all := u.All("s", used, now); len(all) != 100 || inUse != len(used) {
			t.Errorf("%d endpoints, of which %d are in use; want 100 and %d", len(all), inUse, len(used))
		}
	})
}
