//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
)

// startRedis starts a server without persistence.
func startRedis(t *testing.T) string {
	t.Helper()
	addr := freeAddr(t)
	host, port, _ := net.SplitHostPort(addr)
	start(t, "redis-server", installed(t, "redis-server", "redis-server"), "--bind", host, "--port", port, "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	waitListening(t, addr)
	return addr
}

func TestRedis(t *testing.T) {
	cli := installed(t, "redis-cli", "redis-tools")
	server := startRedis(t)
	for _, protocol := range []string{"tcp", "auto"} {
		t.Run(protocol, func(t *testing.T) {
			p := newPair(t, setup{app: server, port: 6379, protocol: protocol, listen: protocol})
			host, port, _ := net.SplitHostPort(p.local)
			redis := func(stdin string, args ...string) string {
				t.Helper()
				cmd := exec.CommandContext(t.Context(), cli, append([]string{"-h", host, "-p", port}, args...)...)
				cmd.Stdin = strings.NewReader(stdin)
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("redis-cli %s: %v: %s", strings.Join(args, " "), err, shorten(out))
				}
				return strings.TrimSpace(string(out))
			}
			if got := redis("", "PING"); got != "PONG" {
				t.Errorf("PING = %q, want PONG", got)
			}
			value := strings.Repeat("pillion", 500_000)
			if got := redis(value, "-x", "SET", "big"); got != "OK" {
				t.Errorf("SET of 3.5 MB = %q, want OK", got)
			}
			if got := redis("", "GET", "big"); got != value {
				t.Errorf("GET = %d bytes %q, want %d bytes as set", len(got), shorten([]byte(got)), len(value))
			}
			var mass strings.Builder
			for i := range 10_000 {
				fmt.Fprintf(&mass, "SET key:%d %d\r\n", i, i)
			}
			if got := redis(mass.String(), "--pipe"); !strings.Contains(got, "errors: 0, replies: 10000") {
				t.Errorf("--pipe of 10,000 commands = %q, want 10000 replies and no error", got)
			}
			if got := redis("", "--raw", "EVAL", "return redis.call('GET', KEYS[1])", "1", "key:77"); got != "77" {
				t.Errorf("EVAL = %q, want 77", got)
			}
			// The server closes first: an orderly end must arrive as one.
			if got := redis("", "QUIT"); got != "OK" {
				t.Errorf("QUIT = %q, want OK", got)
			}
			for _, args := range [][]string{
				{"-n", "10000", "-c", "50", "-t", "get,set,lrange_100,mset"},
				{"-n", "50000", "-c", "20", "-P", "32", "-t", "get,set,incr", "-d", "1000"},
			} {
				bench := append([]string{installed(t, "redis-benchmark", "redis-tools"), "-h", host, "-p", port, "-q", "-e"}, args...)
				out := runTool(t, bench...)
				if strings.Contains(strings.ToLower(out), "error") || !strings.Contains(out, "requests per second") {
					t.Errorf("%s = %q, want figures and no error", strings.Join(bench, " "), out)
				}
				for line := range strings.Lines(strings.ReplaceAll(out, "\r", "\n")) {
					if strings.Contains(line, "requests per second") {
						t.Log(strings.TrimSpace(line))
					}
				}
			}
		})
		if *direct {
			return
		}
	}
}
