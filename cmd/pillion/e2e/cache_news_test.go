//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
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

// TestCacheCollapsingAcrossPeers: a thousand clients of four sidecars, which have nothing, are one request to the app whose side keeps answers; where the answer is not
// for everybody they are one for each identity. Two of the sidecars keep answers themselves, and two have one identity.
func TestCacheCollapsingAcrossPeers(t *testing.T) {
	const clients = 250 // of each sidecar
	app := newCacheApp(t)
	p := newPair(t, setup{app: app.addr, appMore: ", cache: true", svcMore: ", cache: true"})
	sidecars := []*sidecar{p.a}
	for i, name := range []string{"web", "other", "third"} {
		s := newSidecar(t, name, fmt.Sprintf("service: %s\nservices: {app: {endpoints: %q, cache: %v}}\n", name, p.b.peer, i == 0), p.ca.issue(leaf{name: name}))
		s.ready()
		sidecars = append(sidecars, s)
	}
	for _, x := range []struct {
		control string
		asked   int64
	}{{"public, max-age=100", 1}, {"max-age=100", 3}} {
		gate := make(chan struct{})
		app.does(func(w http.ResponseWriter, r *http.Request) {
			n := app.asked.Load()
			w.Header().Set("Cache-Control", x.control)
			fmt.Fprintf(w, "begin %d %s ", n, r.Header.Get("X-Pillion-Identity"))
			w.(http.Flusher).Flush()
			<-gate
			io.WriteString(w, "end")
		})
		var wg sync.WaitGroup
		var begun atomic.Int32
		for i, s := range sidecars {
			c := through(t, s)
			who := []string{"/web ", "/web ", "/other ", "/third "}[i]
			for range clients {
				wg.Go(func() {
					resp, err := c.http.Get("http://app/crowd/" + fmt.Sprint(x.asked))
					if err != nil {
						t.Error(err)
						return
					}
					defer resp.Body.Close()
					b := make([]byte, len("begin "))
					if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != "begin " {
						t.Errorf("%q, %v", b, err)
					}
					begun.Add(1)
					rest, err := io.ReadAll(resp.Body)
					if err != nil || !strings.HasSuffix(string(rest), " end") || x.asked > 1 && !strings.Contains(string(rest), who) {
						t.Errorf("a client of %s: %q, %v", who, rest, err)
					}
				})
			}
		}
		eventually(t, 2*time.Minute, "all read the beginning while the rest is not there", func() bool { return begun.Load() == int32(clients*len(sidecars)) })
		close(gate)
		wg.Wait()
		if n := app.asked.Load(); n != x.asked {
			t.Errorf("%s: %d clients asked the app %d times, want %d", x.control, clients*len(sidecars), n, x.asked)
		}
	}
}
