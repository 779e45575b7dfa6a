//go:build e2e

package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCurlSOCKS: every form in which curl speaks SOCKS.
func TestCurlSOCKS(t *testing.T) {
	if *direct {
		return
	}
	curl := installed(t, "curl", "curl")
	app := newWebApp(t)
	p := newPair(t, setup{app: app.addr})
	out := p.a.outbound
	body := filepath.Join(t.TempDir(), "body")
	writeRandom(t, body, 5<<20)
	want, err := os.ReadFile(body)
	if err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"a name":                     {"--socks5-hostname", out, "http://app:8080/echo"},
		"a name with a password":     {"--socks5-hostname", "me:secret@" + out, "http://app:8080/echo"},
		"SOCKS4a":                    {"--socks4a", out, "http://app:8080/echo"},
		"the address of its machine": {"--socks5", out, "http://127.0.0.1:8080/echo"},
		"SOCKS4":                     {"--socks4", out, "http://127.0.0.1:8080/echo"},
		"the service's own port":     {"--socks5", out, "http://" + p.local + "/echo"},
	} {
		got := runTool(t, append([]string{curl, "-sS", "--fail-with-body", "-m", "30", "--data-binary", "@" + body}, args...)...)
		if got != string(want) {
			t.Errorf("%s: %d bytes came back as %d others", name, len(want), len(got))
		}
	}
	for name, args := range map[string][]string{
		"no such service": {"--socks5-hostname", out, "http://nobody:8080/"},
		"no such port":    {"--socks5-hostname", out, "http://app:8081/"},
		"an admin port":   {"--socks5", out, "http://127.0.0.2:15000/"},
	} {
		if got, err := tryTool(t, append([]string{curl, "-sS", "-m", "30"}, args...)...); err == nil || !strings.Contains(got, "(4)") && !strings.Contains(got, "SOCKS5") {
			t.Errorf("%s: curl says %q, %v, want a refusal of SOCKS", name, got, err)
		}
	}
}

// TestCurlSockets: Unix sockets on both sides.
func TestCurlSockets(t *testing.T) {
	if *direct {
		return
	}
	curl := installed(t, "curl", "curl")
	dir := t.TempDir()
	app, way := filepath.Join(dir, "app"), filepath.Join(dir, "way")
	ln, err := net.Listen("unix", app)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Caller", r.Header.Get("X-Pillion-Identity"))
		_, _ = io.Copy(w, r.Body)
	})}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	t.Cleanup(func() { server.Close(); <-done })
	ca := newAuthority(t)
	b := newSidecar(t, "B", fmt.Sprintf("service: app\napp: {port: 8080, to: %q}\n", "unix:"+app), ca.issue(leaf{name: "app"}))
	b.ready()
	a := newSidecar(t, "A", fmt.Sprintf("service: web\nservices:\n  app: {endpoints: %q, listen: %q, socket: {mode: 0640}}\n", b.peer, "unix:"+way), ca.issue(leaf{name: "web"}))
	a.ready()
	if info, err := os.Lstat(way); err != nil || info.Mode() != os.ModeSocket|0o640 {
		t.Errorf("the socket: %v, %v, want mode 0640", info.Mode(), err)
	}
	body := filepath.Join(dir, "body")
	writeRandom(t, body, 5<<20)
	want, err := os.ReadFile(body)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		got := runTool(t, curl, "-sS", "--fail-with-body", "-m", "30", "--unix-socket", way, "--data-binary", "@"+body, "http://app/")
		if got != string(want) {
			t.Errorf("%d bytes came back as %d others", len(want), len(got))
		}
	}
	if got := runTool(t, curl, "-sS", "-m", "30", "--unix-socket", way, "-o", "/dev/null", "-w", "%header{caller}", "http://app/"); got != "spiffe://"+trustDomain+"/web" {
		t.Errorf("the app takes the caller for %q", got)
	}
	a.kill() // and leaves its socket behind
	a.restart()
	if got := runTool(t, curl, "-sS", "--fail-with-body", "-m", "30", "--unix-socket", way, "-d", "again", "http://app/"); got != "again" {
		t.Errorf("after a restart = %q, want again", got)
	}
}

