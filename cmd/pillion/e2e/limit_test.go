//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/listeners/admin"
)

// slotsApp is an app that counts its connections, and holds each request until it is let go.
type slotsApp struct {
	addr      string
	now, most atomic.Int32 // connections
	letGo     chan struct{}
}

func newSlotsApp(t *testing.T) *slotsApp {
	t.Helper()
	a := &slotsApp{letGo: make(chan struct{})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a.addr = ln.Addr().String()
	srv := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		select {
		case <-a.letGo:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(rw, "done")
	})}
	srv.ConnState = func(_ net.Conn, st http.ConnState) {
		switch st {
		case http.StateNew:
			a.most.Store(max(a.most.Load(), a.now.Add(1)))
		case http.StateClosed:
			a.now.Add(-1)
		}
	}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
	return a
}

// crowd sends n requests at once, and returns how many had each status in the end, with the code of those that pillion refused.
func crowd(t *testing.T, n int, url string) func() map[string]int {
	var all sync.WaitGroup
	var mu sync.Mutex
	got := make(map[string]int)
	for range n {
		all.Go(func() {
			resp, err := (&http.Client{Timeout: 60 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Get(url)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			mu.Lock()
			got[strings.TrimSpace(fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Pillion-Error")))]++
			mu.Unlock()
		})
	}
	return func() map[string]int { all.Wait(); return got }
}

// No more connections to an app, or to a service without sidecars, are open than may be. More requests wait, and more than may wait are refused, each with its code. A reload changes the number.
func TestConnectionsAreLimited(t *testing.T) {
	if *direct {
		return
	}
	const limit = ", limits: {connections: 2, pending: 3, wait: 1m}"
	app, plain := newSlotsApp(t), newSlotsApp(t)
	p := newPair(t, setup{app: app.addr, appMore: limit, svcMore: ", retry: {attempts: 1}"})
	beside := freeAddr(t)
	config := func(connections int) string {
		return fmt.Sprintf("service: c\nservices: {plain: {endpoints: %q, mesh: false, protocol: http, listen: %q, retry: {attempts: 1}, limits: {connections: %d, pending: 3, wait: 1m}}}\n",
			plain.addr, beside, connections)
	}
	cert := p.ca.issue(leaf{name: "c"})
	c := newSidecar(t, "C", config(2), cert)
	c.ready()
	for _, way := range []struct {
		name, url string
		app       *slotsApp
		load      func() *admin.Load
	}{
		{"an app", "http://" + p.local + "/", app, func() *admin.Load { return p.b.status().Apps[0].Load }},
		{"a service without sidecars", "http://" + beside + "/", plain, func() *admin.Load { return c.status().Services[0].Load }},
	} {
		outcome := crowd(t, 12, way.url)
		eventually(t, 30*time.Second, way.name+": two connections, three wait, seven are refused", func() bool {
			l := way.load()
			return l != nil && l.Connections == 2 && l.ConnectionLimit == 2 && l.ConnectionsWaiting == 3 && l.ConnectionsRefused == 7
		})
		if n := way.app.most.Load(); n != 2 {
			t.Errorf("%s: %d connections at a time, want 2", way.name, n)
		}
		for range 5 {
			way.app.letGo <- struct{}{}
		}
		if got := fmt.Sprint(outcome()); got != "map[200:5 503 overloaded:7]" {
			t.Errorf("%s: got %s, want 5 answered and 7 refused", way.name, got)
		}
	}
	if metrics := c.get("/metrics"); !strings.Contains(metrics, `pillion_limit_connections_refused_total{service="plain"} 7`) {
		t.Error("/metrics does not count the refused ones")
	}
	c.write(t, config(4), cert)
	c.signal(syscall.SIGHUP)
	eventually(t, 10*time.Second, "the reload", func() bool { return c.status().Services[0].Load.ConnectionLimit == 4 })
	outcome := crowd(t, 4, "http://"+beside+"/")
	eventually(t, 30*time.Second, "four connections", func() bool { return c.status().Services[0].Load.Connections == 4 })
	for range 4 {
		plain.letGo <- struct{}{}
	}
	outcome()
}

// Streams through sidecars are connections too, from their opening to their end; requests beside them need none.
func TestStreamsAreLimited(t *testing.T) {
	if *direct {
		return
	}
	app := rawApp(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	p := newPair(t, setup{app: app, port: 7000, protocol: "tcp", listen: "tcp", svcMore: ", limits: {connections: 2, pending: 0}"})
	one, two := dialRaw(t, p.local), dialRaw(t, p.local)
	echo(t, one, "one")
	echo(t, two, "two")
	if third, err := net.Dial("tcp", p.local); err == nil { // it may have ended already
		defer third.Close()
		_ = third.SetDeadline(time.Now().Add(30 * time.Second))
		if line, err := bufio.NewReader(third).ReadString('\n'); err == nil {
			t.Errorf("the third connection reads %q, want its end", line)
		}
	}
	if l := p.a.status().Services[0].Load; l == nil || l.Connections != 2 || l.ConnectionsRefused == 0 {
		t.Errorf("load: %+v", l)
	}
	_ = one.Close()
	eventually(t, 30*time.Second, "the first has ended", func() bool { return p.a.status().Services[0].Load.Connections == 1 })
	echo(t, dialRaw(t, p.local), "four")
	echo(t, two, "still")
}
