//go:build e2e && servers

package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func registries() map[string]func(*testing.T) string {
	return map[string]func(*testing.T) string{"etcd": startEtcd, "consul": startConsul}
}

// startConsul is startEtcd with Consul's agent.
func startConsul(t *testing.T) string {
	t.Helper()
	build := exec.CommandContext(t.Context(), "go", "tool", "-n", "consul")
	build.Dir = filepath.Join("..", "..", "..", "discovery", "consul", "testdata", "server")
	var stderr bytes.Buffer
	build.Stderr = &stderr
	out, err := build.Output()
	if err != nil {
		t.Fatalf("build Consul: %v\n%s", err, stderr.String())
	}
	port := func() string {
		_, port, _ := net.SplitHostPort(freeAddr(t))
		return port
	}
	http := port()
	start(t, "consul", strings.TrimSpace(string(out)), "agent", "-dev", "-bind=127.0.0.1", "-http-port="+http, "-dns-port=-1", "-grpc-port=-1",
		"-server-port="+port(), "-serf-lan-port="+port(), "-serf-wan-port="+port(), "-hcl=disable_update_check = true")
	waitListening(t, "127.0.0.1:"+http)
	return fmt.Sprintf("consul: {address: \"http://127.0.0.1:%s\"}\n", http)
}
