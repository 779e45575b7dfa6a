//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestDashboard: the page in a real browser, in four looks: what it shows, that it needs nothing from elsewhere, and that it can be used without a mouse.
func TestDashboard(t *testing.T) {
	if *direct {
		return
	}
	app := httptest.NewServer(http.HandlerFunc(dashboardApp))
	defer app.Close()
	p := newPair(t, setup{app: app.Listener.Addr().String(), svcMore: ", cache: true", aMore: "  billing: {endpoints: \"127.0.0.1:9\"}\n"})
	rewrite(t, p.b.config, "pprof: true}", "pprof: true, share: web}") // which it takes over by itself
	traffic(t, p)
	b := newBrowser(t)
	at := "http://" + p.a.admin + "/"
	for _, look := range []struct {
		name, scheme  string
		width, height int
	}{{"desktop-light", "light", 1280, 900}, {"desktop-dark", "dark", 1280, 900}, {"phone-light", "light", 390, 844}, {"phone-dark", "dark", 390, 844}} {
		b.open(at, look.width, look.height, look.scheme)
		b.until("document.body.dataset.frames > 3")
		b.until("document.querySelector('#graph .to .edge[data-state=bad] .label b').textContent.includes('/s')")
		b.until("document.querySelectorAll('#stories details').length > 0 && document.querySelectorAll('#linkrows tr').length > 0")
		if wide := b.eval("document.documentElement.scrollWidth - document.documentElement.clientWidth"); wide != 0.0 {
			t.Errorf("%s: the page is %v pixels wider than the window", look.name, wide)
		}
		b.eval("document.querySelector('#stories details').open = true")
		b.until("document.querySelector('#stories details .story li')")
		b.eval("document.querySelector('#tapbutton').click()")
		b.until("document.querySelectorAll('#taprows tr').length > 8")
		b.eval("document.querySelector('#peers').scrollIntoView()")
		b.until("document.querySelectorAll('#peerrows details').length === 2")
		b.eval("document.querySelectorAll('#peerrows details').forEach(d => d.open = true)")
		b.eval("window.scrollTo(0, 0), document.querySelector('#config').open = true")
		b.until("document.querySelector('#configtext').textContent.includes('service: web')")
		if n := b.picture(look.name); n < 20_000 {
			t.Errorf("%s: a picture of %d bytes, which is of nothing", look.name, n)
		}
	}
	for _, x := range []struct{ what, expression string }{
		{"the service", "document.querySelector('h1').textContent === 'web'"},
		{"the service that is called", "[...document.querySelectorAll('#graph .to .node strong')].some(e => e.textContent === 'app')"},
		{"success on the edge", "[...document.querySelectorAll('#graph .to .edge .ok')].some(e => e.textContent.includes('%'))"},
		{"latency on the edge", "[...document.querySelectorAll('#graph .to .edge .lat')].some(e => e.textContent.includes('p99'))"},
		{"an endpoint", "document.querySelector('#endpoints').textContent.includes('127.0.0.1')"},
		{"a link", "document.querySelector('#linkrows').textContent.includes('TCP')"},
		{"a peer that shares what it does", "document.querySelector('#peerrows').textContent.includes('spiffe://') && document.querySelector('#peerrows .tag.good')"},
		{"a peer that cannot be reached", "document.querySelector('#peerrows .tag.bad').textContent === 'connect failed'"},
		{"the cache", "document.querySelector('#cacherows').textContent.includes('%')"},
		{"the certificate", "document.querySelector('#certificate').textContent.includes('spiffe://')"},
		{"the landmark", "document.querySelector('main') && document.querySelector('nav[aria-label]')"},
		{"names for everything that can be used", "[...document.querySelectorAll('button, a, input, [role=region]')].every(e => e.textContent.trim() || e.closest('label') || e.getAttribute('aria-label'))"},
	} {
		if b.eval("Boolean("+x.expression+")") != true {
			t.Errorf("the page does not show %s", x.what)
		}
	}
	dashboardKeys(t, b)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, u := range b.asked {
		if !strings.HasPrefix(u, at) {
			t.Errorf("the page asked for %s", u)
		}
	}
	if len(b.console) > 0 {
		t.Errorf("the browser complains: %q", b.console)
	}
}