// TestCurlTLS: an app and a client that speak TLS with each other, through the outbound port: curl believes the app's own certificate.
func TestCurlTLS(t *testing.T) {
	if *direct {
		return
	}
	curl := installed(t, "curl", "curl")
	own := newAuthority(t)
	cert := own.issue(leaf{name: "shop", host: "app"})
	pair, err := tls.LoadX509KeyPair(cert.cert, cert.key)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.TLS.ServerName) })}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	t.Cleanup(func() { server.Close(); <-done })
	p := newPair(t, setup{app: ln.Addr().String()})
	to := "::" + p.a.outbound
	for _, version := range []string{"1.2", "1.3"} {
		if got := runTool(t, curl, "-sS", "-m", "30", "--tls-max", version, "--noproxy", "*", "--connect-to", to, "--cacert", own.roots(), "https://app/"); got != "app" {
			t.Errorf("%s: %q, want the name that the app was asked for", version, got)
		}
	}
	if got, err := tryTool(t, curl, "-sS", "-k", "-m", "30", "--connect-to", to, "https://nobody.example/"); err == nil || !strings.Contains(got, "unrecognized name") {
		t.Errorf("a name that is no service: %q, %v, want an alert that says so", got, err)
	}
	if !p.a.logged("TLS connection of the app refused", "nobody.example") {
		t.Error("the refusal is not in the log")
	}
}

// TestProxyProtocolSoftware: HAProxy says for whom a connection is, A believes it, and B tells nginx.
func TestProxyProtocolSoftware(t *testing.T) {
	if *direct {
		return
	}
	curl := installed(t, "curl", "curl")
	for _, version := range []string{"v1", "v2"} {
		t.Run(version, func(t *testing.T) {
			dir, web, balancer := t.TempDir(), freeAddr(t), freeAddr(t)
			nginx := filepath.Join(dir, "nginx.conf")
			write(t, nginx, fmt.Sprintf("daemon off;\nmaster_process off;\npid %s/pid;\nerror_log stderr;\nevents {}\nhttp { access_log off;\n"+
				"client_body_temp_path %s/b; proxy_temp_path %s/p; fastcgi_temp_path %s/f; uwsgi_temp_path %s/u; scgi_temp_path %s/s;\n"+
				"server { listen %s proxy_protocol; location / { return 200 \"$proxy_protocol_addr $proxy_protocol_port\"; } } }\n", dir, dir, dir, dir, dir, dir, web))
			start(t, "nginx", installed(t, "nginx", "nginx"), "-p", dir, "-e", "stderr", "-c", nginx)
			waitListening(t, web)
			p := newPair(t, setup{app: web, protocol: "tcp", listen: "tcp", appMore: ", proxy_protocol: " + version, svcMore: ", proxy_protocol: {from: 127.0.0.1}"})
			send := map[string]string{"v1": "send-proxy", "v2": "send-proxy-v2"}[version]
			haproxy := filepath.Join(dir, "haproxy.cfg")
			write(t, haproxy, fmt.Sprintf("defaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\nlisten l\n bind %s\n server a %s %s\n", balancer, p.local, send))
			start(t, "haproxy", installed(t, "haproxy", "haproxy"), "-db", "-f", haproxy)
			waitListening(t, balancer)
			_, port, _ := net.SplitHostPort(freeAddr(t))
			// The client's address is one of A's machine: for B that is where A is. Its port stays.
			if got := runTool(t, curl, "-sS", "-m", "30", "--local-port", port, "http://"+balancer+"/"); got != "127.0.0.1 "+port {
				t.Errorf("nginx takes the client for %q, want 127.0.0.1 %s", got, port)
			}
			if got, err := tryTool(t, curl, "-sS", "-m", "30", "http://"+p.local+"/"); err == nil {
				t.Errorf("without a header = %q, want no answer", got)
			}
			eventually(t, 10*time.Second, "a line in the log", func() bool { return p.a.logged("has to begin with a header of the PROXY protocol") })
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestSOCKSDatagrams: a client that is not ours.
func TestSOCKSDatagrams(t *testing.T) {
	if *direct {
		return
	}
	app, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1<<16)
		for {
			n, from, err := app.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = app.WriteTo(b[:n], from)
		}
	}()
	t.Cleanup(func() { app.Close(); <-done })
	overEach(t, func(t *testing.T, transport string) {
		p := newPair(t, setup{app: app.LocalAddr().String(), port: 7, protocol: "udp", listen: "udp", transport: transport})
		_, port, _ := net.SplitHostPort(p.a.outbound)
		if got := strings.TrimSpace(runTool(t, python, "testdata/socks_udp.py", port, "app", "7")); got != "ok" {
			t.Errorf("got %q, want ok", got)
		}
	})
}
