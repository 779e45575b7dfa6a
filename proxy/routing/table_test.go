package routing

import (
	"strings"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
)

func mustPath(t testing.TB, s string) Path {
	t.Helper()
	if s == "" {
		return Path{}
	}
	p, err := ParsePath(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustHeader(t testing.TB, name, value string) Header {
	t.Helper()
	h, err := ParseHeader(name, value)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func find(t testing.TB, c Conditions, req *proxy.Request) bool {
	t.Helper()
	n, _ := (&Table{Rules: []Rule{{Match: []Conditions{c}}}}).Find(req)
	return n == 1
}

// TestPaths: exact, prefix and template.
func TestPaths(t *testing.T) {
	for _, x := range []struct{ path, fits, fitsNot string }{
		{"/", "/ /?q=/a", "/a // * "},
		{"/users", "/users /users?x=1", "/users/ /user /users/7 /Users /us%65rs /"},
		{"/users/", "/users/", "/users /users/7"},
		{"/users/*", "/users /users/ /users/7 /users/7/posts /users?x", "/users7 /user / *"},
		{"/*", "/ /a /a/b ?", "*"},
		{"/users/{id}", "/users/7 /users/a%2Fb /users/7?x=/y", "/users /users/ /users/7/ /users/7/posts"},
		{"/users/{id}/posts/{post}", "/users/7/posts/8", "/users/7/posts /users//posts/8 /users/7/post/8"},
		{"/{a}/*", "/x /x/ /x/y", "/ //y"},
		{"", "/ /a * ", ""},
	} {
		c := Conditions{Path: mustPath(t, x.path)}
		for _, p := range strings.Split(x.fits, " ") {
			if p != "?" && !find(t, c, &proxy.Request{Method: "GET", Path: p}) {
				t.Errorf("%q does not fit %q", p, x.path)
			}
		}
		if x.fitsNot == "" {
			continue
		}
		for _, p := range strings.Split(x.fitsNot, " ") {
			if find(t, c, &proxy.Request{Method: "GET", Path: p}) {
				t.Errorf("%q fits %q", p, x.path)
			}
		}
	}
}

// TestBadForms: what is no form of a path, a header or a gRPC method.
func TestBadForms(t *testing.T) {
	for _, s := range []string{"", "users", "/a?b", "/a#b", "/{", "/{}", "/{a-b}", "/{1}", "/x{a}", "/{a}{b}", "/*/a", "/a*", "/{a}/{a}", "/a b", "/ü", strings.Repeat("/a", 33)} {
		if p, err := ParsePath(s); err == nil {
			t.Errorf("ParsePath(%q) = %v, want an error", s, p)
		}
	}
	for _, s := range [][2]string{{"", "x"}, {"a b", "x"}, {"a", "x*y"}, {"a", "x\n"}, {"a", " x"}, {"a", "**"}} {
		if h, err := ParseHeader(s[0], s[1]); err == nil {
			t.Errorf("ParseHeader(%q, %q) = %v, want an error", s[0], s[1], h)
		}
	}
	for _, s := range []string{"", "/", "a/", "/b", "a/b/c", "a..b", "a b", "a.*/b"} {
		if g, err := ParseGRPC(s); err == nil {
			t.Errorf("ParseGRPC(%q) = %v, want an error", s, g)
		}
	}
}

// TestHeaders: exact, prefix, present.
func TestHeaders(t *testing.T) {
	fields := proxy.Fields{{Name: "X-Team", Value: "red"}, {Name: "x-team", Value: "blue-7"}, {Name: "x-empty"}}
	for _, x := range []struct {
		name, value string
		want        bool
	}{
		{"x-team", "red", true}, {"X-TEAM", "blue-7", true}, {"x-team", "blue", false}, {"x-team", "Red", false},
		{"x-team", "blue*", true}, {"x-team", "green*", false}, {"x-team", "*", true}, {"x-empty", "*", true}, {"x-empty", "", true}, {"x-other", "*", false}, {"x-other", "", false},
	} {
		c := Conditions{Headers: []Header{mustHeader(t, x.name, x.value)}}
		if got := find(t, c, &proxy.Request{Method: "GET", Path: "/", Fields: fields}); got != x.want {
			t.Errorf("%s: %s fits %v, want %v", x.name, x.value, got, x.want)
		}
	}
}

// TestMethods: one, or several.
func TestMethods(t *testing.T) {
	c := Conditions{Methods: []string{"GET", "HEAD"}}
	for method, want := range map[string]bool{"GET": true, "HEAD": true, "POST": false, "get": false} {
		if got := find(t, c, &proxy.Request{Method: method, Path: "/"}); got != want {
			t.Errorf("%s fits %v, want %v", method, got, want)
		}
	}
}

// TestGRPC: a service, a method, every call.
func TestGRPC(t *testing.T) {
	grpc := proxy.Fields{{Name: "content-type", Value: "application/grpc+proto"}}
	for _, x := range []struct {
		form   string
		req    proxy.Request
		wanted bool
	}{
		{"shop.Billing", proxy.Request{Method: "POST", Path: "/shop.Billing/Charge", Fields: grpc}, true},
		{"shop.Billing", proxy.Request{Method: "POST", Path: "/shop.Other/Charge", Fields: grpc}, false},
		{"shop.Billing", proxy.Request{Method: "POST", Path: "/shop.Billing/Charge"}, false},
		{"shop.Billing", proxy.Request{Method: "GET", Path: "/shop.Billing/Charge", Fields: grpc}, false},
		{"shop.Billing/Charge", proxy.Request{Method: "POST", Path: "/shop.Billing/Charge", Fields: grpc}, true},
		{"shop.Billing/Charge", proxy.Request{Method: "POST", Path: "/shop.Billing/Refund", Fields: grpc}, false},
		{"*/Charge", proxy.Request{Method: "POST", Path: "/a.B/Charge", Fields: grpc}, true},
		{"*", proxy.Request{Method: "POST", Path: "/a.B/C", Fields: grpc}, true},
		{"*", proxy.Request{Method: "POST", Path: "/a.B", Fields: grpc}, false},
	} {
		g, err := ParseGRPC(x.form)
		if err != nil {
			t.Fatal(err)
		}
		if got := find(t, NewConditions(Path{}, nil, nil, g), &x.req); got != x.wanted {
			t.Errorf("%s %s fits grpc %s: %v, want %v", x.req.Method, x.req.Path, x.form, got, x.wanted)
		}
	}
}

// TestFirstWins: the order of the table decides, and what is no request has no route.
func TestFirstWins(t *testing.T) {
	table := &Table{Rules: []Rule{
		{Match: []Conditions{{Path: mustPath(t, "/a/b")}, {Path: mustPath(t, "/c")}}},
		{Match: []Conditions{{Path: mustPath(t, "/a/*")}}},
		{},
	}}
	for _, x := range []struct {
		req  proxy.Request
		want int
	}{
		{proxy.Request{Method: "GET", Path: "/a/b"}, 1}, {proxy.Request{Method: "GET", Path: "/c?x"}, 1}, {proxy.Request{Method: "GET", Path: "/a/c"}, 2},
		{proxy.Request{Method: "OPTIONS", Path: "*"}, 3}, {proxy.Request{Method: "GET", Path: "/ws", Upgrade: "websocket"}, 3},
		{proxy.Request{Method: "CONNECT", Authority: "a:1"}, 0}, {proxy.Request{Method: "GET", Path: "/.well-known/masque", Upgrade: proxy.ConnectUDP}, 0},
	} {
		if got, _ := table.Find(&x.req); got != x.want {
			t.Errorf("%s %s %s: rule %d, want %d", x.req.Method, x.req.Path, x.req.Upgrade, got, x.want)
		}
		if table.Reason(&x.req) == "" {
			t.Errorf("%s %s: no reason", x.req.Method, x.req.Path)
		}
	}
}

// TestCovers: which rule hides which.
func TestCovers(t *testing.T) {
	grpc := func(s string) Conditions {
		g, err := ParseGRPC(s)
		if err != nil {
			t.Fatal(err)
		}
		return NewConditions(Path{}, nil, nil, g)
	}
	path := func(s string) Conditions { return Conditions{Path: mustPath(t, s)} }
	header := func(n, v string) Conditions { return Conditions{Headers: []Header{mustHeader(t, n, v)}} }
	methods := func(m ...string) Conditions { return Conditions{Methods: m} }
	for _, x := range []struct {
		a, b Conditions
		want bool
	}{
		{Conditions{}, path("/a"), true}, {path("/a"), Conditions{}, false}, {path("/*"), Conditions{}, false}, {path("/*"), path("/a"), true},
		{path("/a/*"), path("/a"), true}, {path("/a/*"), path("/a/{x}/c"), true}, {path("/a"), path("/a/*"), false}, {path("/a/{x}"), path("/a/b"), true},
		{path("/a/{x}"), path("/a/"), false}, {path("/a/b"), path("/a/{x}"), false}, {path("/a/{x}"), path("/a/*"), false}, {path("/{x}/b"), path("/{y}/b"), true},
		{path("/{x}/*"), path("/a/b/c"), true}, {path("/b/*"), path("/a/b"), false},
		{header("x", "*"), header("X", "a"), true}, {header("x", "a*"), header("x", "ab"), true}, {header("x", "a*"), header("x", "ab*"), true},
		{header("x", "a*"), header("x", "*"), false}, {header("x", "a"), header("x", "a*"), false}, {header("x", "*"), Conditions{}, false}, {Conditions{}, header("x", "*"), true},
		{methods("GET", "PUT"), methods("PUT"), true}, {methods("PUT"), methods("GET", "PUT"), false}, {methods("PUT"), Conditions{}, false},
		{grpc("*"), grpc("a.B/C"), true}, {grpc("a.B"), grpc("a.B/C"), true}, {grpc("a.B/C"), grpc("a.B"), false}, {path("/a.B/*"), grpc("a.B"), true}, {grpc("a.B"), path("/a.B/{x}"), false},
	} {
		if got := x.a.Covers(&x.b); got != x.want {
			t.Errorf("(%s) covers (%s): %v, want %v", &x.a, &x.b, got, x.want)
		}
	}
}
