//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestDrainFinishesWhatRuns(t *testing.T) {
	if *direct {
		return
	}
	for _, side := range []string{"A", "B"} {
		t.Run(side, func(t *testing.T) {
			app := newWebApp(t)
			p := newPair(t, setup{app: app.addr})
			p.warm(t)
			s := map[string]*sidecar{"A": p.a, "B": p.b}[side]
			l := newLoad(t, p.local, false)
			l.query = "&wait=1500ms"
			done := make(chan struct{})
			go func() {
				defer close(done)
				l.burst(100)
			}()
			eventually(t, 10*time.Second, "100 requests running", func() bool { return len(app.counts()) > 100 })
			s.signal(syscall.SIGTERM)
			eventually(t, 5*time.Second, "readiness withdrawn", func() bool {
				resp, err := getOnce("http://" + s.admin + "/readyz")
				if err == nil {
					resp.Body.Close()
				}
				return err != nil || resp.StatusCode != http.StatusOK
			})
			<-done
			if answered, failed := settle(t, app, l.all(), failFast); failed > 0 {
				t.Errorf("%d of %d requests that ran when the signal came failed, want none", failed, answered+failed)
			}
			l.client.CloseIdleConnections()
			if code := s.wait(15 * time.Second); code != 0 {
				t.Errorf("exit code = %d, want 0", code)
			}
		})
	}
}

func TestDrainUnderLoadWithASecondEndpoint(t *testing.T) {
	if *direct {
		return
	}
	for _, version := range []string{"HTTP/1.1", "h2c"} {
		t.Run(version, func(t *testing.T) {
			app := newWebApp(t)
			ca := newAuthority(t)
			var ends [2]*sidecar
			for i := range ends {
				ends[i] = newSidecar(t, fmt.Sprintf("B%d", i+1), fmt.Sprintf("service: app\napp: [{port: 8080, to: %q}]\n", app.addr), ca.issue(leaf{name: "app"}))
				ends[i].ready()
			}
			p := &pair{t: t, ca: ca, local: freeAddr(t)}
			p.a = newSidecar(t, "A", fmt.Sprintf("service: web\nservices:\n  app: {endpoints: [%q, %q], listen: %q}\n", ends[0].peer, ends[1].peer, p.local), ca.issue(leaf{name: "web"}))
			p.a.ready()
			p.warm(t)
			l := newLoad(t, p.local, version == "h2c")
			l.query = "&wait=5ms"
			l.run(32)
			time.Sleep(500 * time.Millisecond)
			ends[0].signal(syscall.SIGTERM)
			if code := ends[0].wait(20 * time.Second); code != 0 {
				t.Errorf("exit code = %d, want 0", code)
			}
			time.Sleep(500 * time.Millisecond)
			if answered, failed := settle(t, app, l.end(), failFast); failed > 0 || answered < 100 {
				t.Errorf("%d answered and %d failed, want many and none", answered, failed)
			}
		})
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	if *direct {
		return
	}
	app := newWebApp(t)
	p := newPair(t, setup{app: app.addr})
	resp, err := http.Get("http://" + p.local + "/hang")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	<-app.seen
	for _, s := range p.both() {
		s.signal(syscall.SIGTERM)
	}
	time.Sleep(time.Second)
	for _, s := range p.both() {
		select {
		case <-s.done:
			t.Fatalf("%s ended while a request ran, within its drain time", s.name)
		default:
		}
	}
	for _, s := range p.both() {
		began := time.Now()
		s.signal(syscall.SIGTERM)
		s.wait(2 * time.Second)
		t.Logf("%s ended after %v", s.name, time.Since(began))
	}
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("the request that was cut ended in order, want an error")
	}
}

func TestDrainTimeIsBounded(t *testing.T) {
	if *direct {
		return
	}
	app := newWebApp(t)
	p := newPair(t, setup{app: app.addr, aMore: "drain: 1s\n", bMore: "drain: 1s\n"})
	resp, err := http.Get("http://" + p.local + "/hang")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	<-app.seen
	p.b.signal(syscall.SIGTERM)
	p.b.wait(8 * time.Second)
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("the request that was cut ended in order, want an error")
	}
}

func TestBusyPortIsOneClearError(t *testing.T) {
	if *direct {
		return
	}
	ca := newAuthority(t)
	for _, setting := range []string{"outbound", "peer", "admin"} {
		t.Run(setting, func(t *testing.T) {
			busy, err := net.Listen("tcp", freeAddr(t))
			if err != nil {
				t.Fatal(err)
			}
			defer busy.Close()
			s := &sidecar{outbound: freeAddr(t), peer: freeAddr(t), admin: freeAddr(t), config: t.TempDir() + "/busy.yaml"}
			switch setting {
			case "outbound":
				s.outbound = busy.Addr().String()
			case "peer":
				s.peer = busy.Addr().String()
			case "admin":
				s.admin = busy.Addr().String()
			}
			s.write(t, "service: web\n", ca.issue(leaf{name: "web"}))
			s.process = start(t, "sidecar", workshop.pillion(), "run", "-c", s.config)
			if code := s.wait(10 * time.Second); code == 0 {
				t.Error("exit code = 0, want another")
			}
			out := s.output()
			t.Logf("%s", out)
			if n := linesWith(out, busy.Addr().String()); n != 1 {
				t.Errorf("it printed %d lines about %v, want one:\n%s", n, busy.Addr(), out)
			}
			if linesWith(out, setting, busy.Addr().String()) == 0 {
				t.Errorf("it printed:\n%s\nwant the setting %q named", out, setting)
			}
			if n := strings.Count(strings.TrimSpace(out), "\n"); n > 2 {
				t.Errorf("it printed %d lines, want one clear error:\n%s", n+1, out)
			}
		})
	}
}

func TestSupervisedAppIsReachedAndItsExitCodeReturned(t *testing.T) {
	if *direct {
		return
	}
	app := newWebApp(t)
	p := newPair(t, setup{app: app.addr})
	curl := installed(t, "curl", "curl")
	// A third sidecar supervises a client that finds its way by HTTP_PROXY alone.
	s := &sidecar{outbound: freeAddr(t), peer: freeAddr(t), admin: freeAddr(t), config: t.TempDir() + "/super.yaml"}
	s.write(t, fmt.Sprintf("service: cron\nservices:\n  app: {endpoints: %q}\n", p.b.peer), p.ca.issue(leaf{name: "cron"}))
	out := t.TempDir() + "/out"
	s.process = start(t, "supervisor", workshop.pillion(), "run", "-c", s.config, "--", "sh", "-c",
		curl+" -sS -f -m 10 http://app/id?id=supervised > "+out+"; exit 7")
	if code := s.wait(20 * time.Second); code != 7 {
		t.Errorf("exit code = %d, want the app's 7", code)
	}
	if got, err := os.ReadFile(out); err != nil || string(got) != "supervised" {
		t.Errorf("the supervised client got %q, %v, want supervised", got, err)
	}
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	app := newWebApp(t)
	p := newPair(t, setup{app: app.addr})
	c := dialRaw(t, p.local)
	const n = 50
	var all strings.Builder
	for i := range n {
		wait := []string{"30ms", "0s", "10ms"}[i%3]
		fmt.Fprintf(&all, "POST /id?id=%d&wait=%s HTTP/1.1\r\nHost: app\r\nContent-Length: 3\r\n\r\nabc", i, wait)
	}
	if _, err := io.WriteString(c, all.String()); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	for i := range n {
		m, err := readMessage(r)
		if err != nil || string(m.body) != fmt.Sprint(i) {
			t.Fatalf("answer %d = %+v, %v", i, m, err)
		}
	}
}
