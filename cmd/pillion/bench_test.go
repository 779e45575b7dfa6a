package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	engine "github.com/pillion-proxy/pillion/bench/load"
	benchreport "github.com/pillion-proxy/pillion/bench/report"
)

// TestBenchMistakes: every mistake in the command line is one sentence, exit code 2, and nothing is started.
func TestBenchMistakes(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"--protocol http9", "--protocol http9 is none of"},
		{"--direct http://127.0.0.1:1/", "name both --direct and --via"},
		{"--rate 5 --concurrency 5", "choose --rate (an open loop) or --concurrency (a closed loop)"},
		{"--rate 0", "--rate 0 is no number of requests per second"},
		{"--rounds 0", "must be positive"},
		{"--pid 1", "belong to --direct and --via"},
		{"--protocol tcp-bulk --rate 5", "tcp-bulk is measured in a closed loop"},
		{"--protocol grpc --size 100000", "--size 100000 is too much for grpc"},
		{"--concurrency 4 --connections 5", "every connection carries one request at a time"},
		{"--direct https://a/ --via http://b/", "--direct https://a/: TLS is not measured"},
		{"--direct http://a/ --via ftp://b/", "--via ftp://b/ is no plain http URL"},
		{"--protocol tcp --direct http://a/ --via b:1", "--direct http://a/ is no address"},
		{"--protocol h2c --proxy --direct http://a/ --via http://b/", "--proxy is for HTTP/1.1"},
		{"--direct http://a/ --via http://b/ --size 5", "its own affair"},
		{"--direct unix:app --via http://b/", "--direct unix:app is no socket for http1; write an absolute path"},
		{"--protocol udp --direct unix:/app --via b:1", "--direct unix:/app is no socket for udp"},
		{"--proxy --direct unix:/app --via http://b/", "--proxy needs --host"},
		{"--report /no/such/folder/x.html", "--report /no/such/folder/x.html cannot be written"},
		{"--flub", "unknown flag: --flub"},
		{"extra", "unknown command"},
	} {
		got := pillion(t, append([]string{"bench"}, strings.Fields(test.args)...)...)
		if got.code != 2 || !strings.Contains(got.errors, test.want) || strings.Count(strings.TrimSpace(got.errors), "\n") > 0 {
			t.Errorf("pillion bench %s: code %d, %q, want 2 and one line with %q", test.args, got.code, got.errors, test.want)
		}
	}
}

// TestBenchPlan: what the flags come to.
func TestBenchPlan(t *testing.T) {
	for _, test := range []struct {
		args string
		want engine.Config
	}{
		{"", engine.Config{Protocol: engine.HTTP1, Rate: 2000, Conns: 32, Streams: 1}},
		{"--protocol new-conn", engine.Config{Protocol: engine.NewConn, Rate: 500, Conns: 32, Streams: 1}},
		{"--protocol udp --size 500", engine.Config{Protocol: engine.UDPEcho, Size: 500, Rate: 2000, Conns: 32, Streams: 1}},
		{"--protocol grpc", engine.Config{Protocol: engine.GRPC, Rate: 2000, Conns: 4, Streams: 100}},
		{"--protocol h2c --concurrency 64", engine.Config{Protocol: engine.H2C, Conns: 8, Streams: 8}},
		{"--protocol h2c --concurrency 3", engine.Config{Protocol: engine.H2C, Conns: 3, Streams: 1}},
		{"--protocol tcp-bulk", engine.Config{Protocol: engine.TCPBulk, Conns: 1, Streams: 1}},
		{"--concurrency 9", engine.Config{Protocol: engine.HTTP1, Conns: 9, Streams: 1}},
		{"--direct a:1/x --via b:2", engine.Config{Protocol: engine.HTTP1, Rate: 100, Conns: 32, Streams: 1}},
	} {
		c := benchCommand()
		var f benchFlags
		c.ResetFlags()
		f.add(c)
		if err := c.ParseFlags(strings.Fields(test.args)); err != nil {
			t.Fatal(err)
		}
		p, err := f.plan(c.Flags().Changed)
		if err != nil {
			t.Errorf("%q: %v", test.args, err)
			continue
		}
		got := engine.Config{Protocol: p.load.Protocol, Rate: p.load.Rate, Conns: p.load.Conns, Streams: p.load.Streams}
		if got.Protocol != test.want.Protocol || got.Rate != test.want.Rate || got.Conns != test.want.Conns || got.Streams != test.want.Streams {
			t.Errorf("%q: got %+v, want %+v", test.args, got, test.want)
		}
	}
}

