package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// home keeps the tests from a development CA of whoever runs them.
func home(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("XDG_DATA_HOME", "")
	return dir
}

func TestFromFlags(t *testing.T) {
	dir := home(t)
	c, err := FromFlags(Flags{
		Service: "web", App: []string{"8080", "80=127.0.0.1:9090"}, To: []string{"api=10.0.0.7", "many=10.0.0.1, 10.0.0.2:16000", "named=dns:x.internal"},
		Listen: "127.0.0.1:0", AdminListen: "none", Drain: "2s", TrustDomain: "example.org", LogLevel: "debug",
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.App) != 2 || c.App[0].Port != 8080 || c.App[1].Port != 80 || c.App[1].To.Addr != netip.MustParseAddrPort("127.0.0.1:9090") {
		t.Errorf("app = %+v", c.App)
	}
	if len(c.Services) != 3 || c.Services[0].Endpoints.String() != "[10.0.0.7:15008]" || c.Services[1].Endpoints.String() != "[10.0.0.1:15008, 10.0.0.2:16000]" ||
		c.Services[2].Endpoints.String() != "dns:x.internal:15008" || c.Services[0].Identity != "spiffe://example.org/api" {
		t.Errorf("services = %+v", c.Services)
	}
	if c.Admin.Listen.On || !c.Outbound.Listen.On || c.Outbound.Listen.Port != 0 || c.Drain.Seconds() != 2 || c.File != "" {
		t.Errorf("got %+v", c)
	}
	if want := filepath.Join(dir, ".local/share/pillion/ca"); c.Identity.DevCA != want {
		t.Errorf("dev_ca = %s, want %s", c.Identity.DevCA, want)
	}
}

// TestFromFlagsProblems: a mistake is placed by the flag that has it.
func TestFromFlagsProblems(t *testing.T) {
	home(t)
	_, err := FromFlags(Flags{App: []string{"8080", "8080"}, To: []string{"Api=10.0.0.7", "b=x.internal"}, PeerListen: "127.0.0.1:15001"})
	want := []string{
		`the flags: service: missing; say the name of this workload, as in --service orders`,
		`--app 8080: app[1].to: port 8080 is also --app 8080; give each its own, as in {port: 8081, to: ...}`,
		`--to Api=10.0.0.7: services.Api: names are in lower case; write api`,
		`--to b=x.internal: services.b.endpoints: "x.internal" is a name; write dns:x.internal`,
		`--peer-listen 127.0.0.1:15001: peer.listen: 127.0.0.1:15001 is taken by outbound.listen (its default); choose another port`,
	}
	if err == nil {
		t.Fatal("no error")
	}
	got := strings.Split(err.Error(), "\n")
	if len(got) != len(want) {
		t.Errorf("got %d problems, want %d:\n%v", len(got), len(want), err)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("no %q in\n%v", w, err)
		}
	}
}

// TestLoadWith: flags win over the file, and leave alone what they do not name.
func TestLoadWith(t *testing.T) {
	dir := home(t)
	file := filepath.Join(dir, "pillion.yaml")
	text := `service: web
app: 8080
peer: &here {listen: 127.0.0.1:16008}
outbound:
services:
  api: {endpoints: 10.0.0.1, timeout: 3s}
  kept: 10.0.0.2
  short: 10.0.0.3
identity: {dev_ca: ca}
`
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := LoadWith(file, Flags{Service: "shop", To: []string{"api=10.0.0.9", "short=10.0.0.8", "new=10.0.0.7"}, Listen: "127.0.0.1:16001"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Service != "shop" || c.Peer.Listen.Port != 16008 || c.Outbound.Listen.Port != 16001 || c.App[0].Port != 8080 || c.File != file {
		t.Errorf("got %+v", c)
	}
	if c.Identity.DevCA != filepath.Join(dir, "ca") {
		t.Errorf("dev_ca = %s: relative paths are relative to the file", c.Identity.DevCA)
	}
	var got []string
	for _, s := range c.Services {
		got = append(got, s.Name+"="+s.Endpoints.String()+" "+formatDuration(s.Timeout))
	}
	if s := strings.Join(got, "; "); s != "api=[10.0.0.9:15008] 3s; kept=[10.0.0.2:15008] 0s; short=[10.0.0.8:15008] 0s; new=[10.0.0.7:15008] 0s" {
		t.Errorf("services are %s", s)
	}
	_, err = LoadWith(file, Flags{To: []string{"kept=x", "api"}})
	if err == nil || !strings.Contains(err.Error(), "--to kept=x: ") || !strings.Contains(err.Error(), "--to api: ") {
		t.Errorf("got %v", err)
	}
}

func TestLoadNoFile(t *testing.T) {
	dir := home(t)
	for _, path := range []string{filepath.Join(dir, "nope.yaml"), dir} {
		if c, err := Load(path); err == nil {
			t.Errorf("Load(%s) = %+v", path, c)
		}
	}
	large := filepath.Join(dir, "large.yaml")
	if err := os.WriteFile(large, make([]byte, maxFile+1), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(large); err == nil || !strings.Contains(err.Error(), "8 MiB") {
		t.Errorf("Load of a large file = %v", err)
	}
}

func TestNearest(t *testing.T) {
	words := []string{"service", "app", "peer", "outbound", "services", "identity", "admin", "drain", "log", "limits"}
	for got, want := range map[string]string{
		"apps": "app", "serivce": "service", "out-bound": "outbound", "Admin": "admin", "limit": "limits", "ident": "identity",
		"logging": "log", "certificates": "", "tracing": "", "cache": "", "x": "", "": "", strings.Repeat("service", 100): "",
	} {
		if n := nearest(got, words); n != want {
			t.Errorf("nearest(%.20q) = %q, want %q", got, n, want)
		}
	}
}
