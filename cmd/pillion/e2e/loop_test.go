//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// get508 wants the answer to a request that went round.
func get508(t *testing.T, outbound, host string, names ...string) {
	t.Helper()
	req, err := http.NewRequest("GET", "http://"+outbound+"/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	resp, err := (&http.Client{Timeout: 20 * time.Second}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 508 || resp.Header.Get("Pillion-Error") != "loop_detected" {
		t.Errorf("answer = %s %q, want 508 loop_detected", resp.Status, body)
	}
	for _, name := range names {
		if !strings.Contains(string(body), name) {
			t.Errorf("answer = %q, want %q in the path that it names", body, name)
		}
	}
	t.Logf("%s", body)
}

func TestSidecarReachingItself(t *testing.T) {
	if *direct {
		return
	}
	ca := newAuthority(t)
	s := &sidecar{outbound: freeAddr(t), peer: freeAddr(t), admin: freeAddr(t), config: t.TempDir() + "/self.yaml"}
	// The configuration's check sees an app that is the sidecar itself; it cannot see one behind another address.
	back := newLink(t, s.outbound)
	s.write(t, fmt.Sprintf("service: self\napp: [{port: 8080, to: %q}]\nservices:\n  self: {endpoints: %q}\n", back.addr(), s.peer), ca.issue(leaf{name: "self"}))
	s.start(t, "self")
	s.ready()
	get508(t, s.outbound, "self", "self> >self")
}

func TestRingOfTwoSidecars(t *testing.T) {
	if *direct {
		return
	}
	ca := newAuthority(t)
	ring := map[string]*sidecar{}
	for _, name := range []string{"aye", "bee"} {
		ring[name] = &sidecar{outbound: freeAddr(t), peer: freeAddr(t), admin: freeAddr(t), config: t.TempDir() + "/" + name + ".yaml"}
	}
	for name, s := range ring {
		next := map[string]string{"aye": "bee", "bee": "aye"}[name]
		s.write(t, fmt.Sprintf("service: %s\napp: [{port: 8080, to: %q}]\nservices:\n  round: {endpoints: %q, identity: %s}\n",
			name, newLink(t, s.outbound).addr(), ring[next].peer, next), ca.issue(leaf{name: name}))
		s.start(t, name)
	}
	for _, s := range ring {
		s.ready()
	}
	get508(t, ring["aye"].outbound, "round", "aye> >bee bee> >aye")
	for name, s := range ring {
		before := s.cpu()
		time.Sleep(300 * time.Millisecond)
		if used := s.cpu() - before; used > 200*time.Millisecond {
			t.Errorf("%s used %v of processor time in 300ms after the loop, want rest", name, used)
		}
	}
}
