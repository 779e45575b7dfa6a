//go:build e2e

package e2e

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// startEtcd starts a cluster of one and returns the lines of a sidecar's file that name it.
func startEtcd(t *testing.T) string {
	t.Helper()
	addr, peer := freeAddr(t), freeAddr(t)
	start(t, "etcd", installed(t, "etcd", "etcd-server"), "--data-dir", t.TempDir(), "--listen-client-urls", "http://"+addr, "--advertise-client-urls", "http://"+addr,
		"--listen-peer-urls", "http://"+peer, "--initial-advertise-peer-urls", "http://"+peer, "--initial-cluster", "default=http://"+peer)
	waitListening(t, addr)
	return fmt.Sprintf("etcd: {endpoints: [%q]}\n", addr)
}

// TestRegister: sidecars find each other by a registry alone, come and go under load, and nobody notices.
func TestRegister(t *testing.T) {
	if *direct {
		return
	}
	for name, begin := range registries() {
		t.Run(name, func(t *testing.T) {
			registry := begin(t)
			app := newWebApp(t)
			ca := newAuthority(t)
			end := func(n int) *sidecar {
				s := newSidecar(t, fmt.Sprintf("B%d", n), fmt.Sprintf("service: app\napp: [{port: 8080, to: %q}]\nzone: here\nregister: %s\nregistration: {ttl: 3s}\n%s", app.addr, name, registry),
					ca.issue(leaf{name: "app"}))
				s.ready()
				return s
			}
			p := &pair{t: t, ca: ca, local: freeAddr(t)}
			p.a = newSidecar(t, "A", fmt.Sprintf("service: web\nservices:\n  app: {endpoints: %q, listen: %q}\n%s", name+":app", p.local, registry), ca.issue(leaf{name: "web"}))
			p.a.ready()
			sees := func(want ...*sidecar) {
				t.Helper()
				eventually(t, time.Minute, fmt.Sprintf("A naming %d endpoints", len(want)), func() bool {
					s := p.a.status().Services
					if len(s) != 1 || len(s[0].Endpoints) != len(want) {
						return false
					}
					for _, w := range want {
						found := false
						for _, e := range s[0].Endpoints {
							found = found || e.Address == w.peer
						}
						if !found {
							return false
						}
					}
					return true
				})
			}
			first := end(1)
			sees(first)
			p.warm(t)
			l := newLoad(t, p.local, false)
			l.query = "&wait=5ms"
			l.run(8)
			second := end(2)
			sees(first, second)
			first.signal(syscall.SIGTERM)
			sees(second)
			if code := first.wait(time.Minute); code != 0 {
				t.Errorf("the first ended with %d, want 0", code)
			}
			third := end(3)
			sees(second, third)
			for _, o := range l.end() {
				if !o.whole {
					t.Errorf("a request failed while sidecars came and went: %+v", o)
				}
			}
			if r := third.status().Registration; r == nil || !r.Entered || r.Error != "" || r.Unfit != "" {
				t.Errorf("the third says of its entry: %+v", r)
			}
			third.kill() // its entry lapses
			sees(second)
		})
	}
}
