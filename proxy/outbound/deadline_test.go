package outbound

import (
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
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
			to := deadline(routes)(proxy.RoundTripperFunc(func(*proxy.Request, *proxy.Response) error { return c.err }))
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
