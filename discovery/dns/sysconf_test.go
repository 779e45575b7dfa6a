package dns

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParseResolvConf(t *testing.T) {
	rc := parseResolvConf(`
# a comment
; another
nameserver 10.0.0.53
nameserver 2001:db8::53 ; trailing
nameserver nonsense
nameserver fe80::1%eth0
nameserver 10.0.0.54
domain first.example
search a.example b.example. bad..domain
options ndots:5 timeout:100 attempts:0 rotate unknown:1 ndots:x
nonsense
`)
	if got, want := fmt.Sprint(rc.servers), "[10.0.0.53:53 [2001:db8::53]:53 [fe80::1%eth0]:53]"; got != want {
		t.Errorf("servers %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(rc.search), "[a.example. b.example.]"; got != want {
		t.Errorf("search %s, want %s", got, want)
	}
	if rc.ndots != 5 || rc.timeout != 30*time.Second || rc.attempts != 1 || !rc.rotate || rc.tcp {
		t.Errorf("options %+v", rc)
	}
	rc = readResolvConf(filepath.Join(t.TempDir(), "missing"))
	if fmt.Sprint(rc.servers) != "[127.0.0.1:53]" || rc.ndots != 1 || rc.timeout != 5*time.Second || rc.attempts != 2 || rc.search != nil {
		t.Errorf("without a file: %+v", rc)
	}
}

func TestCandidates(t *testing.T) {
	rc := parseResolvConf("search ns.svc.cluster.local svc.cluster.local\noptions ndots:2\n")
	for name, want := range map[string]string{
		"a":      "a.ns.svc.cluster.local. a.svc.cluster.local. a.",
		"a.b":    "a.b.ns.svc.cluster.local. a.b.svc.cluster.local. a.b.",
		"a.b.c":  "a.b.c. a.b.c.ns.svc.cluster.local. a.b.c.svc.cluster.local.",
		"a.b.c.": "a.b.c.",
	} {
		if got := strings.Join(rc.candidates(name), " "); got != want {
			t.Errorf("candidates of %s: %s; want %s", name, got, want)
		}
	}
}

func TestOrderRotates(t *testing.T) {
	rc := parseResolvConf("nameserver 10.0.0.1\nnameserver 10.0.0.2\noptions rotate\n")
	first := map[string]bool{}
	for range 100 {
		o := rc.order()
		if len(o) != 2 || o[0] == o[1] {
			t.Fatalf("order = %v; want both servers", o)
		}
		first[o[0].String()] = true
	}
	if len(first) != 2 {
		t.Errorf("only %v came first in a hundred rotations", first)
	}
}

func TestParseHosts(t *testing.T) {
	text := "127.0.0.1 localhost\n10.0.0.1\tBilling.example billing # the first\n#10.0.0.2 billing\nbad billing\n2001:db8::1 x billing.example.\n"
	for name, want := range map[string]string{
		"billing": "[10.0.0.1]", "billing.example": "[10.0.0.1 2001:db8::1]", "BILLING.EXAMPLE.": "[10.0.0.1 2001:db8::1]", "localhost": "[127.0.0.1]", "x.y": "[]", "10.0.0.1": "[]",
	} {
		if got := fmt.Sprint(parseHosts(text, name)); got != want {
			t.Errorf("hosts of %s: %s, want %s", name, got, want)
		}
	}
	if got := readHosts(filepath.Join(t.TempDir(), "missing"), "localhost"); got != nil {
		t.Errorf("hosts of a missing file: %v", got)
	}
}
