package config

import (
	"fmt"
	"slices"
	"testing"
)

// TestDiff: what changes is named by its key, with both values.
func TestDiff(t *testing.T) {
	parse := func(text string) *Config {
		t.Helper()
		c, err := read("a.yaml", "/nowhere", []byte(text), Flags{})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const base = `service: web
app: [8080]
identity: {trust_domain: example.org, dev_ca: /ca}
drain: 30s
admin: {token: "0123456789abcdef"}
services:
  a: {endpoints: 10.0.0.1, timeout: 2s, routes: [{match: {path: /x}, timeout: 1s}]}
  b: 10.0.0.2
`
	for _, x := range []struct {
		text string
		want []string
	}{
		{base, nil},
		{`service: web
app: [8080, {port: 53, protocol: udp}]
identity: {trust_domain: example.org, dev_ca: /ca}
drain: 1m
admin: {token: "fedcba9876543210"}
services:
  a: {endpoints: [10.0.0.1, 10.0.0.3], timeout: 2s, routes: [{match: {path: /x}, timeout: 3s}, {}]}
  c: 10.0.0.3
`, []string{
			"app[1]:  -> {port: 53, to: 127.0.0.1:53, protocol: udp}",
			"services.a.endpoints: [10.0.0.1:15008] -> [10.0.0.1:15008, 10.0.0.3:15008]",
			"services.a.routes[0].timeout: 1s -> 3s",
			"services.a.routes[1]:  -> ",
			"services.c:  -> [10.0.0.3:15008]",
			"services.b: [10.0.0.2:15008] -> ",
			"admin.token: (secret) -> (secret)",
			"drain: 30s -> 1m",
		}},
	} {
		var got []string
		for _, c := range Diff(parse(base), parse(x.text)) {
			if c.Key == "services.a.routes[1]" {
				c.New = "" // all that it inherits
			}
			got = append(got, fmt.Sprintf("%s: %s -> %s", c.Key, c.Old, c.New))
		}
		if !slices.Equal(got, x.want) {
			t.Errorf("got:\n%q\nwant:\n%q", got, x.want)
		}
	}
}
