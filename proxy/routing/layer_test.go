package routing

import (
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

func table(t testing.TB) *Table {
	return &Table{Rules: []Rule{
		{Match: []Conditions{{Path: mustPath(t, "/v1/{region}/*")}}, Path: mustPath(t, "/v2/{region}/x/*"), Host: "billing.example"},
		{Match: []Conditions{{Path: mustPath(t, "/old/{id}")}}, Redirect: &Redirect{Path: mustPath(t, "/new/{id}"), Status: 308}},
		{Match: []Conditions{{Path: mustPath(t, "/tls/*")}}, Redirect: &Redirect{Scheme: "https", Port: 8443, Status: 302}},
		{Match: []Conditions{{Path: mustPath(t, "/else")}}, Redirect: &Redirect{Host: "other.example", Status: 301}},
		{Match: []Conditions{{Path: mustPath(t, "/strip/*")}}, Path: mustPath(t, "/*")},
		{Match: []Conditions{{Path: mustPath(t, "/full")}}, Path: mustPath(t, "/whole/way")},
		{Match: []Conditions{{Path: mustPath(t, "/canary/*")}}, Backend: proxy.Service{Name: "canary", Port: 9}},
		{Match: []Conditions{{Path: mustPath(t, "/split")}}, Split: func(*proxy.Request) proxy.Service { return proxy.Service{Name: "half"} }},
		{Match: []Conditions{{Path: mustPath(t, "/edit")}},
			Request:  Edits{Remove: []string{"cookie"}, Set: []proxy.Field{{Name: "X-Set", Value: "1"}}, Add: []proxy.Field{{Name: "x-add", Value: "2"}}},
			Response: Edits{Remove: []string{"Server"}, Add: []proxy.Field{{Name: "x-seen", Value: "3"}}}},
	}}
}

// seen is what the next layer gets.
type seen struct {
	req    proxy.Request
	closed int
}

func (s *seen) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	s.req = *req
	resp.Status = 204
	resp.Fields = append(resp.Fields, proxy.Field{Name: "server", Value: "app"})
	resp.OnClose(s)
	return nil
}

func (s *seen) CloseResponse(*proxy.Response) { s.closed++ }

// TestActions: what each kind of rule makes of a request and of its answer.
func TestActions(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		proxytest.Do(t, s, func() {
			next := new(seen)
			l := Layer(Config{Tables: map[string]*Table{"billing": table(t)}, Shards: len(rt.Shards())})(next)
			for _, x := range []struct {
				path                     string
				rule                     int
				to, authority, goesTo, l string
			}{
				{"/v1/eu/a/b?q=1", 1, "/v2/eu/x/a/b?q=1", "billing.example", "", ""},
				{"/v1/eu", 1, "/v2/eu/x", "billing.example", "", ""},
				{"/old/7?q", 2, "", "", "", "http://billing:80/new/7?q"},
				{"/tls/a?b", 3, "", "", "", "https://billing:8443/tls/a?b"},
				{"/else", 4, "", "", "", "http://other.example/else"},
				{"/strip/a?b", 5, "/a?b", "billing:80", "", ""},
				{"/strip", 5, "/", "billing:80", "", ""},
				{"/full?b", 6, "/whole/way?b", "billing:80", "", ""},
				{"/canary/a", 7, "/canary/a", "billing:80", "canary:9", ""},
				{"/split", 8, "/split", "billing:80", "half", ""},
				{"/none", 0, "/none", "billing:80", "", ""},
			} {
				next.req, next.closed = proxy.Request{}, 0
				req := &proxy.Request{Method: "GET", Scheme: "http", Authority: "billing:80", Path: x.path, Shard: s, Service: proxy.Service{Name: "billing"}, Cancel: new(proxy.Cancel)}
				var resp proxy.Response
				if err := l.RoundTrip(req, &resp); err != nil {
					t.Fatal(err)
				}
				if got := next.req; got.Path != x.to || got.Authority != x.authority || got.Backend.String() != x.goesTo || req.Rule != x.rule {
					t.Errorf("%s: rule %d, %q at %q to %q; want %d, %q at %q to %q", x.path, req.Rule, got.Path, got.Authority, got.Backend, x.rule, x.to, x.authority, x.goesTo)
				}
				if got := resp.Fields.Get("location"); got != x.l || x.l != "" && (resp.Code != RedirectCode || resp.Status/100 != 3) {
					t.Errorf("%s: location %q, status %d, code %q, want %q", x.path, got, resp.Status, resp.Code, x.l)
				}
				if req.Path != x.path || req.Authority != "billing:80" {
					t.Errorf("%s: the layers above see %q at %q afterwards", x.path, req.Path, req.Authority)
				}
				resp.Close()
				if next.closed != 1 && x.l == "" {
					t.Errorf("%s: closed %d times", x.path, next.closed)
				}
			}
		})
	})
}

// TestEdits: fields of both messages.
func TestEdits(t *testing.T) {
	next := new(seen)
	l := Layer(Config{Tables: map[string]*Table{"billing": table(t)}, Shards: 1})(next)
	req := &proxy.Request{Method: "GET", Path: "/edit", Service: proxy.Service{Name: "billing"},
		Fields: proxy.Fields{{Name: "Cookie", Value: "a"}, {Name: "x-set", Value: "0"}, {Name: "x-add", Value: "1"}}}
	var resp proxy.Response
	if err := l.RoundTrip(req, &resp); err != nil {
		t.Fatal(err)
	}
	f := next.req.Fields
	if f.Has("cookie") || f.Get("x-set") != "1" || len(f) != 3 || f[2] != (proxy.Field{Name: "x-add", Value: "2"}) {
		t.Errorf("the request has %v", f)
	}
	if resp.Fields.Has("server") || resp.Fields.Get("x-seen") != "3" {
		t.Errorf("the answer has %v", resp.Fields)
	}
	resp.Close()
}

// TestExplains: every rule says what it does.
func TestExplains(t *testing.T) {
	for i, r := range table(t).Rules {
		if r.Explain() == "" {
			t.Errorf("rule %d does not say what it does", i+1)
		}
	}
}

// TestAllocatesNothing pins each kind of rule.
func TestAllocatesNothing(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		proxytest.Do(t, s, func() {
			l := Layer(Config{Tables: map[string]*Table{"billing": table(t)}, Shards: len(rt.Shards())})(new(seen))
			req, resp, cancel := new(proxy.Request), new(proxy.Response), new(proxy.Cancel)
			fields := make(proxy.Fields, 2, 16)
			for _, path := range []string{"/v1/eu/a/b?q=1", "/old/7", "/canary/a", "/split", "/edit", "/none"} {
				n := proxytest.Allocs(100, func() {
					*req = proxy.Request{Method: "GET", Authority: "billing", Path: path, Fields: fields[:2], Shard: s, Service: proxy.Service{Name: "billing"}, Cancel: cancel}
					if l.RoundTrip(req, resp) == nil {
						resp.Close()
					}
				})
				if n != 0 {
					t.Errorf("%s: %v allocations, want 0", path, n)
				}
			}
		})
	})
}
