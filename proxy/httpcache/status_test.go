package httpcache

import (
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// TestForwardReasons quotes RFC 9211 section 2.2, on why a request went forward.
func TestForwardReasons(t *testing.T) {
	each(t, func(t *testing.T, s task.Shard) {
		b := newBed(t, s, Config{}, Settings{Always: true}, func(o *origin, req *proxy.Request, resp *proxy.Response) error {
			control := minute
			switch req.Path {
			case "/never":
				control = "Cache-Control: no-store"
			case "/old":
				control = "Cache-Control: max-age=0"
			}
			if req.Path == "/checked" && req.Fields.Has("If-None-Match") {
				say(resp, 304, "", control, `ETag: "a"`)
				resp.Length = proxy.Unknown
				return nil
			}
			fields := []string{control, "Vary: V"}
			if req.Path != "/plain" {
				fields = append(fields, `ETag: "a"`)
			}
			say(resp, 200, number(o.count()), fields...)
			return nil
		})
		for _, x := range []struct{ why, path, field, want string }{
			{"uri-miss: the cache did not contain any responses that matched the request URI", "/never", "", "pillion; fwd=uri-miss; detail=no_store"},
			{"and does not from a refusal on", "/never", "", "pillion; fwd=uri-miss; detail=no_store"},
			{"uri-miss", "/checked", "V: 1", "pillion; fwd=uri-miss; stored"},
			{"vary-miss: the cache contained a response that matched the request URI, but could not select a response based upon this request's header fields", "/checked", "V: 2", "pillion; fwd=vary-miss; stored"},
			{"request: the cache was able to select a fresh response for the request, but the request's semantics did not allow its use", "/checked", "Cache-Control: no-cache", "pillion; fwd=vary-miss; stored"},
			{"request, now that there is one for it", "/checked", "Cache-Control: no-cache", "pillion; fwd=request; fwd-status=304"},
			{"request", "/checked", "Cache-Control: min-fresh=1000", "pillion; fwd=request; fwd-status=304"},
			{"uri-miss", "/plain", "", "pillion; fwd=uri-miss; stored"},
			{"request, and all of it came anew", "/plain", "Cache-Control: max-age=0", "pillion; fwd=request; stored"},
			{"uri-miss", "/old", "", "pillion; fwd=uri-miss; stored"},
			{"stale: the cache was able to select a response for the request, but it was stale", "/old", "", "pillion; fwd=stale; stored"},
			{"stale, whatever the request says", "/old", "Cache-Control: no-cache", "pillion; fwd=stale; stored"},
		} {
			var fields []string
			if x.field != "" {
				fields = []string{x.field}
			}
			if got := b.do("GET", x.path, fields...).cache(); got != x.want {
				t.Errorf("%s: %s %s: %s, want %s", x.why, x.path, x.field, got, x.want)
			}
		}
	})
}
