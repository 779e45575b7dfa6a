//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/listeners/admin"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
)

// pair is two sidecars: A beside the client, B beside the app.
//
//	client ─▶ A.outbound or local ─▶ A ══ link ══▶ B ─▶ app
//
// With -direct there are none, and local is the app itself.
type pair struct {
	t    *testing.T
	ca   *authority
	a, b *sidecar
	link *link
	// local is the port of A that leads to the app.
	local string
}

// setup is what a test wants of its pair beyond the usual.
type setup struct {
	app      string // address of the app
	service  string // the app's name; default "app"
	port     int    // that peers ask for; default 8080
	protocol string // of the app's entry, default auto
	listen   string // protocol of A's local port, default auto
	// transport of the link: "tcp", "quic", or "" for tcp. Only TCP runs over the test's own wire, pair.link.
	transport string
	via       func(peer string) string // where A finds B instead, given B's address
	peerMore  string                   // more keys of the peer of both, as in ", early_data: true"
	appMore   string                   // more keys of the app entry, as in ", allow: [web]"
	svcMore   string                   // more keys of the service
	aMore     string                   // more lines of A's file
	bMore     string                   // more lines of B's file
	aCert     *files                   // A's certificate instead of the usual
	bCert     *files
}

// sidecar is one running pillion.
type sidecar struct {
	*process
	config                string // path
	outbound, peer, admin string // addresses
	peerMore              string // more keys of peer
}

// newPair starts a pair.
func newPair(t *testing.T, s setup) *pair {
	t.Helper()
	if s.service == "" {
		s.service = "app"
	}
	if s.port == 0 {
		s.port = 8080
	}
	p := &pair{t: t, ca: newAuthority(t), local: s.app}
	if *direct {
		return p
	}
	aCert, bCert := p.ca.issue(leaf{name: "web"}), p.ca.issue(leaf{name: s.service})
	if s.aCert != nil {
		aCert = *s.aCert
	}
	if s.bCert != nil {
		bCert = *s.bCert
	}
	p.b = newSidecarWith(t, "B", s.peerMore, fmt.Sprintf("service: %s\napp: [{port: %d, to: %q%s%s}]\n%s",
		s.service, s.port, s.app, key("protocol", s.protocol), s.appMore, s.bMore), bCert)
	p.link = newLink(t, p.b.peer)
	p.local = freeAddr(t)
	at := p.link.addr()
	if s.transport == "quic" {
		at = p.b.peer
	}
	if s.via != nil {
		at = s.via(p.b.peer)
	}
	p.a = newSidecarWith(t, "A", s.peerMore, fmt.Sprintf("service: web\nservices:\n  %s: {endpoints: %q, listen: %q%s%s%s}\n%s",
		s.service, at, p.local, key("protocol", s.listen), key("transport", s.transport), s.svcMore, s.aMore), aCert)
	p.b.ready()
	p.a.ready()
	return p
}

// key is ", name: value", or nothing.
func key(name, value string) string {
	if value == "" {
		return ""
	}
	return ", " + name + ": " + value
}

// both are the sidecars; none with -direct.
func (p *pair) both() []*sidecar {
	if p.a == nil {
		return nil
	}
	return []*sidecar{p.a, p.b}
}

// newSidecar starts a sidecar with free ports. It does not wait for it.
func newSidecar(t *testing.T, name, config string, cert files) *sidecar {
	t.Helper()
	return newSidecarWith(t, name, "", config, cert)
}

// newSidecarWith is newSidecar with more keys of peer.
func newSidecarWith(t *testing.T, name, peerMore, config string, cert files) *sidecar {
	t.Helper()
	s := &sidecar{peerMore: peerMore, outbound: freeAddr(t), peer: freeAddr(t), admin: freeAddr(t), config: filepath.Join(t.TempDir(), name+".yaml")}
	s.write(t, config, cert)
	s.start(t, name)
	return s
}

