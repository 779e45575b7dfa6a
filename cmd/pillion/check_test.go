package main

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/tls/devca"
)

// Check opens what the configuration names: with what run would refuse it fails, of the rest it warns, at the place of the setting.
func TestCheckOpensFiles(t *testing.T) {
	inFolder(t)
	ca, _, err := devca.OpenFor(t.TempDir(), "example.org")
	if err != nil {
		t.Fatal(err)
	}
	issue := func(name string, from time.Time) {
		t.Helper()
		cert, key, err := ca.Issue(proxy.NewIdentity("example.org", "web"), devca.IssueOptions{For: time.Hour, NotBefore: from})
		if err != nil {
			t.Fatal(err)
		}
		write(t, name+".crt", string(cert))
		write(t, name+".key", string(key))
	}
	issue("good", time.Now())
	issue("other", time.Now())
	issue("short", time.Now().Add(-2*time.Hour))
	write(t, "roots.pem", string(ca.Roots()))
	stranger, _, err := devca.OpenFor(t.TempDir(), "example.org")
	if err != nil {
		t.Fatal(err)
	}
	write(t, "stranger.pem", string(stranger.Roots()))
	write(t, "list.yaml", "- 10.0.0.7\n- 10.0.0.8:x\n")
	write(t, "none.yaml", "[]\n")

	for _, c := range []struct {
		what           string
		identity, more string
		code           int
		want           string // of standard error; "" is nothing
	}{
		{"good", "{cert: good.crt, key: good.key, roots: roots.pem}", "", 0, ""},
		{"another's key", "{cert: good.crt, key: other.key, roots: roots.pem}", "", 2, `:2:33: identity\.key: .*private key does not match`},
		{"foreign roots", "{cert: good.crt, key: good.key, roots: stranger.pem}", "", 2, `:2:18: identity\.cert: `},
		{"expired", "{cert: short.crt, key: short.key, roots: roots.pem}", "", 2, `:2:18: identity\.cert: .*expired`},
		{"a list with a mistake", "{cert: good.crt, key: good.key, roots: roots.pem}", "services: {billing: file:list.yaml}\n", 0,
			`warning: .*:3:21: services\.billing\.endpoints: .*list\.yaml:2:`},
		{"no list", "{cert: good.crt, key: good.key, roots: roots.pem}", "services: {billing: file:absent.yaml}\n", 0, `warning: .*no such file`},
		{"no folder for a socket", "{cert: good.crt, key: good.key, roots: roots.pem}", "outbound: {listen: unix:absent/out.sock}\n", 2,
			`:3:20: outbound\.listen: there is no folder .*/absent for`},
		{"no such user and group", "{cert: good.crt, key: good.key, roots: roots.pem}",
			"services: {billing: {endpoints: 10.0.0.7, listen: unix:b.sock, socket: {mode: 0660, owner: no-such-user, group: no-such-group}}}\n", 2,
			`:3:92: services\.billing\.socket\.owner: .*no-such-user on this machine(?s).*socket\.group: .*no-such-group`},
		{"a user and a group by number", "{cert: good.crt, key: good.key, roots: roots.pem}",
			"outbound: {listen: unix:out.sock, socket: {mode: 0660, owner: 0, group: 0}}\n", 0, ""},
		{"an empty list", "{cert: good.crt, key: good.key, roots: roots.pem}", "services: {billing: file:none.yaml}\n", 0, `warning: .*lists no endpoints`},
	} {
		write(t, "pillion.yaml", "service: web\nidentity: "+c.identity+"\n"+c.more)
		r := pillion(t, "check")
		if r.code != c.code || (c.want == "") != (r.errors == "") || !regexp.MustCompile(c.want).MatchString(r.errors) {
			t.Errorf("%s: code %d, %q, want %d and %s", c.what, r.code, r.errors, c.code, c.want)
		}
	}
	if r := pillion(t, "check", "-o", "json"); r.code != 0 || !strings.Contains(r.out, "lists no endpoints") {
		t.Errorf("-o json = %+v", r)
	}
}

// TestCheckOfDefaults: what pillion prints with every default, it has nothing to say about.
func TestCheckOfDefaults(t *testing.T) {
	inFolder(t)
	write(t, "pillion.yaml", pillion(t, "check", "--print-defaults").out)
	if r := pillion(t, "check"); r.code != 0 || r.errors != "" {
		t.Errorf("code %d, %q, want no word", r.code, r.errors)
	}
}
