//go:build e2e

package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// strangers are certificates that nobody in the mesh may believe.
func strangers(t *testing.T, ca *authority) map[string]files {
	other := newAuthority(t).issue(leaf{name: "web"})
	other.roots = ca.roots()
	return map[string]files{
		"expired":              ca.issue(leaf{name: "web", notBefore: -2 * time.Hour, notAfter: -time.Hour}),
		"not yet valid":        ca.issue(leaf{name: "web", notBefore: time.Hour}),
		"foreign trust domain": ca.issue(leaf{name: "web", uris: []string{"spiffe://elsewhere.test/web"}}),
		"two identities":       ca.issue(leaf{name: "web", uris: []string{"spiffe://e2e.test/web", "spiffe://e2e.test/admin"}}),
		"no SPIFFE ID":         ca.issue(leaf{name: "web", uris: []string{"https://e2e.test/web"}}),
		"unknown authority":    other,
	}
}

func TestStrangersAreRefusedByThePeerPort(t *testing.T) {
	if *direct {
		return
	}
	app := newWebApp(t)
	p := newPair(t, setup{app: app.addr})
	configs := map[string]*tls.Config{
		"no certificate": {InsecureSkipVerify: true, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13},
	}
	for name, f := range strangers(t, p.ca) {
		configs[name] = f.tls(t)
	}
	old := p.ca.issue(leaf{name: "web"}).tls(t)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	configs["TLS 1.2"] = old
	for name, config := range configs {
		t.Run(name, func(t *testing.T) {
			logged := linesWith(p.b.output(), "refused") + linesWith(p.b.output(), "handshake")
			if err := serves(p.b.peer, config); err == nil {
				t.Error("the peer port serves this client, want a refusal")
			} else {
				t.Logf("the client sees: %v", err)
			}
			eventually(t, 5*time.Second, "one line about it in B's log", func() bool {
				return linesWith(p.b.output(), "refused")+linesWith(p.b.output(), "handshake") > logged
			})
			t.Logf("B's log: %s", tail(p.b.output(), 1))
			if n := linesWith(p.b.output(), "refused") + linesWith(p.b.output(), "handshake") - logged; n > 1 {
				t.Errorf("%d lines about one refusal, want one:\n%s", n, tail(p.b.output(), 3))
			}
		})
	}
	if err := serves(p.b.peer, p.ca.issue(leaf{name: "web"}).tls(t)); err != nil {
		t.Errorf("with a certificate of the mesh: %v", err)
	}
}

// serves reports whether a peer port answers the first bytes of HTTP/2 of a client with this configuration.
func serves(addr string, config *tls.Config) error {
	c, err := tls.Dial("tcp", addr, config)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
		return err
	}
	// The refusal of a client's certificate comes after the handshake, as TLS 1.3 has it.
	frame := make([]byte, 9)
	if _, err := io.ReadFull(c, frame); err != nil {
		return err
	}
	if frame[3] != 4 {
		return fmt.Errorf("first frame is %x, want SETTINGS", frame)
	}
	return nil
}

func TestStrangersAreRefusedByTheClientSide(t *testing.T) {
	if *direct {
		return
	}
	ca := newAuthority(t)
	web := ca.issue(leaf{name: "web"})
	peers := strangers(t, ca)
	peers["another service"] = ca.issue(leaf{name: "other"})
	for name, f := range peers {
		t.Run(name, func(t *testing.T) {
			config := f.tls(t)
			config.ClientAuth = tls.RequireAnyClientCert
			ln, err := tls.Listen("tcp", "127.0.0.1:0", config)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			go impersonate(ln)
			local := freeAddr(t)
			a := newSidecar(t, "A", fmt.Sprintf("service: web\nservices:\n  app: {endpoints: %q, listen: %q}\n", ln.Addr(), local), web)
			a.ready()
			began := time.Now()
			m := exchangeRaw(t, local, "POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 0\r\n\r\n")
			if code := m.field("Pillion-Error"); m.status() != 503 || code != "bad_identity" && code != "connect_failed" {
				t.Errorf("answer = %q %q %q, want 503 bad_identity", m.start, code, m.body)
			}
			t.Logf("after %v: %s", time.Since(began), m.body)
			if n := linesWith(a.output(), ln.Addr().String()); n == 0 || n > 2 {
				t.Errorf("A's log has %d lines about %v, want one:\n%s", n, ln.Addr(), tail(a.output(), 10))
			}
			t.Logf("A's log: %s", tail(a.output(), 1))
		})
	}
}

// impersonate finishes handshakes and keeps silent.
func impersonate(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_ = c.(*tls.Conn).Handshake()
			_, _ = io.Copy(io.Discard, c)
		}()
	}
}

