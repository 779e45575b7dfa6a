package proxy

import (
	"net/url"
	"strings"
	"testing"
)

func TestParseIdentity(t *testing.T) {
	for _, s := range []string{
		"spiffe://example.org/orders",
		"spiffe://pillion.local/ns/shop/sa/Orders_1.x-2",
		"spiffe://1.2.3.4/a",
	} {
		id, err := ParseIdentity(s)
		if err != nil || string(id) != s {
			t.Errorf("ParseIdentity(%q) = %q, %v; want it back", s, id, err)
		}
	}
	for _, s := range []string{
		"", "orders", "https://example.org/orders", "SPIFFE://example.org/orders", "spiffe:///orders",
		"spiffe://example.org", "spiffe://example.org/", "spiffe://example.org//a", "spiffe://example.org/a/",
		"spiffe://example.org/../a", "spiffe://example.org/./a", "spiffe://Example.org/a", "spiffe://example.org:80/a",
		"spiffe://user@example.org/a", "spiffe://example.org/a?b", "spiffe://example.org/a#b", "spiffe://example.org/%61",
		"spiffe://example.org/é", "spiffe://example.org/a\n", "spiffe://" + strings.Repeat("a", 256) + "/a",
		"spiffe://example.org/" + strings.Repeat("a", 2048),
	} {
		if id, err := ParseIdentity(s); err == nil {
			t.Errorf("ParseIdentity(%q) = %q; want an error", s, id)
		}
	}
}

func TestIdentityParts(t *testing.T) {
	id := NewIdentity("example.org", "ns/shop/sa/orders")
	if got, want := id.TrustDomain(), "example.org"; got != want {
		t.Errorf("TrustDomain of %q = %q, want %q", id, got, want)
	}
	if got, want := id.Name(), "ns/shop/sa/orders"; got != want {
		t.Errorf("Name of %q = %q, want %q", id, got, want)
	}
	if got := Identity("").TrustDomain(); got != "" {
		t.Errorf("TrustDomain of nobody = %q, want none", got)
	}
}

// FuzzParseIdentity checks that what is accepted can be taken apart and put together again.
func FuzzParseIdentity(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseIdentity(s)
		if err != nil {
			return
		}
		if again := NewIdentity(id.TrustDomain(), id.Name()); again != id || string(id) != s {
			t.Errorf("ParseIdentity(%q) = %q, put together again %q", s, id, again)
		}
		u, err := url.Parse(s)
		if err != nil || u.Host != id.TrustDomain() || u.String() != s || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			t.Errorf("%q is the URL %+v, %v", s, u, err)
		}
	})
}

func TestIdentityPattern(t *testing.T) {
	for _, x := range []struct {
		p    IdentityPattern
		id   Identity
		want bool
	}{
		{"spiffe://a/web", "spiffe://a/web", true},
		{"spiffe://a/web", "spiffe://a/web2", false},
		{"spiffe://a/ops/*", "spiffe://a/ops/x/y", true},
		{"spiffe://a/ops/*", "spiffe://a/ops", false},
		{"spiffe://a/*", "spiffe://b/web", false},
		{"spiffe://a/*", "spiffe://a/web", true},
		{"*", "", false},
		{"", "", false},
		{"", "spiffe://a/web", false},
	} {
		if got := x.p.Matches(x.id); got != x.want {
			t.Errorf("%q matches %q: %v, want %v", x.p, x.id, got, x.want)
		}
	}
}
