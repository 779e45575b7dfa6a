package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	otlptrace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/pillion-proxy/pillion/cmd/internal/otlp"
)

// spanOf is a span and the service whose it is.
type spanOf struct {
	service string
	*otlptrace.Span
}

// collectorOf is a collector that keeps what it is sent.
type collectorOf struct {
	mu    sync.Mutex
	spans []spanOf
}

func (c *collectorOf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var data otlptrace.TracesData
	if err != nil || proto.Unmarshal(body, &data) != nil || r.URL.Path != "/v1/traces" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range data.ResourceSpans {
		service := ""
		for _, a := range rs.Resource.Attributes {
			if a.Key == "service.name" {
				service = a.Value.GetStringValue()
			}
		}
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				c.spans = append(c.spans, spanOf{service, s})
			}
		}
	}
}

// named returns the spans of a service with a name.
func (c *collectorOf) named(service, name string) []spanOf {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.spans), func(s spanOf) bool { return s.service != service || s.Name != name })
}

// TestTracing: a request is one trace through the app that calls, both sidecars and the app that is called; what is left is sent at the end.
func TestTracing(t *testing.T) {
	for _, over := range []string{"tcp", "quic", "auto"} {
		t.Run(over, func(t *testing.T) { testTracing(t, over) })
	}
}

func testTracing(t *testing.T, over string) {
	var c collectorOf
	web := httptest.NewServer(&c)
	defer web.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", web.URL)
	t.Setenv("OTEL_TRACES_SAMPLER", "always_on")
	told := make(chan string, 10)
	p := startPairWith(t, over, "", "tracing: {sample: 0%}\n", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		told <- r.Header.Get("Traceparent") + " " + r.Header.Get("Tracestate") + " " + r.Header.Get("Baggage")
	}))
	req, err := http.NewRequest("GET", "http://api/pay?card=geheim", nil)
	if err != nil {
		t.Fatal(err)
	}
	const id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	req.Header.Set("Traceparent", "00-"+id+"-"+parent+"-01")
	req.Header.Set("Tracestate", "vendor=1")
	req.Header.Set("Baggage", "user=7")
	client := p.client(t)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if _, err = client.Get("http://api/root"); err != nil { // a trace that begins here
		t.Fatal(err)
	}
	nc, err := net.Dial("tcp", p.echo)
	if err != nil {
		t.Fatal(err)
	}
	nc.(*net.TCPConn).CloseWrite()
	if text, err := io.ReadAll(nc); err != nil || !strings.Contains(string(text), "bye") {
		t.Fatalf("%q, %v", text, err)
	}
	nc.Close()
	exposed := exposition(t, p.adminA) + exposition(t, p.adminB)
	for _, name := range exampleMetrics(t) {
		if !strings.Contains(exposed, "\n"+name+"{") && !strings.Contains(exposed, "\n"+name+" ") {
			t.Errorf("examples/observability asks for %s, which /metrics does not have", name)
		}
	}
	client.CloseIdleConnections()
	p.stopA()
	p.stopB()

	out, in := c.named("web", "GET"), c.named("api", "GET")
	if len(out) != 4 || len(in) != 2 {
		t.Fatalf("%d spans of the caller, want 4; %d of the called, want 2", len(out), len(in))
	}
	hexOf := hex.EncodeToString
	if a, b := out[0], out[1]; hexOf(a.TraceId) != id || hexOf(a.ParentSpanId) != parent || !bytes.Equal(b.ParentSpanId, a.SpanId) || !bytes.Equal(in[0].ParentSpanId, b.SpanId) {
		t.Errorf("the trace is broken:\n%v\n%v\n%v", a, b, in[0])
	}
	if got, want := <-told, fmt.Sprintf("00-%s-%s-01 vendor=1 user=7", id, hexOf(in[0].SpanId)); got != want {
		t.Errorf("the app was told %q, want %q", got, want)
	}
	if !bytes.Equal(out[2].TraceId, in[1].TraceId) || len(out[2].ParentSpanId) > 0 {
		t.Errorf("a trace of the sidecar's own is broken:\n%v\n%v", out[2], in[1])
	}
	for _, s := range c.spans {
		if strings.Contains(s.String(), "geheim") {
			t.Errorf("the query is in a span: %v", s)
		}
	}
	if a, b := c.named("web", "stream"), c.named("api", "stream"); len(a) != 2 || len(b) != 1 || !bytes.Equal(b[0].ParentSpanId, a[1].SpanId) {
		t.Errorf("spans of the stream: %v, %v", a, b)
	}
}

