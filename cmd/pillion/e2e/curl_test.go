//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// curlAt is a way of reaching the app with curl.
type curlAt struct {
	name string
	args []string // before the URL
	base string   // of the URL
}

// ways are all ways of reaching the app of p with curl.
func ways(p *pair) []curlAt {
	local := "http://" + p.local
	all := []curlAt{
		{"HTTP/1.0", []string{"--http1.0"}, local},
		{"HTTP/1.1", []string{"--http1.1"}, local},
		{"h2c with prior knowledge", []string{"--http2-prior-knowledge"}, local},
	}
	if *direct {
		return all[:2] // the app speaks HTTP/1 alone
	}
	out := "http://" + p.a.outbound
	return append(all,
		curlAt{"proxy", []string{"-x", out}, "http://app"},
		curlAt{"proxy, HTTP/1.0", []string{"-x", out, "--http1.0"}, "http://app"},
		curlAt{"proxy, with port", []string{"-x", out}, "http://app:8080"},
		curlAt{"CONNECT", []string{"-p", "-x", out}, "http://app:8080"},
		curlAt{"routed by Host", []string{"-H", "Host: app"}, out},
		curlAt{"h2c routed by Host", []string{"--http2-prior-knowledge", "-H", "Host: app"}, out},
	)
}

func TestCurl(t *testing.T) {
	curl := installed(t, "curl", "curl")
	app := newWebApp(t)
	p := newPair(t, setup{app: app.addr})
	for _, w := range ways(p) {
		t.Run(w.name, func(t *testing.T) {
			run := func(path string, args ...string) string {
				t.Helper()
				argv := append([]string{curl, "-sS", "--fail-with-body", "-m", "30"}, w.args...)
				return runTool(t, append(append(argv, args...), w.base+path)...)
			}
			if got := run("/echo", "-d", "hello"); got != "hello" {
				t.Errorf("POST /echo = %q, want hello", got)
			}
			if got := run("/echo"); got != "" {
				t.Errorf("GET /echo = %q, want nothing", got)
			}
			if got := strings.ToLower(run("/echo", "-I")); !strings.Contains(got, "app-method: head") {
				t.Errorf("HEAD /echo = %q, want App-Method: HEAD in it", got)
			}
			if got := run("/bytes?n=300000", "-o", "/dev/null", "-w", "%{http_code} %{size_download}"); got != "200 300000" {
				t.Errorf("GET /bytes = %s, want 200 300000", got)
			}
			if got := run("/bytes?n=300000&chunked=1", "-o", "/dev/null", "-w", "%{size_download}"); got != "300000" {
				t.Errorf("GET /bytes chunked = %s bytes, want 300000", got)
			}
			body := strings.Repeat("0123456789", 200_000) // curl sends Expect: 100-continue with more than 1 MiB
			for _, how := range []string{"Content-Length", "chunked"} {
				if how == "chunked" && strings.Contains(w.name, "1.0") {
					continue // HTTP/1.0 has no chunks
				}
				args := append(append([]string{"-sS", "--fail-with-body", "-m", "30", "--data-binary", "@-"}, w.args...), w.base+"/echo")
				if how == "chunked" && !strings.Contains(w.name, "h2c") {
					args = append([]string{"-H", "Transfer-Encoding: chunked"}, args...)
				}
				cmd := exec.CommandContext(t.Context(), curl, args...)
				cmd.Stdin = strings.NewReader(body)
				got, err := cmd.Output()
				if err != nil {
					t.Errorf("POST of 2 MB, %s: %v\n%s", how, err, shorten(got))
				}
				equalBytes(t, "POST of 2 MB, "+how, got, []byte(body))
			}
		})
	}
}

func TestCurlKeepsTheConnectionForTheNextRequest(t *testing.T) {
	curl := installed(t, "curl", "curl")
	app := newWebApp(t)
	p := newPair(t, setup{app: app.addr})
	url := "http://" + p.local + "/echo"
	got := runTool(t, curl, "-sS", "-m", "30", "-w", "%{num_connects}\n", url, url, url)
	if want := "1\n0\n0\n"; got != want {
		t.Errorf("connections opened by three requests = %q, want %q", got, want)
	}
}

func TestCurlHTTPSPassesThrough(t *testing.T) {
	curl := installed(t, "curl", "curl")
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s over %s", r.Host, r.Proto)
	}))
	defer srv.Close()
	p := newPair(t, setup{app: srv.Listener.Addr().String(), port: 8443})
	if got, want := runTool(t, curl, "-sS", "-k", "-m", "20", "--http1.1", "https://"+p.local+"/"), p.local+" over HTTP/1.1"; got != want {
		t.Errorf("TLS on the service's own port = %q, want %q", got, want)
	}
	if *direct {
		return
	}
	if got, want := runTool(t, curl, "-sS", "-k", "-m", "20", "-x", "http://"+p.a.outbound, "https://app:8443/"), "app:8443 over HTTP/1.1"; got != want {
		t.Errorf("TLS through CONNECT = %q, want %q", got, want)
	}
}

func TestCurlMoves1GiBWithoutMemoryGrowing(t *testing.T) {
	curl := installed(t, "curl", "curl")
	app := newWebApp(t)
	p := newPair(t, setup{app: app.addr})
	const size = 1 << 30
	const limit = 64 << 20
	versions := []string{"--http1.1", "--http2-prior-knowledge"}
	if *direct {
		versions = versions[:1]
	}
	for _, version := range versions {
		t.Run("download "+version, func(t *testing.T) {
			memory := p.watchMemory()
			began := time.Now()
			cmd := exec.CommandContext(t.Context(), curl, "-sS", "-f", "-m", "120", version, fmt.Sprintf("http://%s/bytes?n=%d", p.local, size))
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if err := checkContent(out, size); err != nil {
				t.Error(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("curl: %v: %s", err, &stderr)
			}
			t.Logf("1 GiB in %v", time.Since(began))
			memory.end(t, limit)
		})
		t.Run("upload "+version, func(t *testing.T) {
			memory := p.watchMemory()
			began := time.Now()
			cmd := exec.CommandContext(t.Context(), curl, "-sS", "--fail-with-body", "-m", "120", version, "-X", "POST", "-T", "-",
				fmt.Sprintf("http://%s/check?n=%d", p.local, size))
			cmd.Stdin = io.LimitReader(&pattern{}, size)
			got, err := cmd.CombinedOutput()
			if want := fmt.Sprintf("%d bytes as sent\n", size); err != nil || string(got) != want {
				t.Errorf("curl: %v: %q, want %q", err, got, want)
			}
			t.Logf("1 GiB in %v", time.Since(began))
			memory.end(t, limit)
		})
	}
}
