//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/listeners/admin"
)

// through is a client of a sidecar's outbound port, which asks for the service app.
func through(t *testing.T, s *sidecar) *cacheClient {
	c := newCacheClient(t, "app", false)
	c.http.Transport.(*http.Transport).Proxy = func(*http.Request) (*url.URL, error) { return url.Parse("http://" + s.outbound) }
	return c
}

// cacheOf is what a sidecar's cache has done for a service.
func cacheOf(s *sidecar, service string) admin.CacheService {
	for _, one := range s.status().Cache.Services {
		if one.Name == service {
			return one
		}
	}
	return admin.CacheService{}
}

// TestCacheNews: what a caller changes is forgotten by the others that keep it, because the app's sidecar tells them, over links of both kinds, and after a link was lost.
func TestCacheNews(t *testing.T) {
	for _, transport := range []string{"tcp", "quic"} {
		t.Run(transport, func(t *testing.T) {
			app := newCacheApp(t)
			p := newPair(t, setup{app: app.addr, appMore: ", cache: true", svcMore: ", cache: true", transport: transport})
			other := newSidecar(t, "C", fmt.Sprintf("service: other\nservices: {app: {endpoints: %q, cache: true, transport: %s}}\n", p.b.peer, transport), p.ca.issue(leaf{name: "other"}))
			other.ready()
			app.says("Cache-Control: public, max-age=1000", "Surrogate-Key: all")
			a, c := through(t, p.a), through(t, other)
			a.want("A asks", a.do("GET", "/x"), 200, "1")
			c.want("C gets what the app's side has kept", c.do("GET", "/x"), 200, "1")
			c.want("C asks for something else", c.do("GET", "/y"), 200, "2")
			eventually(t, time.Minute, "both listen", func() bool { return cacheOf(p.b, "app:8080").Peers == 2 })
			a.do("POST", "/x")
			eventually(t, time.Minute, "C has heard of it", func() bool { return cacheOf(other, "app").Heard == 1 })
			c.want("C asks again", c.do("GET", "/x"), 200, "4")
			c.want("and keeps the rest", c.do("GET", "/y"), 200, "2")
			runTool(t, workshop.pillion(), "cache", "purge", "--tag", "all", "--admin", p.b.admin)
			eventually(t, time.Minute, "C has heard of the purge", func() bool { return cacheOf(other, "app").Heard == 2 })
			c.want("C asks again after the purge", c.do("GET", "/y"), 200, "5")

			if transport == "tcp" { // A's link runs over the test's own wire
				eventually(t, time.Minute, "A listens", func() bool { return cacheOf(p.b, "app:8080").Peers == 2 })
				a.want("A keeps /y", a.do("GET", "/y"), 200, "5")
				heard := cacheOf(p.a, "app").Heard
				p.link.cut()
				c.do("POST", "/y")
				eventually(t, time.Minute, "C has heard of its own change", func() bool { return cacheOf(other, "app").Heard == 3 })
				if got := cacheOf(p.a, "app").Heard; got != heard {
					t.Errorf("A has heard %d without a link", got-heard)
				}
				a.want("A uses what is fresh while it cannot hear", a.do("GET", "/y"), 200, "5")
				p.link.restore()
				eventually(t, time.Minute, "A has heard of it over another link", func() bool { return cacheOf(p.a, "app").Heard > heard })
				if got := a.do("GET", "/y"); got.body == "5" {
					t.Errorf("A still has what was changed: %v", got)
				}
			}

			// The app's sidecar starts anew: nobody knows what has changed meanwhile.
			c.do("GET", "/z")
			before, heard := c.do("GET", "/z").body, cacheOf(other, "app").Heard
			p.b.kill()
			p.b.restart()
			c.do("GET", "/elsewhere") // which finds out that the link is gone; otherwise the next PING does
			eventually(t, time.Minute, "C has been told to forget everything", func() bool { return cacheOf(other, "app").Heard > heard })
			if got := c.do("GET", "/z"); got.body == before {
				t.Errorf("C still has what it kept before the restart: %v", got)
			}
		})
	}
}
