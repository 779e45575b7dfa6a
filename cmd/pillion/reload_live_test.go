package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestReloadLive: what a user expects to be live is: tracing, the access log, the cache, who may do what at the admin port, where registries are, and how many endpoints are
// used.
func TestReloadLive(t *testing.T) {
	app := httpServer(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("traceparent")) })
	listen := freeAddrs(t, 1)[0]
	many := make([]string, 30)
	for i := range many {
		many[i] = fmt.Sprintf("10.0.0.%d:80", i+1)
	}
	services := func(more string) string {
		return fmt.Sprintf("  a: {endpoints: %q, mesh: false, listen: %s, protocol: http}\n  b: {endpoints: [%s]%s}\n", app, listen, strings.Join(many, ", "), more)
	}
	r := startReloadable(t, services(""))
	head := r.head
	with := func(more string) {
		t.Helper()
		r.head = head + more
		if more != "" {
			r.head = strings.Replace(r.head, "admin: {", "admin: {pprof: true, ", 1)
		}
		r.reload(services(", aperture: 20"), true)
	}
	get := func() string {
		t.Helper()
		resp, err := http.Get("http://" + listen + "/x")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text := make([]byte, 100)
		n, _ := resp.Body.Read(text)
		return string(text[:n])
	}
	if got := get(); got != "" {
		t.Errorf("without tracing the app is told %q", got)
	}
	used := func() (n int) {
		for _, e := range r.status().Services[1].Endpoints {
			if e.InUse {
				n++
			}
		}
		return n
	}
	if n, all := used(), len(r.status().Services[1].Endpoints); n != 12 || all != 30 {
		t.Errorf("%d of %d endpoints are in use, want 12 of 30", n, all)
	}
	log := filepath.Join(t.TempDir(), "log")
	collector, spans := make(chan string, 10), ""
	to := httpServer(t, func(w http.ResponseWriter, r *http.Request) { collector <- r.URL.Path })
	with(fmt.Sprintf("tracing: {otlp: \"http://%s\", sample: 100%%, delay: 10ms}\naccess_log: {what: all, to: %s}\ncache: {size: 1MiB}\nconsul: {address: \"http://127.0.0.1:1\"}\n", to, log))
	if n := used(); n != 20 {
		t.Errorf("%d endpoints are in use, want 20", n)
	}
	if got := get(); !strings.HasPrefix(got, "00-") {
		t.Errorf("with tracing the app is told %q", got)
	}
	select {
	case spans = <-collector:
	case <-time.After(30 * time.Second):
	}
	if spans != "/v1/traces" {
		t.Errorf("the collector was sent %q", spans)
	}
	lines := func() int {
		text, _ := os.ReadFile(log)
		return strings.Count(string(text), "\n")
	}
	soon(t, func() bool { return lines() == 1 })
	if max := r.status().Cache.Max; max != 1<<20 {
		t.Errorf("the cache holds %d bytes, want 1 MiB", max)
	}
	if code := codeOf(t, "http://"+r.admin+"/debug/pprof/cmdline"); code != http.StatusOK {
		t.Errorf("pprof answers %d", code)
	}
	with("")
	if got := get(); got != "" {
		t.Errorf("without tracing again the app is told %q", got)
	}
	if code := codeOf(t, "http://"+r.admin+"/debug/pprof/cmdline"); code != http.StatusNotFound {
		t.Errorf("without pprof again it answers %d", code)
	}
	if n := lines(); n != 1 {
		t.Errorf("%d lines in an access log that is off", n)
	}
	// What cannot be had changes nothing.
	r.head = head + "access_log: {what: all, to: /nowhere/at/all}\n"
	if res := r.reload(services(""), false); res.Applied || !strings.Contains(res.Problems[0].Text, "access_log") {
		t.Errorf("with a log that cannot be written: %+v", res)
	}
	// And what cannot be changed is said.
	r.head = head + "limits: {head: 32KiB}\nzone: x\n"
	res := r.reload(services(", aperture: 20"), false)
	var all []string
	for _, c := range res.Changes {
		if c.Restart {
			all = append(all, c.Key)
		}
	}
	if got, _ := json.Marshal(all); string(got) != `["zone","limits.head"]` {
		t.Errorf("a restart is needed for %s", got)
	}
}

func httpServer(t *testing.T, f http.HandlerFunc) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: f}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return ln.Addr().String()
}

func codeOf(t *testing.T, url string) int {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}
