//go:build e2e

package e2e

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// postgres finds a program of the newest installed PostgreSQL.
func postgres(t *testing.T, program string) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + program)
	if err != nil || len(found) == 0 {
		t.Fatalf("no %s below /usr/lib/postgresql: apt-get install postgresql", program)
	}
	return slices.Max(found)
}

// startPostgres makes a cluster in a temporary folder and starts it, as the user postgres where the test is run by root,
// which PostgreSQL refuses to be.
func startPostgres(t *testing.T) string {
	t.Helper()
	as := func(argv ...string) []string { return argv }
	dir := filepath.Join(t.TempDir(), "cluster")
	if os.Geteuid() == 0 {
		as = func(argv ...string) []string { return append([]string{"runuser", "-u", "postgres", "--"}, argv...) }
		dir = filepath.Join(workshop.dir, "postgres-"+filepath.Base(filepath.Dir(t.TempDir())))
		runTool(t, "install", "-d", "-o", "postgres", "-m", "700", dir)
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
	}
	runTool(t, as(postgres(t, "initdb"), "-D", dir, "-A", "trust", "-U", "postgres", "-N")...)
	// TLS inside the stream, begun in the middle of it as with STARTTLS.
	ca := newAuthority(t)
	cert := ca.issue(leaf{name: "db"})
	for from, to := range map[string]string{cert.cert: "server.crt", cert.key: "server.key"} {
		install := []string{"install", "-m", "600"}
		if os.Geteuid() == 0 {
			install = append(install, "-o", "postgres")
		}
		runTool(t, append(install, from, filepath.Join(dir, to))...)
	}
	addr := freeAddr(t)
	host, port, _ := net.SplitHostPort(addr)
	cmd := as(postgres(t, "postgres"), "-D", dir, "-h", host, "-p", port, "-c", "unix_socket_directories=", "-c", "ssl=on", "-c", "fsync=off")
	p := startCommand(t, "postgres", exec.Command(cmd[0], cmd[1:]...))
	_ = p
	waitListening(t, addr)
	psql := installed(t, "psql", "postgresql-client")
	eventually(t, 20*time.Second, "postgres answering", func() bool {
		_, err := tryTool(t, psql, "-h", host, "-p", port, "-U", "postgres", "-c", "select 1")
		return err == nil
	})
	return addr
}

func TestPostgreSQL(t *testing.T) {
	psql := installed(t, "psql", "postgresql-client")
	server := startPostgres(t)
	for _, protocol := range []string{"tcp", "auto"} {
		t.Run(protocol, func(t *testing.T) {
			p := newPair(t, setup{app: server, port: 5432, protocol: protocol, listen: protocol})
			host, port, _ := net.SplitHostPort(p.local)
			sql := func(mode, command string) string {
				t.Helper()
				dsn := "host=" + host + " port=" + port + " user=postgres dbname=postgres connect_timeout=10 sslmode=" + mode
				return strings.TrimSpace(runTool(t, psql, "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-c", command))
			}
			if got := sql("disable", "select 6*7"); got != "42" {
				t.Errorf("select 6*7 = %q, want 42", got)
			}
			if got := sql("require", "select ssl from pg_stat_ssl where pid = pg_backend_pid()"); got != "t" {
				t.Errorf("TLS inside the stream = %q, want t", got)
			}
			if got := sql("prefer", "select length(string_agg(repeat('x', 1000), '')) from generate_series(1, 20000)"); got != "20000000" {
				t.Errorf("length of a long value = %q, want 20000000", got)
			}
			if got := sql("disable", "select repeat('x', 1000) from generate_series(1, 20000)"); len(got) != 20_000*1001-1 {
				t.Errorf("20,000 rows of 1,000 bytes = %d bytes, want %d", len(got), 20_000*1001-1)
			}
			pgbench := postgres(t, "pgbench")
			base := []string{pgbench, "-h", host, "-p", port, "-U", "postgres"}
			runTool(t, append(slices.Clone(base), "-i", "-s", "3", "-q", "postgres")...)
			for _, args := range [][]string{{"-S"}, {"-M", "prepared"}, {"-C", "-S"}} {
				argv := append(append(slices.Clone(base), "-c", "8", "-j", "2", "-T", "2"), args...)
				out := runTool(t, append(argv, "postgres")...)
				if !strings.Contains(out, "number of failed transactions: 0 (0.000%)") {
					t.Errorf("pgbench %v = %q, want no failed transaction", args, out)
				}
				for line := range strings.Lines(out) {
					if strings.HasPrefix(line, "tps") || strings.HasPrefix(line, "latency") {
						t.Logf("pgbench %v: %s", args, strings.TrimSpace(line))
					}
				}
			}
		})
		if *direct {
			return
		}
	}
}
