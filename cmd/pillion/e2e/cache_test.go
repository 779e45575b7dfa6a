//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/listeners/admin"
)

// cacheApp answers with the fields that a test sets, and with how often it was asked.
type cacheApp struct {
	addr  string
	asked atomic.Int64
	mu    sync.Mutex
	serve http.HandlerFunc
	what  []string // each request that was counted
}

func newCacheApp(t *testing.T) *cacheApp {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &cacheApp{addr: ln.Addr().String()}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Protocols: &protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.asked.Add(1)
		a.what = append(a.what, fmt.Sprint(r.Method, " ", r.URL, " ", r.Header))
		f := a.serve
		a.mu.Unlock()
		f(w, r)
	})}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return a
}

// does makes the app serve f from now on, and counts anew.
func (a *cacheApp) does(f http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.serve, a.what = f, nil
	a.asked.Store(0)
}

// requests are those that were counted.
func (a *cacheApp) requests() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.what)
}

// says makes the app answer with fields and the number of the request.
func (a *cacheApp) says(fields ...string) {
	a.does(func(w http.ResponseWriter, r *http.Request) {
		for _, f := range fields {
			name, value, _ := strings.Cut(f, ": ")
			w.Header().Add(name, value)
		}
		fmt.Fprint(w, a.asked.Load())
	})
}

// cacheClient asks through the pair, over one version of HTTP.
type cacheClient struct {
	t    *testing.T
	at   string
	http *http.Client
}

func newCacheClient(t *testing.T, at string, h2c bool) *cacheClient {
	tr := &http.Transport{MaxIdleConnsPerHost: 100, DisableCompression: true}
	if h2c {
		tr.Protocols = new(http.Protocols)
		tr.Protocols.SetUnencryptedHTTP2(true)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &cacheClient{t, at, &http.Client{Transport: tr, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

type cached struct {
	status int
	body   string
	h      http.Header
}

func (c *cacheClient) do(method, path string, fields ...string) cached {
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+c.at+path, nil)
	if err != nil {
		c.t.Error(err)
		return cached{}
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Add(name, value)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Errorf("%s %s: %v", method, path, err)
		return cached{}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Errorf("%s %s: %v", method, path, err)
	}
	return cached{resp.StatusCode, string(b), resp.Header}
}

func (c *cacheClient) want(what string, got cached, status int, body string) {
	c.t.Helper()
	if got.status != status || got.body != body {
		c.t.Errorf("%s: %d %q %v, want %d %q", what, got.status, got.body, got.h, status, body)
	}
}

// TestCache: the areas of the public tests of HTTP caches, over HTTP/1.1 and HTTP/2.
func TestCache(t *testing.T) {
	app := newCacheApp(t)
	for _, link := range []string{"tcp", "quic"} {
		p := newPair(t, setup{app: app.addr, transport: link, svcMore: ", cache: true"})
		for _, h2c := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s h2c %v", link, h2c), func(t *testing.T) {
				c := newCacheClient(t, p.local, h2c)
				at := fmt.Sprintf("/%s/%v", link, h2c)
				cacheFreshness(c, app, at)
				cacheVary(c, app, at)
				cacheConditional(c, app, at)
				cachePartial(c, app, at)
				cacheInvalidation(c, app, at)
				cacheStale(c, app, at)
				cacheDeception(c, app, at)
				cacheCollapsing(c, app, at)
				cacheTruncated(c, app, at)
			})
		}
	}
}

