package outbound

import (
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/routing"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// TestTimeoutIsExplained: the client reads which timeout of which service has passed, not that "a deadline" has.
func TestTimeoutIsExplained(t *testing.T) {
	late := &proxy.Error{Code: proxy.Timeout, Detail: "the deadline has passed", Err: task.ErrDeadline}
	dial := &proxy.Error{Code: proxy.Timeout, Detail: "no connection in time", Err: task.ErrDeadline, Unsent: true}
	denied := &proxy.Error{Code: proxy.Denied, Detail: "no"}
	routes := map[string]*Route{"billing": {Name: "billing", Timeout: 300 * time.Millisecond}}
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		for _, c := range []struct {
			name string
			err  error
			own  bool // the request comes with an earlier deadline
			want string
		}{
			{"the service's timeout", late, false, "timeout: no answer from billing within its timeout of 300ms"},
			{"another deadline", late, true, late.Error()},
			{"a failure that says more", dial, false, dial.Error()},
			{"another failure", denied, false, denied.Error()},
		} {
			to := routes["billing"].bound(proxy.RoundTripperFunc(func(*proxy.Request, *proxy.Response) error { return c.err }))
			proxytest.Do(t, rt.Shards()[0], func() {
				req := &proxy.Request{Service: proxy.Service{Name: "billing"}, Shard: rt.Shards()[0]}
				if c.own {
					req.Deadline = req.Shard.Now().Add(time.Millisecond)
				}
				if err := to.RoundTrip(req, new(proxy.Response)); err.Error() != c.want {
					t.Errorf("%s: %q, want %q", c.name, err, c.want)
				}
			})
		}
	})
}

// TestRoutes: a service's own route applies with its own timeout, and sends a request where it says.
func TestRoutes(t *testing.T) {
	path, err := routing.ParsePath("/slow/*")
	if err != nil {
		t.Fatal(err)
	}
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		proxytest.Do(t, s, func() {
			var got proxy.Request
			stack := New(Config{
				Name:   "web",
				Shards: len(rt.Shards()),
				Routes: map[string]*Route{"billing": {Name: "billing", Timeout: time.Second, Timeouts: []time.Duration{time.Hour, 0}}},
				Tables: map[string]*routing.Table{"billing": {Rules: []routing.Rule{
					{Match: []routing.Conditions{{Path: path}}, Backend: proxy.Service{Name: "slow"}},
					{Match: []routing.Conditions{{Methods: []string{"PUT"}}}},
				}}},
				Upstream: proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
					got = *req
					return passed(req, resp)
				}),
			})
			for _, x := range []struct {
				method, path, backend string
				rule                  int
				limit                 time.Duration
			}{{"GET", "/slow/a", "slow", 1, time.Hour}, {"PUT", "/a", "", 2, 0}, {"GET", "/a", "", 0, time.Second}} {
				before := s.Now()
				req := &proxy.Request{Method: x.method, Path: x.path, Authority: "billing", Shard: s, Cancel: new(proxy.Cancel)}
				var resp proxy.Response
				if err := stack.RoundTrip(req, &resp); err != nil {
					t.Fatal(err)
				}
				resp.Close()
				if got.Rule != x.rule || got.Backend.Name != x.backend || got.Service.Name != "billing" {
					t.Errorf("%s %s: rule %d of %s to %q, want %d to %q", x.method, x.path, got.Rule, got.Service, got.Backend.Name, x.rule, x.backend)
				}
				if none := got.Deadline == 0; none != (x.limit == 0) || !none && (got.Deadline < before.Add(x.limit) || got.Deadline > s.Now().Add(x.limit)) {
					t.Errorf("%s %s: deadline %v from %v on, want %v later", x.method, x.path, got.Deadline, before, x.limit)
				}
			}
		})
	})
}
