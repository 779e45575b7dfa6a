//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// within is a command in a mount namespace of its own, in which resolv.conf is another file.
func within(resolv string, argv ...string) []string {
	return append([]string{"unshare", "-m", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, resolv}, argv...)
}

// A database is reached by its name alone, by programs that know of no proxy, and other names are what they were.
func TestNamesInDNS(t *testing.T) {
	if *direct {
		return
	}
	psql := installed(t, "psql", "postgresql-client")
	long := "long IN TXT"
	for range 12 {
		long += fmt.Sprintf(" %q", strings.Repeat("x", 200))
	}
	other := newNamed(t, 60, "www IN A 192.0.2.80\n"+long)
	server := startPostgres(t)
	ca := newAuthority(t)
	b := newSidecar(t, "B", fmt.Sprintf("service: store\napp: [{port: 5432, to: %q}]\n", server), ca.issue(leaf{name: "store"}))
	net8 := rand.IntN(200)
	at := fmt.Sprintf("127.92.%d.53:53", net8)
	a := newSidecar(t, "A", fmt.Sprintf("service: web\noutbound: {listen: %q, dns: %q, dns_range: 127.93.%d.0/24, dns_forward: [%q]}\n"+
		"services:\n  db: {endpoints: %q, identity: store, port: 5432}\n  cache: 10.0.0.7\n", freeAddr(t), at, net8, other.addr, b.peer), ca.issue(leaf{name: "web"}))
	b.ready()
	a.ready()
	want, _, err := net.SplitHostPort(a.status().Services[0].DNS)
	if err != nil || !strings.HasPrefix(want, fmt.Sprintf("127.93.%d.", net8)) {
		t.Fatalf("status: db is at %q, %v", a.status().Services[0].DNS, err)
	}
	for _, c := range []struct{ question, want string }{
		{"db A", want},
		{"DB.Pillion.Internal A", want},
		{"+tcp db A", want},
		{"db AAAA", ""},
		{"db HTTPS", ""},
		{"cache A", ""},
		{"_postgresql._tcp.db SRV", "0 0 5432 db."},
		{"-x " + want, "db.pillion.internal."},
		{"www.example.test A", "192.0.2.80"},
		{"+tcp www.example.test A", "192.0.2.80"},
	} {
		if got := strings.TrimSpace(runTool(t, dig(t, at, append([]string{"+short"}, strings.Fields(c.question)...)...)...)); got != c.want {
			t.Errorf("dig %s = %q, want %q", c.question, got, c.want)
		}
	}
	for question, want := range map[string]string{
		"db A": "status: NOERROR", "none.pillion.internal A": "status: NXDOMAIN", "none.example.test A": "status: NXDOMAIN", "elsewhere.test A": "status: REFUSED",
		"+ignore +bufsize=512 long.example.test TXT": "flags: qr aa tc",
	} {
		if out := runTool(t, dig(t, at, strings.Fields(question)...)...); !strings.Contains(out, want) {
			t.Errorf("dig %s: want %s in\n%s", question, want, out)
		}
	}
	// dig asks again over TCP by itself.
	if out := runTool(t, dig(t, at, "+short", "+bufsize=512", "long.example.test", "TXT")...); strings.Count(out, "x") != 12*200 {
		t.Errorf("a long answer came as %d bytes", len(out))
	}
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	host, _, _ := net.SplitHostPort(at)
	if err := os.WriteFile(resolv, []byte("nameserver "+host+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"db", "db.pillion.internal"} {
		sql := within(resolv, psql, "-X", "-At", "-h", name, "-U", "postgres", "-c", "select 6*7")
		if got := strings.TrimSpace(runTool(t, sql...)); got != "42" {
			t.Errorf("psql -h %s = %q, want 42", name, got)
		}
	}
	if got := runTool(t, within(resolv, "getent", "hosts", "www.example.test")...); !strings.Contains(got, "192.0.2.80") {
		t.Errorf("getent hosts of another name = %q", got)
	}
	if st := a.status().DNS; st.Failed > 0 || st.Own == 0 || st.Forwarded == 0 {
		t.Errorf("status %+v, want no failure", st)
	}
}
