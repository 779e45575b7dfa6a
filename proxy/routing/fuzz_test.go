package routing

import (
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
)

// FuzzRules: whatever is accepted as a rule is written as it was read, covers itself, and covers another only if it fits all that the other fits; a path that
// is made of it stays one.
func FuzzRules(f *testing.F) {
	for _, s := range []string{"/", "/*", "/users/{id}", "/users/{id}/*", "/a/b", "/a//b", "/{x}/{y}/*", "/users/", "*", "shop.Billing/Charge"} {
		f.Add(s, "/users/{x}", "/users/7/posts?q=1", "x-team", "blue*", "shop.Billing")
	}
	f.Fuzz(func(t *testing.T, form, other, path, name, value, grpc string) {
		req := &proxy.Request{Method: "GET", Path: path, Fields: proxy.Fields{{Name: name, Value: value}}}
		p, err := ParsePath(form)
		if err == nil {
			again, err := ParsePath(p.String())
			if err != nil || !p.covers(again) || !again.covers(p) {
				t.Fatalf("%q read again: %v, %v", form, again, err)
			}
			checkPaths(t, p, other, req)
		}
		if h, err := ParseHeader(name, value); err == nil {
			if again, err := ParseHeader(name, h.String()); err != nil || again != h || !h.covers(&again) {
				t.Fatalf("header %q: %q read again: %v, %v", name, value, again, err)
			}
		}
		if g, err := ParseGRPC(grpc); err == nil {
			if again, err := ParseGRPC(g.String()); err != nil || again != g {
				t.Fatalf("grpc %q read again: %v, %v", grpc, again, err)
			}
			(&Table{Rules: []Rule{{Match: []Conditions{NewConditions(p, nil, nil, g)}}}}).Find(req)
		}
	})
}

func checkPaths(t *testing.T, p Path, other string, req *proxy.Request) {
	path, _ := splitQuery(req.Path)
	fits := p.match(path, nil)
	q, err := ParsePath(other)
	if err != nil {
		return
	}
	if q.match(path, nil) && p.covers(q) && !fits {
		t.Fatalf("%q covers %q, which %q fits, and not the first", p, q, path)
	}
	if !fits || q.Missing(p) != "" {
		return
	}
	if made := string(appendPath(nil, &q, &p, req.Path)); made == "" || made[0] != '/' {
		t.Fatalf("%q, by %q into %q: %q", req.Path, p, q, made)
	} else if made, _ := splitQuery(made); !q.match(made, nil) {
		t.Fatalf("%q, by %q into %q: %q, which is not of that form", req.Path, p, q, made)
	}
}