// TestBenchSockets: both ways lead over Unix sockets, or one of them.
func TestBenchSockets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "orders" || r.URL.Path != "/" {
			http.Error(w, "who?", http.StatusNotFound)
		}
	}))
	tcp := httptest.NewServer(s.Config.Handler)
	defer tcp.Close()
	s.Listener.Close()
	s.Listener = ln
	s.Start()
	defer s.Close()
	for _, direct := range []string{"unix:" + path, tcp.URL} {
		got := pillion(t, "bench", "--direct", direct, "--via", "unix:"+path, "--host", "orders", "--rounds", "1", "--duration", "100ms", "--warmup", "0s", "-o", "json")
		var r benchreport.Report
		if err := json.Unmarshal([]byte(got.out), &r); got.code != 0 || err != nil {
			t.Fatalf("%s: code %d: %s, %v", direct, got.code, got.errors, err)
		}
		if r.Via.All.Requests == 0 || r.Direct.All.Errors+r.Via.All.Errors > 0 {
			t.Errorf("%s: %+v, %+v, want answers on both ways", direct, r.Direct.All, r.Via.All)
		}
	}
}

// TestBenchTargets: an app and what stands for a proxy, both named.
func TestBenchTargets(t *testing.T) {
	app := func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "orders" || r.URL.Path != "/list" || r.URL.RawQuery != "n=1" {
			http.Error(w, "who?", http.StatusNotFound)
		}
	}
	direct := httptest.NewServer(http.HandlerFunc(app))
	defer direct.Close()
	via := httptest.NewServer(http.HandlerFunc(app))
	defer via.Close()
	page := filepath.Join(t.TempDir(), "out.html")
	got := pillion(t, "bench", "--direct", direct.URL+"/list?n=1", "--via", via.URL, "--host", "orders", "--rate", "500", "--rounds", "3", "--duration", "100ms", "--warmup", "10ms",
		"--report", page, "-o", "json")
	if got.code != 0 {
		t.Fatalf("code %d: %s", got.code, got.errors)
	}
	var r benchreport.Report
	if err := json.Unmarshal([]byte(got.out), &r); err != nil {
		t.Fatal(err)
	}
	direct150, via150 := r.Direct.All.Requests+r.Direct.All.Unfinished, r.Via.All.Requests+r.Via.All.Unfinished
	if r.Rounds != 3 || direct150/10 != 15 && direct150/10 != 14 || via150/10 != 15 && via150/10 != 14 || r.Via.All.Errors != 0 || r.Via.All.CPUPerRequest != nil {
		t.Errorf("got %d rounds, %+v, %+v; want three of about 50 requests on each side", r.Rounds, r.Direct.All, r.Via.All)
	}
	if html, err := os.ReadFile(page); err != nil || !bytes.Contains(html, []byte("<!doctype html>")) {
		t.Errorf("the report: %v, %.50q", err, html)
	}
	// As an HTTP proxy it would be asked in absolute form; a server understands that too. The text suits cut and grep.
	got = benchInTime(t, []string{"50ms", "1s", "10s"}, "--direct", direct.URL+"/list?n=1", "--via", via.URL, "--proxy", "--host", "orders", "--concurrency", "2", "--warmup", "0s")
	if got.code != 0 || !strings.Contains(got.out, "figure\tp50\t") || !strings.Contains(got.out, "figure\terrors\t0\t0\t") {
		t.Errorf("code %d, %s%s; want figures and no errors", got.code, got.out, got.errors)
	}
}

// TestBenchTargetsThatDoNotAnswer: the error says which, and the exit code is 1.
func TestBenchTargetsThatDoNotAnswer(t *testing.T) {
	ok := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer ok.Close()
	bad := httptest.NewServer(http.NotFoundHandler())
	defer bad.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for via, want := range map[string]string{
		bad.URL:                         "no request succeeded through the proxy (" + bad.URL + "): answered 404",
		"http://" + l.Addr().String():   "connection refused",
		"http://no-such-host.invalid/x": "no-such-host.invalid",
	} {
		got := benchInTime(t, []string{"50ms", "1s", "10s"}, "--direct", ok.URL, "--via", via, "--warmup", "0s")
		if got.code != 1 || !strings.Contains(got.errors, want) {
			t.Errorf("--via %s: code %d, %q, want 1 and %q", via, got.code, got.errors, want)
		}
	}
	got := pillion(t, "bench", "--direct", ok.URL, "--via", ok.URL, "--rounds", "1", "--duration", "50ms", "--warmup", "0s", "--pid", "1073741824")
	if got.code != 1 || !strings.Contains(got.errors, "give a --pid that lives") {
		t.Errorf("a process that is not there: code %d, %q", got.code, got.errors)
	}
}

