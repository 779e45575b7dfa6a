package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pillion-proxy/pillion/listeners/admin"
)

const explained = `service: web
peer: {listen: none}
outbound: {listen: none}
identity: {trust_domain: example.org, dev_ca: ca}
services:
  billing:
    endpoints: [10.0.0.7, 10.0.0.8]
    timeout: 2s
    cache: {mode: on}
    routes:
      - match: {path: "/v1/users/{id}", method: [GET, PUT]}
        rewrite: {path: "/v2/people/{id}", host: people.internal}
        request_headers: {set: {x-from: web}, remove: [x-debug]}
        timeout: 500ms
      - match: {path: /canary/*}
        service: canary
      - match: {path: /old}
        redirect: {host: new.example}
  canary: {endpoints: dns:canary.internal, identity: other}
  plain: {endpoints: 10.0.0.9:80, mesh: false, retry: {attempts: 1}}
  shop:
    endpoints: 10.0.0.10
    balance: {policy: maglev, key: "cookie:session"}
    health: {check: http}
    split: {to: {canary: 10%}, sticky: "cookie:session"}
    mirror: {to: plain, share: 5%}
`

// TestExplain: each kind of request, by the configuration alone.
func TestExplain(t *testing.T) {
	cfg := load(t, explained)
	for _, x := range []struct {
		method, url string
		header      []string
		want        string // the words that must be there, line by line
	}{
		{"get", "http://Billing:80/v1/users/7?x=1", []string{"x-debug: 1", "x-a: b"},
			"service billing:80|route number 1 it is the first that fits: path /v1/users/{id}, method GET or PUT|timeout 500ms services.billing.routes[0].timeout|" +
				"cache answered from memory services.billing.cache|retry GET is harmless|identity spiffe://example.org/billing|sent GET /v2/people/7?x=1 people.internal|endpoint 10.0.0.8:15008"},
		{"POST", "billing/elsewhere", nil, "route the service's own settings fits none|timeout 2s services.billing.timeout|cache goes past it|retry only what provably never ran"},
		{"POST", "http://billing/canary/x", nil, "route number 2 sent to canary|balance services.canary.balance|identity spiffe://example.org/other services.canary.identity|endpoints none dns:canary.internal"},
		{"GET", "http://billing/old?a", nil, "route number 3 http://new.example/old?a"},
		{"GET", "http://plain/", nil, "service plain|retry never sent again|identity not checked mesh: false"},
		{"CONNECT", "billing:5432", nil, "route opens a stream|identity spiffe://example.org/billing"},
		{"GET", "http://shop/", []string{"Cookie: session=a"}, "split 10% go to canary, by cookie:session|mirror 5% copied to plain|balance maglev finds by cookie:session|health 3 failed http checks"},
		{"GET", "http://shop/", nil, "balance by load: maglev goes by cookie:session"},
		{"GET", "http://nobody/", nil, "service none 502 unknown_service outbound.others"},
		{"GET", "http://10.0.0.1/", []string{"Host: plain"}, "service plain"},
	} {
		e, err := explain(cfg, admin.Asked{Method: x.method, URL: x.url, Header: x.header})
		if err != nil {
			t.Fatal(err)
		}
		explainBackend(cfg, e)
		var b strings.Builder
		printExplanation(&b, e)
		for _, want := range strings.Split(x.want, "|") {
			if !hasLine(b.String(), strings.Fields(want)) {
				t.Errorf("%s %s: no line with %q in:\n%s", x.method, x.url, want, &b)
			}
		}
		if e.Route == 1 && (strings.Join(e.Sent.Header, ",") != "x-a: b,x-from: web" || !strings.HasSuffix(e.Place, "pillion.yaml:11:9")) {
			t.Errorf("sent with %q, from %q", e.Sent.Header, e.Place)
		}
	}
	for _, bad := range []admin.Asked{{Method: "GET", URL: "http://"}, {Method: "G T", URL: "a"}, {Method: "GET", URL: "a", Header: []string{"x"}}, {Method: "GET", URL: "a:b:c"}} {
		if e, err := explain(cfg, bad); err == nil {
			t.Errorf("%+v is explained: %+v", bad, e)
		}
	}
}

// hasLine reports whether a line has all the words, the first of which it begins with.
func hasLine(text string, words []string) bool {
	for line := range strings.Lines(text) {
		ok := strings.HasPrefix(line, words[0]+"\t")
		for _, w := range words {
			ok = ok && strings.Contains(line, w)
		}
		if ok {
			return true
		}
	}
	return false
}

// TestExplainRunning: the sidecar is asked, and says what is known of endpoints.
func TestExplainRunning(t *testing.T) {
	r := startReloadable(t, "  plain: {endpoints: 127.0.0.1:1, mesh: false}\n")
	got := pillion(t, "explain", "GET", "http://plain/x", "--admin", r.admin, "-o", "json")
	var e admin.Explanation
	if err := json.Unmarshal([]byte(got.out), &e); err != nil || !e.Running || e.Service != "plain" || e.Backend == nil || len(e.Backend.Endpoints) != 1 {
		t.Errorf("%v: %s %s", err, got.out, got.errors)
	}
	if got := pillion(t, "explain", "GET", "http://", "--admin", r.admin); got.code != 2 || !strings.Contains(got.errors, "is no URL") {
		t.Errorf("code %d: %s", got.code, got.errors)
	}
	if got := pillion(t, "reload", "--admin", r.admin); got.code != 0 || got.out != "nothing differs from what is in force\n" {
		t.Errorf("reload: code %d: %s%s", got.code, got.out, got.errors)
	}
	r.write("  plain: {endpoints: 127.0.0.1:1, mesh: false}\n  b: 10.0.0.1\n")
	if got := pillion(t, "reload", "--diff", "--admin", r.admin); got.code != 0 || got.out != "+ services.b: [10.0.0.1:15008]\n" {
		t.Errorf("reload --diff: code %d: %s%s", got.code, got.out, got.errors)
	}
	r.write("  plain: {endpoints: 127.0.0.1:1, mesh: maybe}\n")
	if got := pillion(t, "reload", "--admin", r.admin); got.code != 2 || !strings.Contains(got.errors, "pillion.yaml:9:41: services.plain.mesh") || !strings.Contains(got.errors, "nothing has changed") {
		t.Errorf("reload of a mistake: code %d: %s%s", got.code, got.out, got.errors)
	}
}
