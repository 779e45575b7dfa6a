package outbound

import (
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// passed answers at once.
func passed(_ *proxy.Request, resp *proxy.Response) error {
	resp.Status = 204
	return nil
}

// reused returns a function that sends the same request again, as a listener does with its memory.
func reused(s task.Shard, rt proxy.RoundTripper) func() error {
	req, resp := new(proxy.Request), new(proxy.Response)
	fields := make(proxy.Fields, 0, 8)
	cancel := new(proxy.Cancel)
	return func() error {
		*req = proxy.Request{Method: "GET", Authority: "billing:9000", Path: "/", Fields: fields[:0], Shard: s, Cancel: cancel}
		*resp = proxy.Response{}
		return rt.RoundTrip(req, resp)
	}
}

func benchStack() proxy.RoundTripper {
	routes := map[string]*Route{"billing": {Name: "billing", Timeout: time.Second}}
	return New(Config{Name: "web", Routes: routes, Upstream: proxy.RoundTripperFunc(passed)})
}

// TestStackAllocatesNothing pins the route lookup and every other layer of the outbound side.
func TestStackAllocatesNothing(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		proxytest.Do(t, s, func() {
			send := reused(s, benchStack())
			n := testing.AllocsPerRun(100, func() {
				if err := send(); err != nil {
					t.Error(err)
				}
			})
			if n != 0 {
				t.Errorf("%v allocations for a request, want 0", n)
			}
		})
	})
}

// BenchmarkStack is a request through the layers, and without them.
func BenchmarkStack(b *testing.B) {
	for name, rt := range map[string]proxy.RoundTripper{"layers": benchStack(), "none": proxy.RoundTripperFunc(passed)} {
		b.Run(name, func(b *testing.B) {
			run := task.NewGoroutines(task.Config{})
			proxytest.Start(b, run)
			s := run.Shards()[0]
			proxytest.Call(b, s, func() {
				send := reused(s, rt)
				b.ReportAllocs()
				for b.Loop() {
					if err := send(); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