// exposition is what Prometheus reads of a sidecar.
func exposition(t *testing.T, admin string) string {
	t.Helper()
	resp, err := http.Get("http://" + admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// exampleMetrics are the names that the dashboard and the alerts in examples/observability ask for.
func exampleMetrics(t *testing.T) []string {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			ID      int
			Targets []struct{ Expr string }
		}
	}
	text := ""
	for _, file := range []string{"dashboard.json", "alerts.yaml"} {
		data, err := os.ReadFile(filepath.Join("..", "..", "examples", "observability", file))
		if err != nil {
			t.Fatal(err)
		}
		if file == "alerts.yaml" {
			text += string(data)
			continue
		}
		if err := json.Unmarshal(data, &dashboard); err != nil {
			t.Fatal(err)
		}
		ids := make(map[int]bool)
		for _, p := range dashboard.Panels {
			if ids[p.ID] {
				t.Errorf("two panels have the id %d", p.ID)
			}
			ids[p.ID] = true
			for _, x := range p.Targets {
				text += x.Expr + "\n"
			}
		}
	}
	names := regexp.MustCompile(`\b(pillion|process|go)_[a-z0-9_]+`).FindAllString(text, -1)
	slices.Sort(names)
	if names = slices.Compact(names); len(names) < 20 {
		t.Fatalf("found only %v", names)
	}
	return names
}

// TestUntraced: without a collector nothing of a trace is touched, and nothing is added.
func TestUntraced(t *testing.T) {
	told := make(chan http.Header, 10)
	p := startPair(t, "tcp", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { told <- r.Header }))
	for _, parent := range []string{"", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "broken"} {
		req, err := http.NewRequest("GET", "http://api/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if parent != "" {
			req.Header.Set("Traceparent", parent)
		}
		resp, err := p.client(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := <-told; got.Get("Traceparent") != parent {
			t.Errorf("the app was told %q, want %q", got.Get("Traceparent"), parent)
		}
	}
}

// TestAccessLog: a line for each request that is wanted, without secrets.
func TestAccessLog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.log")
	p := startPairWith(t, "tcp", "access_log: {what: all, to: "+file+", query: true}\n", "access_log: {what: errors, to: "+file+".errors, format: text}\n",
		http.NotFoundHandler())
	client := p.client(t)
	resp, err := client.Get("http://api/x?a=1&token=geheim")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp, err = client.Get("http://api:81/"); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	client.CloseIdleConnections()
	p.stopA()
	p.stopB()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines, want 2:\n%s", len(lines), data)
	}
	var x struct {
		Service, Path, End string
		Status             int
	}
	if err := json.Unmarshal([]byte(lines[0]), &x); err != nil || x.Service != "api" || x.Path != "/x?a=1&token=***" || x.Status != 404 || x.End != "complete" {
		t.Errorf("%v: %s", err, lines[0])
	}
	data, err = os.ReadFile(file + ".errors")
	if err != nil {
		t.Fatal(err)
	}
	if got := string(data); strings.Count(got, "\n") != 1 || !strings.Contains(got, "status=403 code=denied") {
		t.Errorf("errors alone: %q", got)
	}
}

func TestResource(t *testing.T) {
	env := map[string]string{"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=a%2Cb, service.name=other ,host.name=h,broken", "OTEL_SERVICE_NAME": "shop"}
	got := make(map[string]string)
	for _, a := range resource("web", func(name string) string { return env[name] }) {
		if got[a.Key] != "" {
			t.Errorf("%s twice", a.Key)
		}
		got[a.Key] = a.Value
	}
	for k, want := range map[string]string{"deployment.environment.name": "a,b", "service.name": "shop", "host.name": "h", "telemetry.sdk.name": "pillion"} {
		if got[k] != want {
			t.Errorf("%s is %q, want %q", k, got[k], want)
		}
	}
	if got := pairs("api-key=x=y"); len(got) != 1 || got[0] != (otlp.Attribute{Key: "api-key", Value: "x=y"}) {
		t.Errorf("%v", got)
	}
}
