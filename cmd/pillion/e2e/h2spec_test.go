//go:build e2e

package e2e

import (
	"crypto/tls"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// h2specModule is the conformance suite for HTTP/2 servers: 145 cases.
const h2specModule = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible"

// runH2spec runs the whole suite against addr.
func runH2spec(t *testing.T, addr string) {
	t.Helper()
	host, port, _ := net.SplitHostPort(addr)
	out, err := exec.CommandContext(t.Context(), workshop.tool(t, "h2spec", h2specModule), "-h", host, "-p", port, "-o", "5").CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	summary := lines[len(lines)-1]
	if err != nil || !strings.Contains(summary, "145 passed") || !strings.Contains(summary, " 0 failed") {
		report := string(out)
		if i := strings.Index(report, "Failures:"); i >= 0 {
			report = report[i:]
		}
		t.Errorf("h2spec: %v: %s, want 145 passed, 0 failed\n%s", err, summary, report)
	}
	t.Log(summary)
}

func TestH2specAppSide(t *testing.T) {
	app := newWebApp(t, "http1", "h2c")
	p := newPair(t, setup{app: app.addr})
	runH2spec(t, p.local)
}

func TestH2specPeerSide(t *testing.T) {
	if *direct {
		return
	}
	app := newWebApp(t)
	// h2spec shows no client certificate: what it sends is put into mutual TLS here. It asks for the port where it
	// connects, so that this is the app's port for peers.
	ln, err := net.Listen("tcp", freeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	_, portText, _ := net.SplitHostPort(ln.Addr().String())
	port, _ := strconv.Atoi(portText)
	p := newPair(t, setup{app: app.addr, port: port})
	config := p.ca.issue(leaf{name: "web"}).tls(t)
	stop := intoTLS(ln, p.b.peer, config)
	defer stop()
	runH2spec(t, ln.Addr().String())
}

// intoTLS forwards plain connections into TLS. The returned function ends it.
func intoTLS(ln net.Listener, to string, config *tls.Config) (stop func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go forwardTLS(c.(*net.TCPConn), to, config)
		}
	}()
	return func() {
		_ = ln.Close()
		<-done
	}
}

// forwardTLS serves one connection. When the far side ends, so does the near one.
func forwardTLS(near *net.TCPConn, to string, config *tls.Config) {
	defer near.Close()
	far, err := tls.Dial("tcp", to, config)
	if err != nil {
		return
	}
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(near, far)
		_ = near.Close()
	}()
	_, _ = io.Copy(far, near)
	_ = far.Close()
	<-back
}