// dashboardKeys uses the page by keyboard alone.
func dashboardKeys(t *testing.T, b *browser) {
	t.Helper()
	b.eval("document.activeElement.blur(), window.scrollTo(0, 0)")
	var seen []string
	for range 60 {
		b.key("Tab", 9)
		what := b.eval("document.activeElement.id || document.activeElement.getAttribute('href') || document.activeElement.getAttribute('aria-label') || document.activeElement.tagName")
		seen = append(seen, fmt.Sprint(what))
		if what == "pause" {
			break
		}
	}
	if b.eval("getComputedStyle(document.activeElement).outlineStyle") == "none" {
		t.Error("what has the focus does not show it")
	}
	b.key("Enter", 13)
	b.until("document.getElementById('live').textContent === 'paused'")
	b.key("Enter", 13)
	b.until("document.getElementById('live').textContent === 'live'")
	if strings.Join(seen, " ") != "#main pause" {
		t.Errorf("Tab goes through %q, want the way past the head first, and then what is in it", seen)
	}
}

// TestDashboardToken: a page of a sidecar with a token holds nothing until the token is written, keeps it in the tab alone, and asks for the write token
// before it changes anything.
func TestDashboardToken(t *testing.T) {
	if *direct {
		return
	}
	ca := newAuthority(t)
	admin, token, write := freeAddr(t), "a-token-of-some-length", "a-write-token-of-some-length"
	s := &sidecar{outbound: freeAddr(t), peer: freeAddr(t), admin: admin, config: t.TempDir() + "/web.yaml"}
	s.write(t, "service: web\n", ca.issue(leaf{name: "web"}))
	rewrite(t, s.config, "pprof: true}", fmt.Sprintf("token: %s, write_token: %s}", token, write))
	s.process = start(t, "sidecar", workshop.pillion(), "run", "-c", s.config)
	s.ready()
	b := newBrowser(t)
	b.open("http://"+admin+"/", 900, 700, "light")
	b.until("document.getElementById('ask').open")
	if b.eval("document.getElementById('service').textContent") != "pillion" {
		t.Error("the page says whose sidecar it is before the token")
	}
	b.picture("token")
	b.write("a-wrong-token")
	b.key("Enter", 13)
	b.until("document.getElementById('ask').open && document.getElementById('askwhy').textContent.includes('not right')")
	b.write(token)
	b.key("Enter", 13)
	b.until("document.body.dataset.frames > 1 && document.getElementById('service').textContent === 'web'")
	if left := b.eval("JSON.stringify(localStorage) + document.cookie + location.href"); strings.Contains(fmt.Sprint(left), token) {
		t.Errorf("the token is left in %v", left)
	}
	b.eval("document.getElementById('config').open = true")
	b.until("document.getElementById('configtext').textContent.includes('service: web')")
	if text := fmt.Sprint(b.eval("document.getElementById('configtext').textContent")); strings.Contains(text, token) || strings.Contains(text, write) || !strings.Contains(text, "not shown here") {
		t.Errorf("the configuration is\n%s", text)
	}
	b.eval("document.getElementById('reload').click()")
	b.until("document.getElementById('reloadsays').textContent.includes('Nothing differs')")
	b.picture("token-given")
}

// TestDashboardOtherSites: neither a page of another site nor one by a name that leads here (DNS rebinding) sees anything or changes anything.
func TestDashboardOtherSites(t *testing.T) {
	if *direct {
		return
	}
	ca := newAuthority(t)
	s := newSidecar(t, "web", "service: web\n", ca.issue(leaf{name: "web"}))
	s.ready()
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<title>evil</title>")
	}))
	defer evil.Close()
	b := newBrowser(t)
	b.open(evil.URL, 800, 600, "light")
	try := func(path, more string) string {
		return fmt.Sprint(b.eval(fmt.Sprintf("fetch(%q, {%s}).then(r => r.text()).then(t => 'got ' + t, e => 'refused')", "http://"+s.admin+path, more)))
	}
	for _, path := range []string{"/", "/events", "/status", "/config", "/why", "/tap", "/dashboard/app.js"} {
		if got := try(path, ""); got != "refused" {
			t.Errorf("another site sees %s: %.100s", path, got)
		}
	}
	for _, more := range []string{"method: 'POST'", "method: 'POST', headers: {'Pillion-Action': '1'}", "method: 'POST', mode: 'no-cors'"} {
		try("/reload", more)
	}
	if n := s.status().Configuration.Reloads; n != 0 {
		t.Errorf("another site has had the configuration reloaded %d times", n)
	}
	// In a frame: the page must not be there for clicks that are meant for something else.
	b.eval(fmt.Sprintf("new Promise(done => { const f = document.createElement('iframe'); f.src = %q; f.onload = f.onerror = done; document.body.append(f) })", "http://"+s.admin+"/"))
	if n := b.eval("frames.length"); n != 1.0 {
		t.Errorf("%v frames", n)
	}
	var tree struct {
		FrameTree struct {
			ChildFrames []struct {
				Frame struct{ URL, UnreachableURL string }
			}
		}
	}
	b.call("Page.getFrameTree", nil, &tree)
	if all := tree.FrameTree.ChildFrames; len(all) != 1 || !strings.HasPrefix(all[0].Frame.URL, "chrome-error:") {
		t.Errorf("in the frame is %+v, want the browser's error", all)
	}
	otherWays(t, b, "http://"+s.admin)
	if n := s.status().Configuration.Reloads; n != 0 {
		t.Errorf("a form of another site has had the configuration reloaded %d times", n)
	}
	_, port, _ := strings.Cut(s.admin, ":")
	b.open("http://rebound.example:"+port+"/", 800, 600, "light")
	if got := fmt.Sprint(b.eval("document.body.textContent")); !strings.Contains(got, "Host must be") {
		t.Errorf("by a name that leads here: %.200s", got)
	}
	if got := fmt.Sprint(b.eval("fetch('/status').then(r => r.text(), () => 'refused')")); got != "refused" && !strings.Contains(got, "Host must be") {
		t.Errorf("fetch by a name that leads here: %s", got)
	}
}

