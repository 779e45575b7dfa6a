package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// fixed is a listener that is never used but for its address.
type fixed struct {
	net.Listener
	addr string
}

func (f fixed) Addr() net.Addr { return addr(f.addr) }

type addr string

func (a addr) Network() string {
	if strings.HasPrefix(string(a), "/") {
		return "unix"
	}
	return "tcp"
}
func (a addr) String() string { return string(a) }

const secret = "0123456789abcdef"

func newServer(t *testing.T, where string, change func(*Config)) *Server {
	t.Helper()
	cfg := Config{Listener: fixed{addr: where}, Status: func() Status { return Status{Service: "web", State: Ready} }}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ask(s *Server, method, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	r.Host = "127.0.0.1:15000"
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		} else {
			r.Header.Set(header[i], header[i+1])
		}
	}
	w := httptest.NewRecorder()
	s.http.Handler.ServeHTTP(w, r)
	return w
}

func TestNewRefuses(t *testing.T) {
	status := func() Status { return Status{} }
	for name, cfg := range map[string]Config{
		"nothing":       {},
		"no status":     {Listener: fixed{addr: "127.0.0.1:1"}},
		"short token":   {Listener: fixed{addr: "127.0.0.1:1"}, Status: status, Access: Access{Token: "short"}},
		"every address": {Listener: fixed{addr: "[::]:15000"}, Status: status},
		"another":       {Listener: fixed{addr: "10.0.0.1:15000"}, Status: status},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: New succeeded", name)
		}
	}
	for _, where := range []string{"127.0.0.1:1", "[::1]:1", "/run/admin.sock"} {
		if _, err := New(Config{Listener: fixed{addr: where}, Status: status}); err != nil {
			t.Errorf("New on %s: %v", where, err)
		}
	}
}

func TestGuard(t *testing.T) {
	s := newServer(t, "127.0.0.1:15000", nil)
	for _, c := range []struct {
		name   string
		method string
		path   string
		header []string
		want   int
	}{
		{"plain", "GET", "/status", nil, 200},
		{"head", "HEAD", "/status", nil, 200},
		{"index", "GET", "/", nil, 200},
		{"localhost", "GET", "/status", []string{"Host", "localhost:15000"}, 200},
		{"ipv6", "GET", "/status", []string{"Host", "[::1]:15000"}, 200},
		{"ipv6 without port", "GET", "/status", []string{"Host", "[::1]"}, 200},
		{"http/1.0", "GET", "/status", []string{"Host", ""}, 200},
		{"rebinding", "GET", "/status", []string{"Host", "evil.example:15000"}, 403},
		{"rebinding a number", "GET", "/status", []string{"Host", "127.0.0.1.evil.example"}, 403},
		{"localhost as a prefix", "GET", "/healthz", []string{"Host", "localhost.evil.example"}, 403},
		{"typed in a browser", "GET", "/status", []string{"Sec-Fetch-Site", "none"}, 200},
		{"same origin", "GET", "/status", []string{"Sec-Fetch-Site", "same-origin", "Origin", "http://127.0.0.1:15000"}, 200},
		{"another site", "GET", "/status", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"another port of localhost", "GET", "/status", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"another origin", "GET", "/status", []string{"Origin", "http://evil.example"}, 403},
		{"null origin", "GET", "/status", []string{"Origin", "null"}, 403},
		{"post", "POST", "/status", nil, 405},
		{"post to nothing", "POST", "/nothing", nil, 405},
		{"options", "OPTIONS", "/status", []string{"Origin", "http://evil.example"}, 405},
		{"delete", "DELETE", "/", nil, 405},
		{"unknown", "GET", "/nothing", nil, 404},
		{"pprof off", "GET", "/debug/pprof/", nil, 404},
	} {
		if w := ask(s, c.method, c.path, c.header...); w.Code != c.want {
			t.Errorf("%s: %s %s %v = %d %q, want %d", c.name, c.method, c.path, c.header, w.Code, w.Body, c.want)
		}
	}
}

