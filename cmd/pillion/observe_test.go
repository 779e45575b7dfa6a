package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// answerOf runs a command of the command line and returns what it prints.
func answerOf(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var out, errs bytes.Buffer
	if code := execute(ctx, args, strings.NewReader(""), &out, &errs); code != 0 {
		t.Fatalf("%v: exit code %d\n%s", args, code, errs.String())
	}
	return out.String()
}

// TestObservers: what why, tap, top and /metrics say of requests that succeed and fail, on both sides.
func TestObservers(t *testing.T) {
	p := startPair(t, "tcp", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/broken" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		fmt.Fprint(w, "hello")
	}))
	client := p.client(t)
	get := func(url string) *http.Response {
		t.Helper()
		resp, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return resp
	}
	seen := make(chan string, 1)
	go func() {
		var out bytes.Buffer
		execute(t.Context(), []string{"tap", "--admin", p.adminA, "-n", "1", "--status", "5xx", "--heads", "-o", "json"}, strings.NewReader(""), &out, &out)
		seen <- out.String()
	}()
	var id, event string
	for event == "" { // until the watcher is there
		get("http://api/fine")
		resp := get("http://api/broken?token=secret")
		if id = resp.Header.Get("Pillion-Request-Id"); resp.StatusCode != 500 || id == "" {
			t.Fatalf("%d with id %q", resp.StatusCode, id)
		}
		select {
		case event = <-seen:
		case <-time.After(50 * time.Millisecond):
		}
	}
	var e struct {
		Status  int
		Path    string
		Service string
		Request [][2]string
	}
	if err := json.Unmarshal([]byte(event), &e); err != nil || e.Status != 500 || e.Path != "/broken?token=***" || e.Service != "api" || len(e.Request) == 0 {
		t.Errorf("tap: %v: %s", err, event)
	}
	for _, admin := range []string{p.adminA, p.adminB} {
		list := answerOf(t, "why", "--admin", admin, "--reason", "failed")
		if !strings.Contains(list, "/broken") || strings.Contains(list, "/fine") || strings.Contains(list, "secret") {
			t.Errorf("why: %s", list)
		}
	}
	story := answerOf(t, "why", id, "--admin", p.adminA)
	for _, want := range []string{"GET api/broken", "it failed", "attempt 1", "answered 500 after", "the head of the answer: 500", "complete, to the last byte"} {
		if !strings.Contains(story, want) {
			t.Errorf("the story lacks %q:\n%s", want, story)
		}
	}
	if top := answerOf(t, "top", "--admin", p.adminA, "-n", "1", "--every", "10ms"); !strings.Contains(top, "top\toutbound\tapi\t") {
		t.Errorf("top: %s", top)
	}
	if top := answerOf(t, "top", "--admin", p.adminB, "-n", "1", "--every", "10ms", "--by", "peer"); !strings.Contains(top, "top\tinbound\tspiffe://pillion.local/web\t") {
		t.Errorf("top: %s", top)
	}
	metrics, err := http.Get("http://" + p.adminA + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer metrics.Body.Close()
	text, _ := io.ReadAll(metrics.Body)
	for _, want := range []string{`service="api",shape="exchange",status="500"}`, `service="api",shape="exchange",status="200"}`, `pillion_links{direction="outbound",`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	for path, want := range map[string]int{"/why?why=odd": 400, "/why?n=0": 400, "/tap?status=5": 400, "/tap?slower=x": 400, "/tap?body=9": 403, "/requests": 200} {
		resp, err := http.Get("http://" + p.adminA + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
	}
}

// TestTapText: a line says what came of a request, and where the time went.
func TestTapText(t *testing.T) {
	p := startPair(t, "tcp", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { time.Sleep(2 * time.Millisecond) }))
	client := p.client(t)
	seen := make(chan string, 1)
	go func() {
		var out bytes.Buffer
		execute(t.Context(), []string{"tap", "--admin", p.adminA, "-n", "1"}, strings.NewReader(""), &out, &out)
		seen <- out.String()
	}()
	for line := ""; line == ""; { // until the watcher is there
		resp, err := client.Get("http://api/slow")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		select {
		case line = <-seen:
			for _, want := range []string{" -> 200 api ", "GET api/slow  ", " bytes  (to the head: ", "link ", "app "} {
				if !strings.Contains(line, want) {
					t.Errorf("no %q in %q", want, line)
				}
			}
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// TestStopEndsTap: an answer without an end does not hold up the end of the sidecar.
func TestStopEndsTap(t *testing.T) {
	p := startPair(t, "tcp", http.NotFoundHandler())
	resp, err := http.Get("http://" + p.adminA + "/tap")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	p.stopA()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil && err != io.ErrUnexpectedEOF {
		t.Error(err)
	}
}

// TestParts: the sidecars tell each other where the time went, and neither app hears of it unless it asks.
func TestParts(t *testing.T) { overEach(t, testParts) }

func testParts(t *testing.T, over string) {
	p := startPair(t, over, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(5 * time.Millisecond)
		w.Header().Set("Pillion-Took", "7;3") // what an app says there is nothing to go by
	}))
	client := p.client(t)
	for _, ask := range []string{"", "1"} {
		req, err := http.NewRequest("GET", "http://api/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if ask != "" {
			req.Header.Set("Pillion-Timing", ask)
			req.Header.Set("Pillion-Why", ask)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("Pillion-Took"); got != "" {
			t.Errorf("the client is told %q", got)
		}
		if got := resp.Header.Get("Server-Timing"); (got != "") != (ask != "") {
			t.Errorf("Server-Timing %q to a client that asked %q", got, ask)
		}
	}
	for admin, parts := range map[string][]string{p.adminA: {"link_ns", "app_ns"}, p.adminB: {"app_ns"}} {
		var got struct {
			Stories []struct{ Parts map[string]int64 }
		}
		if err := json.Unmarshal([]byte(answerOf(t, "why", "--admin", admin, "--reason", "asked", "-o", "json")), &got); err != nil || len(got.Stories) != 1 {
			t.Fatalf("%+v, %v", got, err)
		}
		for _, name := range parts {
			if got.Stories[0].Parts[name] <= 0 {
				t.Errorf("no %s in %v", name, got.Stories[0].Parts)
			}
		}
		if app := time.Duration(got.Stories[0].Parts["app_ns"]); app < 5*time.Millisecond {
			t.Errorf("the app took %v, of which it slept 5 ms", app)
		}
	}
}