// TestBenchInterrupted: what was measured so far is told; before that there is nothing to tell.
func TestBenchInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var last, turns atomic.Int32
	way := func(n int32) string {
		s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			if last.Swap(n) != n && turns.Add(1) > 10 { // several rounds are over
				cancel()
			}
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	var out, errs bytes.Buffer
	args := []string{"bench", "--direct", way(1), "--via", way(2), "--rounds", "1000", "--duration", "20ms", "--warmup", "0s", "-o", "json"}
	if code := execute(ctx, args, strings.NewReader(""), &out, &errs); code != 0 {
		t.Fatalf("code %d: %s", code, errs.String())
	}
	var r benchreport.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || !r.Interrupted || r.Rounds < 1 || r.Rounds > 999 || len(r.Direct.Rounds) != len(r.Via.Rounds) {
		t.Errorf("got %v, interrupted %v, %d rounds, want some of 1000", err, r.Interrupted, r.Rounds)
	}
	out.Reset()
	if code := execute(ctx, args, strings.NewReader(""), &out, &errs); code != 1 || !strings.Contains(errs.String(), "nothing to tell") {
		t.Errorf("interrupted at once: code %d, %s", code, errs.String())
	}
}

// TestBenchOwnPair: with no targets, two sidecars and an app are started for each protocol, carry the load without an error, and are gone at the end.
func TestBenchOwnPair(t *testing.T) {
	t.Setenv(actAsPillion, "1") // for the processes that it starts
	t.Setenv("TMPDIR", t.TempDir())
	t.Run("protocols", func(t *testing.T) {
		for _, protocol := range engine.Protocols() {
			t.Run(string(protocol), func(t *testing.T) {
				t.Parallel()
				benchOwnPair(t, protocol)
			})
		}
	})
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// benchInTime runs pillion bench for one round of the first of these durations in which there are answers: a busy machine may not answer in so little time.
func benchInTime(t *testing.T, durations []string, args ...string) (got result) {
	for _, length := range durations {
		got = pillion(t, append([]string{"bench", "--rounds", "1", "--duration", length}, args...)...)
		if !strings.Contains(got.errors, "no answer came in time") {
			break
		}
	}
	return got
}

func benchOwnPair(t *testing.T, protocol engine.Protocol) {
	got := benchInTime(t, []string{"250ms", "2s", "10s"}, "--protocol", string(protocol), "--warmup", "50ms", "-o", "json")
	if got.code != 0 {
		t.Fatalf("code %d: %s", got.code, got.errors)
	}
	var r benchreport.Report
	if err := json.Unmarshal([]byte(got.out), &r); err != nil {
		t.Fatal(err)
	}
	for name, all := range map[string]benchreport.Figures{"direct": r.Direct.All, "via": r.Via.All} {
		if all.Errors > 0 || all.Requests == 0 && protocol != engine.TCPBulk {
			t.Errorf("%s: %+v, want some requests and no error", name, all)
		}
	}
	if all := r.Via.All; all.Memory == nil || *all.Memory == 0 || all.CPUPerRequest == nil && all.CPUPerGiB == nil {
		t.Errorf("the sidecars' processor time and memory are not told: %+v", all)
	}
}

// TestBenchProgress: the bar grows, and says how long it will take.
func TestBenchProgress(t *testing.T) {
	b := &benchProgress{plan: &benchPlan{rounds: 2}, length: 10 * time.Second}
	if got, want := b.line(0, "direct", 5*time.Second, 500), "[███░"; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q at its beginning", got, want)
	}
	b.done()
	b.done()
	b.done()
	got := b.line(1, "via", 10*time.Second, 1000)
	if want := "[" + strings.Repeat("█", barWidth) + "] round 2 of 2, via     100 requests/s  0s left"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestBenchHelp: the help names every protocol.
func TestBenchHelp(t *testing.T) {
	help := pillion(t, "bench", "--help").out
	_, list, _ := strings.Cut(help, "Protocols: ")
	list, _, _ = strings.Cut(list, "Usage:")
	for _, p := range engine.Protocols() {
		if !regexp.MustCompile(`(^|[ \n])` + string(p) + `[ ,]`).MatchString(list) {
			t.Errorf("%s is not in the help: %s", p, list)
		}
	}
}