func cacheFreshness(c *cacheClient, app *cacheApp, at string) {
	for i, x := range []struct {
		fields, first, second []string
		method                string
		hit                   bool
	}{
		{fields: []string{"Cache-Control: max-age=100"}, hit: true},
		{fields: []string{"Cache-Control: max-age=0"}},
		{fields: []string{"Cache-Control: s-maxage=100, max-age=0"}, hit: true},
		{fields: []string{"Cache-Control: s-maxage=0, max-age=100"}},
		{fields: []string{"Expires: " + time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)}, hit: true},
		{fields: []string{"Expires: 0"}},
		{fields: []string{"Cache-Control: max-age=100", "Age: 200"}},
		{fields: []string{"Cache-Control: max-age=100", "Date: " + time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)}},
		{fields: nil},
		{fields: []string{"Last-Modified: " + time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)}},
		{fields: []string{"Cache-Control: max-age=100", "Cache-Control: no-store"}},
		{fields: []string{"Cache-Control: private, max-age=100"}},
		{fields: []string{"Cache-Control: max-age=100", "CDN-Cache-Control: no-store"}},
		{fields: []string{"Cache-Control: no-store", "CDN-Cache-Control: max-age=100"}, hit: true},
		{fields: []string{"Cache-Control: max-age=100", "Set-Cookie: a=b"}},
		{fields: []string{"Cache-Control: max-age=100"}, first: []string{"Authorization: x"}, second: []string{"Authorization: x"}},
		{fields: []string{"Cache-Control: public, max-age=100"}, first: []string{"Authorization: x"}, second: []string{"Authorization: x"}, hit: true},
		{fields: []string{"Cache-Control: max-age=100"}, second: []string{"Cache-Control: no-cache"}},
		{fields: []string{"Cache-Control: max-age=100"}, second: []string{"Pragma: no-cache"}},
	} {
		app.says(x.fields...)
		path := fmt.Sprintf("%s/fresh/%d", at, i)
		c.want(fmt.Sprint(x), c.do("GET", path, x.first...), 200, "1")
		want := "2"
		if x.hit {
			want = "1"
		}
		got := c.do("GET", path, x.second...)
		c.want(fmt.Sprint(x), got, 200, want)
		if status := got.h.Get("Cache-Status"); strings.HasPrefix(status, "pillion; hit; ttl=") != x.hit || x.hit && got.h.Get("Age") == "" {
			c.t.Errorf("%v: Cache-Status %q, Age %q", x, status, got.h.Get("Age"))
		}
	}
	app.says("Cache-Control: max-age=100")
	if got := c.do("GET", at+"/absent", "Cache-Control: only-if-cached"); got.status != 504 || got.h.Get("Pillion-Error") != "not_cached" || app.asked.Load() != 0 {
		c.t.Errorf("only-if-cached: %d %v", got.status, got.h)
	}
}

func cacheVary(c *cacheClient, app *cacheApp, at string) {
	app.says("Cache-Control: max-age=100", "Vary: Accept-Language, X")
	path := at + "/vary"
	c.want("de", c.do("GET", path, "Accept-Language: de"), 200, "1")
	c.want("en", c.do("GET", path, "Accept-Language: en"), 200, "2")
	c.want("de again", c.do("GET", path, "Accept-Language: DE"), 200, "1")
	c.want("en again", c.do("GET", path, "Accept-Language: en"), 200, "2")
	c.want("neither", c.do("GET", path), 200, "3")
	c.want("with X", c.do("GET", path, "Accept-Language: de", "X: 1"), 200, "4")
}

func cacheConditional(c *cacheClient, app *cacheApp, at string) {
	tag := `"a"`
	app.does(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", tag)
		w.Header().Set("Cache-Control", "max-age=100")
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(304)
			return
		}
		fmt.Fprint(w, app.asked.Load())
	})
	path := at + "/conditional"
	c.want("first", c.do("GET", path), 200, "1")
	c.want("If-None-Match", c.do("GET", path, `If-None-Match: "x", W/"a"`), 304, "")
	c.want("If-None-Match of another", c.do("GET", path, `If-None-Match: "x"`), 200, "1")
	c.want("HEAD", c.do("HEAD", path), 200, "")
	if n := app.asked.Load(); n != 1 {
		c.t.Errorf("the app was asked %d times: %q", n, app.requests())
	}
	c.want("validated", c.do("GET", path, "Cache-Control: no-cache"), 200, "1")
	tag = `"b"`
	c.want("changed", c.do("GET", path, "Cache-Control: no-cache"), 200, "3")
	c.want("If-Match is for the app", c.do("GET", path, `If-Match: "z"`), 200, "4")
}

