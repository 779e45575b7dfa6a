//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// collected is a span as the collector in testdata/collector prints it.
type collected struct {
	Service, Name, Kind, Trace, Span, Parent, Status string
	Attributes                                       map[string]any
	Events                                           []string
}

// startCollector builds OpenTelemetry's receiver, and runs it.
func startCollector(t *testing.T) (p *process, grpc, http string) {
	t.Helper()
	program := filepath.Join(workshop.dir, "collector")
	if _, err := os.Stat(program); err != nil {
		build := exec.Command("go", "build", "-o", program, ".")
		build.Dir = filepath.Join("testdata", "collector")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("go build the collector: %v\n%s", err, out)
		}
	}
	grpc, http = freeAddr(t), freeAddr(t)
	p = start(t, "collector", program, grpc, http)
	waitListening(t, grpc)
	waitListening(t, http)
	return p, grpc, http
}

// spansIn reads what a collector has printed.
func spansIn(p *process) []collected {
	var all []collected
	for line := range strings.Lines(p.output()) {
		var s collected
		if json.Unmarshal([]byte(line), &s) == nil && s.Name != "" {
			all = append(all, s)
		}
	}
	return all
}

// TestCollector: OpenTelemetry's own receiver takes the spans of a request, over both protocols, and they are one trace.
func TestCollector(t *testing.T) {
	c, grpc, http := startCollector(t)
	for protocol, addr := range map[string]string{"grpc": grpc, "http/protobuf": http} {
		t.Run(strings.Split(protocol, "/")[0], func(t *testing.T) {
			before := len(spansIn(c))
			more := fmt.Sprintf("tracing: {otlp: \"http://%s\", protocol: %s, sample: 100%%, delay: 100ms}\n", addr, protocol)
			p := newPair(t, setup{app: newWebApp(t, "http1").addr, aMore: more, bMore: more})
			getURL(t, "http://"+p.local+"/bytes?n=10")
			var out, attempt, in *collected
			eventually(t, 30*time.Second, "three spans", func() bool {
				out, attempt, in = nil, nil, nil
				for _, s := range spansIn(c)[before:] {
					switch {
					case s.Kind == "Client" && s.Parent == "":
						out = &s
					case s.Kind == "Client":
						attempt = &s
					case s.Kind == "Server":
						in = &s
					}
				}
				return out != nil && attempt != nil && in != nil
			})
			if attempt.Parent != out.Span || in.Parent != attempt.Span || in.Trace != out.Trace {
				t.Errorf("no trace: %+v\n%+v\n%+v", out, attempt, in)
			}
			if out.Name != "GET" || out.Attributes["http.response.status_code"] != 200.0 || in.Attributes["url.path"] != "/bytes" || in.Service == out.Service {
				t.Errorf("the spans say %+v\n%+v", out, in)
			}
		})
	}
}

func getURL(t *testing.T, url string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// TestPromtool: what /metrics says is well-formed and well-named, to Prometheus' own eye; and so are the alerts in examples/observability.
func TestPromtool(t *testing.T) {
	p := newPair(t, setup{app: newWebApp(t, "http1").addr})
	for range 10 {
		getURL(t, "http://"+p.local+"/bytes?n=10")
	}
	for _, s := range p.both() {
		check := exec.Command("promtool", "check", "metrics")
		check.Stdin = strings.NewReader(s.get("/metrics"))
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("promtool check metrics: %v\n%s", err, out)
		}
	}
	runTool(t, "promtool", "check", "rules", filepath.Join("..", "..", "..", "examples", "observability", "alerts.yaml"))
}
