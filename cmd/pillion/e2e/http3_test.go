//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestHTTP3 has ngtcp2's client and server, which share nothing with quic-go, as the apps at the two ends: each with an app that speaks HTTP/1, and
// with each other.
func TestHTTP3(t *testing.T) {
	client, server := installed(t, "gtlsclient", "ngtcp2-client"), installed(t, "gtlsserver", "ngtcp2-server")
	curl := installed(t, "curl", "curl")
	docs, ca := t.TempDir(), newAuthority(t)
	big := make([]byte, 5<<20)
	rand.NewChaCha8([32]byte{1}).Read(big)
	for name, content := range map[string][]byte{"small.txt": []byte("small\n"), "big.bin": big} {
		if err := os.WriteFile(filepath.Join(docs, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cert := ca.issue(leaf{name: "localhost"})
	way := func(at string) (args []string) {
		host, port, _ := net.SplitHostPort(at)
		return []string{client, "--quiet", "--no-quic-dump", "--no-http-dump", "--exit-on-all-streams-close", "--timeout=30s", host, port}
	}
	fetch := func(t *testing.T, at, dir string, more []string, urls ...string) {
		t.Helper()
		argv := way(at)
		argv = append(append(append(argv[:1:1], "--download="+dir), more...), argv[1:]...)
		runTool(t, append(argv, urls...)...)
	}
	same := func(t *testing.T, path string, want []byte) {
		t.Helper()
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v; want %d, the same", path, len(got), err, len(want))
		}
	}
	h3 := func(t *testing.T) string {
		at := freeAddr(t)
		host, port, _ := net.SplitHostPort(at)
		start(t, "gtlsserver", server, "--quiet", "--no-quic-dump", "--no-http-dump", "--htdocs="+docs, host, port, cert.key, cert.cert)
		probe := t.TempDir()
		eventually(t, 20*time.Second, "gtlsserver answers", func() bool {
			argv := way(at)
			_, err := tryTool(t, append(append(argv[:1:1], append([]string{"--download=" + probe}, argv[1:]...)...), "https://localhost/small.txt")...)
			got, rerr := os.ReadFile(filepath.Join(probe, "small.txt"))
			return err == nil && rerr == nil && len(got) > 0
		})
		return at
	}
	out := func(t *testing.T) (at, more string) {
		at = freeAddr(t)
		return at, fmt.Sprintf("outbound: {listen: none, http3: %q, http3_cert: %q, http3_key: %q}\n", at, cert.cert, cert.key)
	}
	trust := fmt.Sprintf(", tls: {roots: %q}", cert.roots)

	t.Run("an app that is called", func(t *testing.T) {
		p := newPair(t, setup{app: h3(t), protocol: "h3", appMore: trust})
		dir := t.TempDir()
		for _, version := range []string{"--http1.1", "--http2-prior-knowledge"} {
			runTool(t, curl, "-sS", "--fail", "-m", "60", version, "-o", filepath.Join(dir, "big.bin"), "http://"+p.local+"/big.bin")
			same(t, filepath.Join(dir, "big.bin"), big)
			if got := runTool(t, curl, "-sS", "-m", "30", version, "-o", "/dev/null", "-w", "%{http_code}", "http://"+p.local+"/none"); got != "404" {
				t.Errorf("%s: a page that is not there: %s, want 404", version, got)
			}
			if got := runTool(t, curl, "-sS", "-m", "30", version, "-I", "-o", "/dev/null", "-w", "%{http_code}", "http://"+p.local+"/big.bin"); got != "200" {
				t.Errorf("%s: HEAD: %s, want 200", version, got)
			}
		}
	})
	t.Run("one whose certificate is not trusted", func(t *testing.T) {
		p := newPair(t, setup{app: h3(t), protocol: "h3"})
		got := runTool(t, curl, "-sS", "-m", "30", "-w", " %{http_code}", "http://"+p.local+"/small.txt")
		if linesWith(got, "503", "tls.roots") == 0 {
			t.Errorf("got %q, want a 503 that names the setting", got)
		}
	})
	t.Run("an app that calls", func(t *testing.T) {
		app := newWebApp(t)
		at, more := out(t)
		newPair(t, setup{app: app.addr, aMore: more})
		dir := t.TempDir()
		fetch(t, at, dir, []string{"-d", filepath.Join(docs, "big.bin"), "-m", "POST"}, "https://app/echo")
		same(t, filepath.Join(dir, "echo"), big)
	})
	t.Run("both", func(t *testing.T) {
		at, more := out(t)
		newPair(t, setup{app: h3(t), protocol: "h3", appMore: trust, aMore: more})
		dir := t.TempDir()
		fetch(t, at, dir, nil, "https://app/big.bin", "https://app/small.txt")
		same(t, filepath.Join(dir, "big.bin"), big)
		same(t, filepath.Join(dir, "small.txt"), []byte("small\n"))
	})
}
