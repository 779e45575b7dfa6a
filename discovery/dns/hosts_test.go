package dns

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pillion-proxy/pillion/discovery/dns/resolvconf"
)

func TestCandidates(t *testing.T) {
	rc := resolvconf.Parse("search ns.svc.cluster.local svc.cluster.local\noptions ndots:2\n")
	for name, want := range map[string]string{
		"a":      "a.ns.svc.cluster.local. a.svc.cluster.local. a.",
		"a.b":    "a.b.ns.svc.cluster.local. a.b.svc.cluster.local. a.b.",
		"a.b.c":  "a.b.c. a.b.c.ns.svc.cluster.local. a.b.c.svc.cluster.local.",
		"a.b.c.": "a.b.c.",
	} {
		if got := strings.Join(candidates(rc, name), " "); got != want {
			t.Errorf("candidates of %s: %s; want %s", name, got, want)
		}
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
