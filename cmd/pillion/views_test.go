package main

import (
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/listeners/admin"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// TestViews: who is told what this sidecar does, and how much of it.
func TestViews(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		large := strings.Repeat("x", maxView)
		for _, x := range []struct {
			caller     proxy.Identity
			path, name string
			running    int32
			want       proxy.Code // "" is an answer
		}{
			{"spiffe://a/web", "/status", "orders", 0, ""},
			{"spiffe://a/ops/x", "/status", "orders", maxViews - 1, ""},
			{"spiffe://a/ops/x", "/status", "orders", maxViews, proxy.Overloaded},
			{"spiffe://a/web2", "/status", "orders", 0, proxy.Denied},
			{"spiffe://b/web", "/config", "orders", 0, proxy.Denied},
			{"spiffe://a/web", "/config", "orders", 0, proxy.Unsupported},
			{"spiffe://a/web", "/status", large, 0, proxy.Internal},
		} {
			v := newViews()
			v.running.Store(x.running)
			status := func() admin.Status { return admin.Status{Service: x.name} }
			v.status.Store(&status)
			layer := v.layer("orders", config.Patterns{"spiffe://a/web", "spiffe://a/ops/*"})
			s := rt.Shards()[0]
			proxytest.Do(t, s, func() {
				req := &proxy.Request{Method: "GET", Path: x.path, Shard: s, Cancel: new(proxy.Cancel), Peer: proxy.NewPeer("spiffe://a/orders", x.caller, netip.AddrPort{}, "")}
				var resp proxy.Response
				err := layer.RoundTrip(req, &resp)
				var e *proxy.Error
				if errors.As(err, &e) && e.Code != x.want || err == nil && x.want != "" {
					t.Errorf("%s %s: %v, want %q", x.caller, x.path, err, x.want)
				}
				if err != nil {
					return
				}
				defer resp.Close()
				if text, err := io.ReadAll(resp.Body); err != nil || int64(len(text)) != resp.Length || !strings.Contains(string(text), `"service":"orders"`) || resp.Body.Buffered() != -1 {
					t.Errorf("%s: %d bytes of %d, %v", x.caller, len(text), resp.Length, err)
				}
			})
			if n := v.running.Load(); n != x.running {
				t.Errorf("%s: %d run after it", x.caller, n)
			}
		}
	})
}
