//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestEndpointsMoveWhileRequestsRun(t *testing.T) {
	if *direct {
		return
	}
	app := newWebApp(t)
	ca := newAuthority(t)
	var ends [2]*sidecar
	for i := range ends {
		ends[i] = newSidecar(t, fmt.Sprintf("B%d", i+1), fmt.Sprintf("service: app\napp: [{port: 8080, to: %q}]\n", app.addr), ca.issue(leaf{name: "app"}))
		ends[i].ready()
	}
	list := filepath.Join(t.TempDir(), "endpoints")
	point := func(to *sidecar) {
		t.Helper()
		next := list + ".next"
		if err := os.WriteFile(next, []byte("- "+to.peer+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, list); err != nil {
			t.Fatal(err)
		}
	}
	point(ends[0])
	p := &pair{t: t, ca: ca, local: freeAddr(t)}
	p.a = newSidecar(t, "A", fmt.Sprintf("service: web\nservices:\n  app: {endpoints: %q, listen: %q}\n", "file:"+list, p.local), ca.issue(leaf{name: "web"}))
	p.a.ready()
	p.warm(t)
	l := newLoad(t, p.local, false)
	l.query = "&wait=5ms"
	l.run(16)
	point(ends[1])
	eventually(t, 20*time.Second, "A naming the new endpoint alone", func() bool {
		s := p.a.status().Services
		return len(s) == 1 && len(s[0].Endpoints) == 1 && s[0].Endpoints[0].Address == ends[1].peer
	})
	ends[0].kill() // nothing may go there any more, once what ran has ended
	time.Sleep(500 * time.Millisecond)
	// What ran on the old endpoint when it was killed may fail; what came later must not.
	killed := time.Now().Add(-400 * time.Millisecond)
	outcomes := l.end()
	settle(t, app, outcomes, failFast)
	late := 0
	for _, o := range outcomes {
		if o.began.After(killed) && !o.whole {
			late++
		}
	}
	if late > 0 {
		t.Errorf("%d requests failed that came after the endpoint had moved, want none", late)
	}
}