// otherWays tries what a page may do to another site without asking: what is embedded, what is sent by a form, what is followed.
func otherWays(t *testing.T, b *browser, at string) {
	t.Helper()
	for name, expression := range map[string]string{
		"a script":      "new Promise(done => { const e = document.createElement('script'); e.type = 'module'; e.src = AT + '/dashboard/dom.js'; e.onload = () => done('loaded'); e.onerror = () => done('refused'); document.body.append(e) })",
		"an old script": "new Promise(done => { const e = document.createElement('script'); e.src = AT + '/dashboard/dom.js'; e.onload = () => done('loaded'); e.onerror = () => done('refused'); document.body.append(e) })",
		"a style":       "new Promise(done => { const e = document.createElement('link'); e.rel = 'stylesheet'; e.href = AT + '/dashboard/style.css'; e.onload = () => done('loaded'); e.onerror = () => done('refused'); document.head.append(e) })",
		"an image":      "new Promise(done => { const e = new Image(); e.src = AT + '/dashboard/icon.svg'; e.onload = () => done('loaded'); e.onerror = () => done('refused') })",
		"events":        "new Promise(done => { const e = new EventSource(AT + '/events'); e.onmessage = () => { e.close(); done('loaded') }; e.onerror = () => { e.close(); done('refused') } })",
		"a form": "new Promise(done => { const i = document.createElement('iframe'); i.name = 'sink'; document.body.append(i); const f = document.createElement('form'); f.method = 'post'; f.enctype = 'text/plain'; " +
			"f.action = AT + '/reload'; f.target = 'sink'; document.body.append(f); i.onload = () => done('refused'); f.submit() })",
	} {
		if got := b.eval(strings.ReplaceAll(expression, "AT", fmt.Sprintf("%q", at))); got != "refused" {
			t.Errorf("another site, by %s: %v", name, got)
		}
	}
}

func dashboardApp(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/broken":
		http.Error(w, "broken", http.StatusInternalServerError)
	case strings.HasPrefix(r.URL.Path, "/kept"):
		w.Header().Set("Cache-Control", "max-age=600")
		fmt.Fprint(w, "kept")
	default:
		fmt.Fprint(w, "hello")
	}
}

// traffic sends requests until the test ends.
func traffic(t *testing.T, p *pair) {
	t.Helper()
	done, stop := make(chan struct{}), sync.WaitGroup{}
	t.Cleanup(func() { close(done); stop.Wait() })
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: p.a.outbound})}
	t.Cleanup(tr.CloseIdleConnections)
	client := &http.Client{Transport: tr, Timeout: 20 * time.Second}
	stop.Go(func() {
		for i := 0; ; i++ {
			path := []string{"app:8080/", "app:8080/kept/a", "app:8080/orders?token=secret", "app:8080/kept/b", "app:8080/users/7", "app:8080/search?q=x"}[i%6]
			if i%40 == 7 {
				path = "app:8080/broken"
			}
			if i%25 == 3 {
				path = "billing/invoices"
			}
			if resp, err := client.Get("http://" + path); err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
}

// rewrite replaces a part of a file.
func rewrite(t *testing.T, name, old, new string) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil || !strings.Contains(string(data), old) {
		t.Fatalf("%s has no %q, %v", name, old, err)
	}
	if err := os.WriteFile(name, []byte(strings.Replace(string(data), old, new, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}
