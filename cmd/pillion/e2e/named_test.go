//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// named is BIND on loopback, with the authority over one zone, which takes updates.
type named struct {
	*process
	addr, dir string
	zone      string
}

// newNamed starts BIND with the zone example.test, whose TTLs are ttl and whose records are given as in a zone file.
func newNamed(t *testing.T, ttl int, records string) *named {
	t.Helper()
	n := &named{addr: freeAddr(t), dir: t.TempDir(), zone: "example.test"}
	host, port, _ := net.SplitHostPort(n.addr)
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(n.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("named.conf", fmt.Sprintf(`options {
	directory %q; listen-on port %s { %s; }; listen-on-v6 { none; }; pid-file none; session-keyfile none;
	recursion no; dnssec-validation no; notify no; max-journal-size 1M;
};
controls { };
zone %q { type primary; file "zone"; allow-update { any; }; };
`, n.dir, port, host, n.zone))
	write("zone", fmt.Sprintf("$TTL %d\n@ IN SOA ns hostmaster 1 60 60 60 %d\n@ IN NS ns\nns IN A 127.0.0.1\n%s\n", ttl, ttl, records))
	n.start(t)
	return n
}

// start runs the server.
func (n *named) start(t *testing.T) {
	t.Helper()
	n.process = start(t, "named", installed(t, "named", "bind9"), "-g", "-n", "1", "-c", filepath.Join(n.dir, "named.conf"))
	n.await(t)
}

// await waits until the server answers.
func (n *named) await(t *testing.T) {
	t.Helper()
	eventually(t, 30*time.Second, "named answering", func() bool {
		out, err := tryTool(t, n.dig(t, "+short", "+time=1", "+tries=1", n.zone, "SOA")...)
		return err == nil && strings.Contains(out, "hostmaster")
	})
}

// dig is a question to the server, as a command.
func (n *named) dig(t *testing.T, args ...string) []string {
	t.Helper()
	return dig(t, n.addr, args...)
}

func dig(t *testing.T, addr string, args ...string) []string {
	t.Helper()
	host, port, _ := net.SplitHostPort(addr)
	return append([]string{installed(t, "dig", "bind9-dnsutils"), "@" + host, "-p", port}, args...)
}

// update changes the zone: "add NAME TTL TYPE DATA", "delete NAME TYPE DATA", names below the zone.
func (n *named) update(t *testing.T, changes ...string) {
	t.Helper()
	host, port, _ := net.SplitHostPort(n.addr)
	script := fmt.Sprintf("server %s %s\nzone %s\n", host, port, n.zone)
	for _, c := range changes {
		verb, rest, _ := strings.Cut(c, " ")
		name, data, _ := strings.Cut(rest, " ")
		script += fmt.Sprintf("update %s %s.%s. %s\n", verb, name, n.zone, data)
	}
	path := filepath.Join(t.TempDir(), "update")
	if err := os.WriteFile(path, []byte(script+"send\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	runTool(t, installed(t, "nsupdate", "bind9-dnsutils"), path)
}