// start runs the sidecar.
func (s *sidecar) start(t *testing.T, name string) {
	t.Helper()
	s.process = start(t, "sidecar "+name, workshop.pillion(), "run", "-c", s.config)
	t.Cleanup(s.sane)
}

// write writes the sidecar's file. config may have an outbound of its own.
func (s *sidecar) write(t *testing.T, config string, cert files) {
	t.Helper()
	if !strings.Contains(config, "\noutbound:") {
		config += fmt.Sprintf("outbound: {listen: %q}\n", s.outbound)
	}
	config += fmt.Sprintf("peer: {listen: %q%s}\nadmin: {listen: %q, pprof: true}\n", s.peer, s.peerMore, s.admin)
	config += fmt.Sprintf("identity: {cert: %q, key: %q, roots: %q}\n", cert.cert, cert.key, cert.roots)
	if err := os.WriteFile(s.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
}

// restart starts a new process with the same file, after the old one has ended.
func (s *sidecar) restart() {
	s.t.Helper()
	s.process = start(s.t, s.name, workshop.pillion(), "run", "-c", s.config)
	s.ready()
}

// ready waits until the sidecar says so.
func (s *sidecar) ready() {
	s.t.Helper()
	for range 1000 {
		resp, err := getOnce("http://" + s.admin + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-s.done:
			s.t.Fatalf("%s ended: %v", s.name, s.err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	s.t.Fatalf("%s is not ready after ten seconds", s.name)
}

// status is /status of the admin listener.
func (s *sidecar) status() admin.Status {
	s.t.Helper()
	var v admin.Status
	if err := json.Unmarshal([]byte(s.get("/status")), &v); err != nil {
		s.t.Fatalf("status of %s: %v", s.name, err)
	}
	return v
}

// sane fails the test if a bug of the sidecar has shown itself, even where every client was content. It is called at the end of each
// test, unless the process has ended or stands still.
func (s *sidecar) sane() {
	s.t.Helper()
	if linesWith(s.output(), "panic")+linesWith(s.output(), "data race") > 0 {
		s.t.Errorf("%s panicked:\n%s", s.name, tail(s.output(), 100))
	}
	resp, err := getOnce("http://" + s.admin + "/healthz")
	if err != nil {
		return
	}
	resp.Body.Close()
	rt := s.status().Runtime
	if rt.Panics > 0 {
		s.t.Errorf("%s: %d panics, want none:\n%s", s.name, rt.Panics, tail(s.output(), 100))
	}
	if rt.Stalls > 0 { // a busy machine may look like a loop that is kept
		s.t.Logf("%s: the watchdog saw %d stalls of a loop:\n%s", s.name, rt.Stalls, tail(s.output(), 20))
	}
}

// get fetches a page of the admin listener.
func (s *sidecar) get(path string) string {
	s.t.Helper()
	resp, err := getOnce("http://" + s.admin + path)
	if err != nil {
		s.t.Fatalf("%s: %v", s.name, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: GET %s = %s, %v", s.name, path, resp.Status, err)
	}
	return string(b)
}

// getOnce is http.Get without a connection that stays.
func getOnce(url string) (*http.Response, error) {
	client := &http.Client{Timeout: 5 * time.Second}
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return nil, err
	}
	req.Close = true
	return client.Do(req)
}

// logged reports whether the sidecar has written a line with all the words in it.
func (s *sidecar) logged(words ...string) bool {
	return linesWith(s.output(), words...) > 0
}

// linesWith counts the lines that have all the words in them, without regard to case.
func linesWith(text string, words ...string) int {
	n := 0
	for line := range strings.Lines(strings.ToLower(text)) {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, strings.ToLower(w))
		}
		if all {
			n++
		}
	}
	return n
}

// freeAddr is an address of loopback that nobody uses, for TCP and UDP, below the ports that outgoing connections get. It may wait in a
// configuration until somebody binds it.
func freeAddr(t *testing.T) string {
	t.Helper()
	return proxytest.Addr(t)
}