func TestToken(t *testing.T) {
	s := newServer(t, "0.0.0.0:15000", func(c *Config) { c.Token = secret; c.Pprof = true })
	for _, c := range []struct {
		path, auth string
		want       int
	}{
		{"/healthz", "", 200},
		{"/readyz", "", 200},
		{"/status", "", 401},
		{"/status", "Bearer", 401},
		{"/status", "Bearer " + secret + "x", 401},
		{"/status", "Basic " + secret, 401},
		{"/status", "Bearer " + secret, 200},
		{"/status", "bearer " + secret, 200},
		{"/", "", 401},
		{"/nothing", "", 401},
		{"/debug/pprof/", "", 401},
		{"/debug/pprof/", "Bearer " + secret, 200},
		{"/debug/pprof/goroutine", "Bearer " + secret, 200},
	} {
		w := ask(s, "GET", c.path, "Authorization", c.auth, "Host", "sidecar.internal:15000")
		if w.Code != c.want {
			t.Errorf("%s with %q = %d %q, want %d", c.path, c.auth, w.Code, w.Body, c.want)
		}
	}
}

func TestReady(t *testing.T) {
	var why error
	s := newServer(t, "127.0.0.1:15000", func(c *Config) { c.Ready = func() error { return why } })
	if w := ask(s, "GET", "/readyz"); w.Code != 200 || w.Body.String() != "ready\n" {
		t.Errorf("/readyz = %d %q", w.Code, w.Body)
	}
	why = errors.New("draining")
	if w := ask(s, "GET", "/readyz"); w.Code != 503 || w.Body.String() != "not ready: draining\n" {
		t.Errorf("/readyz = %d %q", w.Code, w.Body)
	}
	if w := ask(s, "GET", "/healthz"); w.Code != 200 {
		t.Errorf("/healthz while draining = %d, want 200: a restart would not help", w.Code)
	}
}

// TestStatus: lists are never null, and what was put in comes out.
func TestStatus(t *testing.T) {
	s := newServer(t, "127.0.0.1:15000", nil)
	w := ask(s, "GET", "/status")
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type = %q", got)
	}
	if strings.Contains(w.Body.String(), "null") {
		t.Errorf("null in %s", w.Body)
	}
	var st Status
	if err := json.Unmarshal(w.Body.Bytes(), &st); err != nil || st.Service != "web" || st.State != Ready {
		t.Errorf("got %+v, %v", st, err)
	}
}

// TestRun: over a real socket; Run ends when its context does, and then nothing listens.
func TestRun(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Listener: l, Status: func() Status { return Status{} }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	client := &http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://" + s.Addr().String() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != "ok\n" {
		t.Errorf("/healthz = %q", body)
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Run = %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Run does not end")
	}
	if c, err := net.Dial("tcp", s.Addr().String()); err == nil {
		c.Close()
		t.Error("still listening after Run")
	}
}

// TestRunListenerFails: a listener that breaks ends Run with its error.
func TestRunListenerFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Listener: l, Status: func() Status { return Status{} }})
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := s.Run(context.Background()); err == nil {
		t.Error("Run = nil, want the error of the closed listener")
	}
}

// TestBounded: the connection beyond the bound waits until one is closed, and Close wakes Accept.
func TestBounded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := newBounded(l, 1)
	var accepted atomic.Int32
	conns := make(chan net.Conn, 2)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := b.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			conns <- c
		}
	}()
	for range 2 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	first := <-conns
	if n := accepted.Load(); n != 1 {
		t.Errorf("%d accepted beside a full bound of 1", n)
	}
	first.Close()
	first.Close() // gives the slot back once only
	second := <-conns
	defer second.Close()
	b.Close()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatal("Close does not wake Accept")
	}
}

