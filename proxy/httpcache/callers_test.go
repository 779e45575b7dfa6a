package httpcache

import (
	"sync/atomic"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Simultaneous requests of several callers are one request to the app where the answer is for all, and one for each identity where it is not.
func TestCollapsingAcrossCallers(t *testing.T) {
	const callers, clients = 3, 40
	for _, x := range []struct {
		control string
		asked   int
	}{{"public, max-age=60", 1}, {"max-age=60", callers}, {"s-maxage=60", callers}} {
		proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
			var open atomic.Bool
			o := &origin{answer: func(o *origin, req *proxy.Request, resp *proxy.Response) error {
				for !open.Load() {
					req.Shard.Sleep(4e6)
				}
				say(resp, 200, "for "+string(req.Peer.Identity), "Cache-Control: "+x.control)
				return nil
			}}
			b := &bed{t: t, o: o, c: New(Config{})}
			b.rt = b.c.Layers(LayerConfig{App: "app:80", Services: map[string][]Settings{"app:80": {{Always: true}}}})["app:80"](o)
			var ends []<-chan struct{}
			for i := range callers * clients {
				s := rt.Shards()[i%len(rt.Shards())]
				who := proxy.Identity("spiffe://x/" + number(i%callers))
				ends = append(ends, proxytest.Go(s, func() {
					got := b.from(s, &proxy.Peer{Identity: who}, "GET", "/a")
					if got.err != nil || x.asked > 1 && got.body != "for "+string(who) {
						t.Errorf("%s got %q, %v", who, got.body, got.err)
					}
				}))
			}
			proxytest.Eventually(t, "all wait", func() bool { return passengers(b.c) == callers*clients })
			open.Store(true)
			for _, end := range ends {
				proxytest.Wait(t, end)
			}
			if n := o.count(); n != x.asked {
				t.Errorf("%s: the app was asked %d times, want %d", x.control, n, x.asked)
			}
		})
	}
}

// passengers is how many requests wait for a flight.
func passengers(c *Cache) (n int) {
	for i := range c.flights {
		set := &c.flights[i]
		set.mu.Lock()
		for _, all := range set.all {
			for _, f := range all {
				f.mu.Lock()
				n += len(f.waiting)
				f.mu.Unlock()
			}
		}
		set.mu.Unlock()
	}
	return n
}

// What stands in for an error is for its own caller only, whoever waits for the same.
func TestStaleIsNotForOtherCallers(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		var broken, open atomic.Bool
		o := &origin{answer: func(o *origin, req *proxy.Request, resp *proxy.Response) error {
			if broken.Load() {
				for !open.Load() {
					req.Shard.Sleep(4e6)
				}
				say(resp, 503, "")
				return nil
			}
			say(resp, 200, "for "+string(req.Peer.Identity), "Cache-Control: max-age=0, stale-if-error=100", `ETag: "a"`)
			return nil
		}}
		b := &bed{t: t, o: o, c: New(Config{})}
		b.rt = b.c.Layers(LayerConfig{App: "app:80", Services: map[string][]Settings{"app:80": {{Always: true}}}})["app:80"](o)
		ask := func(who proxy.Identity) got { return b.from(s, &proxy.Peer{Identity: who}, "GET", "/a") }
		proxytest.Do(t, s, func() { ask("spiffe://x/a") })
		broken.Store(true)
		var first, second got
		one := proxytest.Go(s, func() { first = ask("spiffe://x/a") })
		proxytest.Eventually(t, "the first waits", func() bool { return passengers(b.c) == 1 })
		two := proxytest.Go(s, func() { second = ask("spiffe://x/b") })
		proxytest.Eventually(t, "both wait", func() bool { return passengers(b.c) == 2 })
		open.Store(true)
		proxytest.Wait(t, one)
		proxytest.Wait(t, two)
		if first.status != 200 || first.body != "for spiffe://x/a" {
			t.Errorf("the caller that it was for: %d %q, %v", first.status, first.body, first.err)
		}
		if second.status != 503 || second.body != "" {
			t.Errorf("another caller: %d %q, %v", second.status, second.body, second.err)
		}
	})
}