func TestWrongServiceIsRefusedAndLoggedOnBothSides(t *testing.T) {
	if *direct {
		return
	}
	app := newWebApp(t)
	p := newPair(t, setup{app: app.addr})
	// B answers at the address of another service.
	local := freeAddr(t)
	a := newSidecar(t, "A2", fmt.Sprintf("service: web\nservices:\n  billing: {endpoints: %q, listen: %q}\n", p.b.peer, local), p.ca.issue(leaf{name: "web"}))
	a.ready()
	m := exchangeRaw(t, local, "POST / HTTP/1.1\r\nHost: billing\r\nContent-Length: 0\r\n\r\n")
	if m.status() != 503 || m.field("Pillion-Error") != "bad_identity" {
		t.Errorf("answer = %q %q %q, want 503 bad_identity", m.start, m.field("Pillion-Error"), m.body)
	}
	eventually(t, 5*time.Second, "A's log naming both identities", func() bool {
		return a.logged("spiffe://e2e.test/app", "spiffe://e2e.test/billing")
	})
	t.Logf("A: %s", tail(a.output(), 1))
	eventually(t, 5*time.Second, "a line about it in B's log", func() bool {
		return p.b.logged("handshake") || p.b.logged("refused") || p.b.logged("certificate")
	})
	t.Logf("B: %s", tail(p.b.output(), 1))
}

func TestAllowList(t *testing.T) {
	if *direct {
		return
	}
	app := newWebApp(t)
	for allow, want := range map[string]int{"[web]": 200, "[other, spiffe://e2e.test/web]": 200, "[other]": 403} {
		t.Run(allow, func(t *testing.T) {
			p := newPair(t, setup{app: app.addr, appMore: ", allow: " + allow})
			resp, err := http.Get("http://" + p.local + "/id?id=allowed")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != want {
				t.Errorf("answer = %s %q, want %d", resp.Status, body, want)
			}
			if want == 403 && (resp.Header.Get("Pillion-Error") != "denied" || !strings.Contains(string(body), "spiffe://e2e.test/web")) {
				t.Errorf("refusal = %q %q, want denied, naming the caller", resp.Header.Get("Pillion-Error"), body)
			}
			// The same for streams.
			c := dialRaw(t, p.a.outbound)
			_, _ = io.WriteString(c, "CONNECT app:8080 HTTP/1.1\r\nHost: app:8080\r\n\r\n")
			line := make([]byte, 12)
			if _, err := io.ReadFull(c, line); err != nil || string(line) != fmt.Sprintf("HTTP/1.1 %d", want) {
				t.Errorf("answer to CONNECT = %q, %v, want %d", line, err, want)
			}
		})
	}
}

func TestOutboundPortIsNoOpenProxy(t *testing.T) {
	if *direct {
		return
	}
	app := newWebApp(t)
	p := newPair(t, setup{app: app.addr})
	for _, target := range []string{app.addr, "example.com:80", p.a.admin, p.b.peer, "unknown"} {
		for _, request := range []string{
			"GET http://" + target + "/ HTTP/1.1\r\nHost: " + target + "\r\n\r\n",
			"CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: " + target + "\r\n\r\n",
		} {
			m := exchangeRaw(t, p.a.outbound, request)
			if m.status() < 400 || m.field("Pillion-Error") == "" {
				t.Errorf("answer to %q = %q, want a refusal with a code", strings.TrimSpace(request), m.start)
			}
		}
	}
}

func TestCertificateRotatesWithoutDroppingTheLink(t *testing.T) {
	if *direct {
		return
	}
	app := newWebApp(t)
	ca := newAuthority(t)
	cert := ca.issue(leaf{name: "app"})
	p := &pair{t: t, ca: ca}
	p.b = newSidecar(t, "B", fmt.Sprintf("service: app\napp: [{port: 8080, to: %q}]\n", app.addr), cert)
	p.link = newLink(t, p.b.peer)
	p.local = freeAddr(t)
	p.a = newSidecar(t, "A", fmt.Sprintf("service: web\nservices:\n  app: {endpoints: %q, listen: %q}\n", p.link.addr(), p.local), ca.issue(leaf{name: "web"}))
	p.b.ready()
	p.a.ready()
	p.warm(t)
	serial := func() string {
		c, err := tls.Dial("tcp", p.b.peer, ca.issue(leaf{name: "probe"}).tls(t))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before, dials := serial(), p.link.dials()
	l := newLoad(t, p.local, false)
	l.run(8)
	next := ca.issue(leaf{name: "app"})
	for from, to := range map[string]string{next.key: cert.key, next.cert: cert.cert} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 60*time.Second, "the new certificate on the peer port", func() bool { return serial() != before })
	if _, failed := settle(t, app, l.end(), failFast); failed > 0 {
		t.Errorf("%d requests failed while the certificate rotated, want none", failed)
	}
	if got := p.link.dials(); got != dials {
		t.Errorf("%d links after the rotation, want the %d from before", got, dials)
	}
}