// TestWrite: who may have something changed.
func TestWrite(t *testing.T) {
	const write = "fedcba9876543210"
	reload := func(c *Config) { c.Reload = func(apply bool) Reload { return Reload{OK: true, Applied: apply} } }
	here := newServer(t, "127.0.0.1:15000", reload)
	token := newServer(t, "127.0.0.1:15000", func(c *Config) { reload(c); c.Token = secret })
	far := newServer(t, "10.0.0.1:15000", func(c *Config) { reload(c); c.Token, c.WriteToken = secret, write })
	farOnly := newServer(t, "10.0.0.1:15000", func(c *Config) { reload(c); c.Token = secret })
	bearer := func(s string) []string { return []string{ActionField, "1", "Authorization", "Bearer " + s} }
	const local, remote = "127.0.0.1:4000", "10.0.0.9:4000"
	for _, x := range []struct {
		name   string
		s      *Server
		from   string
		method string
		path   string
		header []string
		want   int
	}{
		{"from here", here, local, "POST", "/reload", []string{ActionField, "1"}, 200},
		{"without the field", here, local, "POST", "/reload", nil, 403},
		{"of another site", here, local, "POST", "/reload", []string{ActionField, "1", "Sec-Fetch-Site", "cross-site"}, 403},
		{"by another name", here, local, "POST", "/reload", []string{ActionField, "1", "Host", "rebound.example"}, 403},
		{"from elsewhere", here, remote, "POST", "/reload", []string{ActionField, "1"}, 403},
		{"another path", here, local, "POST", "/status", []string{ActionField, "1"}, 405},
		{"another method", here, local, "PUT", "/reload", []string{ActionField, "1"}, 405},
		{"only to look", here, remote, "GET", "/reload", nil, 200},
		{"from here, without the token", token, local, "POST", "/reload", []string{ActionField, "1"}, 401},
		{"from here, with the token", token, local, "POST", "/reload", bearer(secret), 200},
		{"with the token that reads", far, remote, "POST", "/reload", bearer(secret), 403},
		{"with the token that writes", far, remote, "POST", "/reload", bearer(write), 200},
		{"to look, with the token that reads", far, remote, "GET", "/reload", bearer(secret), 200},
		{"where none writes", farOnly, remote, "POST", "/reload", bearer(secret), 403},
	} {
		r := httptest.NewRequest(x.method, x.path, nil)
		r.Host, r.RemoteAddr = "127.0.0.1:15000", x.from
		for i := 0; i < len(x.header); i += 2 {
			if x.header[i] == "Host" {
				r.Host = x.header[i+1]
			} else {
				r.Header.Set(x.header[i], x.header[i+1])
			}
		}
		w := httptest.NewRecorder()
		x.s.http.Handler.ServeHTTP(w, r)
		if w.Code != x.want {
			t.Errorf("%s: %s %s answers %d %s, want %d", x.name, x.method, x.path, w.Code, strings.TrimSpace(w.Body.String()), x.want)
		}
		if applied := strings.Contains(w.Body.String(), `"applied": true`); applied != (x.want == 200 && x.method == "POST") {
			t.Errorf("%s: applied %v", x.name, applied)
		}
	}
}

// TestHome: browsers get the page, without the token too, and others the index; what guards everything guards these.
func TestHome(t *testing.T) {
	page := func(text string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) })
	}
	s := newServer(t, "127.0.0.1:15000", func(c *Config) {
		c.Token, c.Home = secret, page("home")
		c.Open = map[string]http.Handler{"GET /dashboard/x.js": page("script")}
		c.Pages = map[string]http.Handler{"GET /events": page("events")}
	})
	const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
	for _, c := range []struct {
		path   string
		header []string
		want   int
		body   string
	}{
		{"/", []string{"Accept", browser}, 200, "home"},
		{"/", []string{"Accept", "*/*"}, 401, ""},
		{"/", []string{"Accept", "text/plain, text/html"}, 401, ""},
		{"/", []string{"Accept", "*/*", "Authorization", "Bearer " + secret}, 200, "pillion"},
		{"/dashboard/x.js", nil, 200, "script"},
		{"/events", []string{"Accept", browser}, 401, ""},
		{"/events", []string{"Authorization", "Bearer " + secret}, 200, "events"},
		{"/", []string{"Accept", browser, "Sec-Fetch-Site", "cross-site"}, 403, ""},
		{"/", []string{"Accept", browser, "Host", "rebound.example:15000"}, 403, ""},
		{"/dashboard/x.js", []string{"Sec-Fetch-Site", "same-site"}, 403, ""},
		{"/dashboard/x.js", []string{"Host", "rebound.example"}, 403, ""},
		{"/events", []string{"Authorization", "Bearer " + secret, "Origin", "http://evil.example"}, 403, ""},
	} {
		if w := ask(s, "GET", c.path, c.header...); w.Code != c.want || !strings.HasPrefix(w.Body.String(), c.body) {
			t.Errorf("%s %q = %d %q, want %d %q", c.path, c.header, w.Code, w.Body, c.want, c.body)
		}
	}
}