func cachePartial(c *cacheClient, app *cacheApp, at string) {
	content := strings.Repeat("0123456789", 10_000)
	app.does(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"a"`)
		w.Header().Set("Cache-Control", "max-age=100")
		http.ServeContent(w, r, "x.txt", time.Time{}, strings.NewReader(content))
	})
	path := at + "/partial"
	c.want("a part", c.do("GET", path, "Range: bytes=10-19"), 206, "0123456789")
	c.want("the part again", c.do("GET", path, "Range: bytes=12-15"), 206, "2345")
	if n := app.asked.Load(); n != 1 {
		c.t.Errorf("the app was asked %d times for a part: %q", n, app.requests())
	}
	c.want("all", c.do("GET", path), 200, content)
	got := c.do("GET", path, "Range: bytes=99995-")
	c.want("the end", got, 206, "56789")
	if got.h.Get("Content-Range") != "bytes 99995-99999/100000" {
		c.t.Errorf("%v", got.h)
	}
	c.want("beyond", c.do("GET", path, "Range: bytes=100000-"), 416, "")
	if n := app.asked.Load(); n != 2 {
		c.t.Errorf("the app was asked %d times: %q", n, app.requests())
	}
}

func cacheInvalidation(c *cacheClient, app *cacheApp, at string) {
	path := at + "/changing"
	app.does(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=100")
		if r.Method != "GET" {
			w.Header().Set("Location", path+"/other")
			w.WriteHeader(201)
		}
		fmt.Fprint(w, app.asked.Load())
	})
	n := 0
	for _, m := range []string{"POST", "PUT", "DELETE", "PATCH", "M-SEARCH"} {
		n++
		c.want("before "+m, c.do("GET", path), 200, fmt.Sprint(n))
		n++
		c.want("elsewhere before "+m, c.do("GET", path+"/other"), 200, fmt.Sprint(n))
		c.want("hit before "+m, c.do("GET", path), 200, fmt.Sprint(n-1))
		c.do(m, path)
		n++
	}
	c.want("after all", c.do("GET", path), 200, fmt.Sprint(n+1))
}

func cacheStale(c *cacheClient, app *cacheApp, at string) {
	path := at + "/stale"
	app.says("Cache-Control: max-age=1, stale-while-revalidate=600", "Age: 5")
	c.want("first", c.do("GET", path), 200, "1")
	c.want("stale", c.do("GET", path), 200, "1")
	app.does(func(w http.ResponseWriter, r *http.Request) { // once this is kept nothing is refreshed any more, into the tests that follow
		w.Header().Set("Cache-Control", "max-age=600")
		fmt.Fprint(w, "fresh")
	})
	eventually(c.t, 30*time.Second, "refreshed behind the client's back", func() bool { return c.do("GET", path).body == "fresh" })
	path += "/error"
	app.says("Cache-Control: max-age=1, stale-if-error=600", "Age: 5")
	first := c.do("GET", path)
	app.does(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) })
	c.want("instead of 503", c.do("GET", path), 200, first.body)
}

// What one client sends must not decide what others get.
func cacheDeception(c *cacheClient, app *cacheApp, at string) {
	app.does(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=100")
		path := r.Header.Get("X-Original-URL")
		if path == "" {
			path = r.URL.Path
		}
		method := r.Header.Get("X-HTTP-Method-Override")
		if method == "" {
			method = r.Method
		}
		if len(r.Header.Get("X-Large")) > 5000 {
			w.Header().Del("Cache-Control")
			w.WriteHeader(400)
		}
		fmt.Fprintf(w, "%s %s at %s", method, path, r.Header.Get("X-Forwarded-Host"))
	})
	for i, evil := range []string{"X-Forwarded-Host: evil", "X-Original-URL: /admin", "X-HTTP-Method-Override: DELETE", "X-Large: " + strings.Repeat("x", 6000), "X-Forwarded-Port: 1"} {
		path := fmt.Sprintf("%s/poison/%d", at, i)
		c.do("GET", path, evil)
		c.want(evil[:15], c.do("GET", path), 200, "GET "+path+" at ")
		c.do("GET", path, evil)
		c.want(evil[:15], c.do("GET", path), 200, "GET "+path+" at ")
	}
	private := true
	app.does(func(w http.ResponseWriter, r *http.Request) {
		if private {
			w.Header().Set("Cache-Control", "no-store")
		}
		fmt.Fprint(w, app.asked.Load())
	})
	for i, path := range []string{"/account/x.css", "/account;x.css", "/account%2fx.css", "/account/..%2fx.css", "/account%00.css", "/account?x.css"} {
		c.do("GET", at+path)
		c.want("an account in disguise", c.do("GET", at+path), 200, fmt.Sprint(2*i+2))
		if n := app.asked.Load(); n != int64(2*i+2) {
			c.t.Errorf("the app was asked %d times: %q", n, app.requests())
		}
	}
}

func cacheCollapsing(c *cacheClient, app *cacheApp, at string) {
	const clients = 200
	var wg sync.WaitGroup
	gate := make(chan struct{})
	app.does(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=100")
		io.WriteString(w, "begin ")
		w.(http.Flusher).Flush()
		<-gate
		io.WriteString(w, "end")
	})
	var begun atomic.Int32
	for range clients {
		wg.Go(func() {
			resp, err := c.http.Get("http://" + c.at + at + "/crowd")
			if err != nil {
				c.t.Error(err)
				return
			}
			defer resp.Body.Close()
			b := make([]byte, 6)
			if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != "begin " {
				c.t.Errorf("%q, %v", b, err)
			}
			begun.Add(1)
			rest, err := io.ReadAll(resp.Body)
			if err != nil || string(rest) != "end" {
				c.t.Errorf("%q, %v", rest, err)
			}
		})
	}
	eventually(c.t, time.Minute, "all read the beginning while the rest is not there", func() bool { return begun.Load() == clients })
	close(gate)
	wg.Wait()
	if n := app.asked.Load(); n != 1 {
		c.t.Errorf("%d clients asked the app %d times: %q", clients, n, app.requests())
	}
}

func cacheTruncated(c *cacheClient, app *cacheApp, at string) {
	app.does(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=100")
		if app.asked.Load() > 1 {
			io.WriteString(w, "whole")
			return
		}
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	resp, err := c.http.Get("http://" + c.at + at + "/cut")
	if err == nil {
		b, readErr := io.ReadAll(resp.Body)
		resp.Body.Close()
		if readErr == nil && resp.StatusCode == 200 && string(b) != "whole" { // which is what a second attempt gets
			c.t.Errorf("half an answer looks whole: %q", b)
		}
	}
	c.want("afterwards", c.do("GET", at+"/cut"), 200, "whole")
}

// TestCacheByItself: nothing is configured, and the cache stays out of the way until the service says that its answers may be kept.
func TestCacheByItself(t *testing.T) {
	app := newCacheApp(t)
	p := newPair(t, setup{app: app.addr})
	c := newCacheClient(t, p.local, false)
	app.says("X: y")
	for i := range 3 {
		got := c.do("GET", "/a")
		c.want("nothing said", got, 200, fmt.Sprint(i+1))
		if got.h.Get("Cache-Status") != "" || got.h.Get("Age") != "" {
			t.Errorf("%v", got.h)
		}
	}
	app.says("Cache-Control: max-age=100")
	c.want("kept", c.do("GET", "/a"), 200, "1")
	c.want("hit", c.do("GET", "/a"), 200, "1")
	var st admin.Status
	if err := json.Unmarshal([]byte(runTool(t, workshop.pillion(), "status", "--admin", p.a.admin, "-o", "json")), &st); err != nil {
		t.Fatal(err)
	}
	if st.Cache == nil || st.Cache.Entries != 1 || len(st.Cache.Services) != 1 || st.Cache.Services[0].Hits != 1 {
		t.Errorf("status: %+v", st.Cache)
	}
}

// TestCacheAtTheApp: the called side keeps answers too, and keeps callers apart.
func TestCacheAtTheApp(t *testing.T) {
	app := newCacheApp(t)
	p := newPair(t, setup{app: app.addr, appMore: ", cache: true", svcMore: ", cache: false"})
	c := newCacheClient(t, p.local, false)
	app.does(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=100")
		fmt.Fprint(w, app.asked.Load(), " ", r.Header.Get("X-Pillion-Identity"))
	})
	first := c.do("GET", "/a")
	if second := c.do("GET", "/a"); second.body != first.body || second.h.Get("Cache-Status") != "pillion-app; hit; ttl=99" && second.h.Get("Age") == "" {
		t.Errorf("%v, then %v", first, second)
	}
	other := newSidecar(t, "C", fmt.Sprintf("service: other\nservices: {app: {endpoints: %q, cache: false}}\n", p.b.peer), p.ca.issue(leaf{name: "other"}))
	other.ready()
	req, _ := http.NewRequest("GET", "http://"+other.outbound+"/a", nil)
	req.Host = "app"
	resp, err := c.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if !strings.HasSuffix(string(b), "/other") {
		t.Errorf("another caller got %q, after %q", b, first.body)
	}
}

// TestCacheCommand: what an operator sees and does; and the folder is used again after a restart.
func TestCacheCommand(t *testing.T) {
	app := newCacheApp(t)
	dir := t.TempDir()
	p := newPair(t, setup{app: app.addr, svcMore: ", cache: true", aMore: fmt.Sprintf("cache: {disk: %q}\n", dir)})
	c := newCacheClient(t, p.a.outbound, false)
	get := func(path string) cached { return c.do("GET", path, "Host-Is: app") }
	c.http.Transport.(*http.Transport).Proxy = func(*http.Request) (*url.URL, error) { return url.Parse("http://" + p.a.outbound) }
	c.at = "app"
	app.says("Cache-Control: max-age=1000", "Surrogate-Key: one two")
	run := func(args ...string) string {
		return runTool(t, append([]string{workshop.pillion(), "cache"}, append(args, "--admin", p.a.admin)...)...)
	}
	get("/a")
	get("/b")
	c.want("hit", get("/a"), 200, "1")
	for _, x := range []struct{ command, want string }{
		{"stats", "app"}, {"ls", "app/a"}, {"ls --service app", "one,two"}, {"show http://APP:80/a", "app/a"}, {"stats -o json", "\"hits\": 1"},
		{"purge http://app/a", "1 forgotten"},
	} {
		if got := run(strings.Fields(x.command)...); !strings.Contains(got, x.want) {
			t.Errorf("cache %s: %s; want %s", x.command, got, x.want)
		}
	}
	c.want("purged", get("/a"), 200, "3")
	c.want("not purged", get("/b"), 200, "2")
	if got := run("purge", "--tag", "two"); !strings.Contains(got, " forgotten") {
		t.Errorf("purge --tag: %s", got)
	}
	c.want("purged by tag", get("/b"), 200, "4")
	eventually(t, 30*time.Second, "written", func() bool {
		return strings.Contains(run("stats", "-o", "json"), "\"disk\"") && len(cacheFiles(t, dir)) == 1
	})
	p.a.kill()
	p.a.start(t, "A")
	p.a.ready()
	eventually(t, 30*time.Second, "found again", func() bool { return strings.Contains(run("stats"), "disk") })
	c.want("after being killed", get("/b"), 200, "4")
}

func cacheFiles(t *testing.T, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "*", "*.entry"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}
