package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/listeners/admin"
)

// sample is a sidecar with something of everything.
func sample() (*admin.Status, time.Time) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	return &admin.Status{
		Version: "v1.2.3", PID: 42, Service: "web", State: admin.Draining, NotReady: "draining", Uptime: 3725.04,
		Identity: admin.Identity{ID: "spiffe://example.org/web", NotAfter: now.Add(90 * time.Minute), Warning: "our certificate expires soon"},
		Listeners: []admin.Listener{
			{Name: "peer", Address: "[::]:15008", Connections: 3},
			{Name: "outbound", Address: "127.0.0.1:15001"},
		},
		Apps: []admin.App{{Port: 8080, To: "127.0.0.1:8080", Protocol: "auto", Speaks: "http1, h2c", Tried: true}, {Port: 81, To: "unix:/run/a.sock", Protocol: "tcp", Allow: []string{"spiffe://example.org/cart"}, Tried: true, Error: "connection refused"},
			{Port: 53, To: "127.0.0.1:53", Protocol: "udp", Flows: &admin.Flows{Open: 2, Total: 70, In: 140, Out: 139}}},
		Services: []admin.Service{
			{Name: "billing", Source: "dns:billing.internal:15008", Mesh: true, Protocol: "auto", Age: 12, Endpoints: []admin.Endpoint{
				{Address: "10.0.0.7:15008", Identity: "spiffe://example.org/billing", Mesh: true, InUse: true, Tried: true, Healthy: true, Pending: 3, Streams: 1, Latency: 0.0123456},
				{Address: "10.0.0.9:15008", Identity: "spiffe://example.org/billing", Mesh: true, InUse: true, Tried: true, Out: admin.Ejected, Again: 24.2, Error: "failures in a row", Latency: 0.002},
				{Address: "10.0.0.10:15008", Identity: "spiffe://example.org/billing", Mesh: true, InUse: true, Tried: true, Out: admin.Sick, Error: "status 503"},
				{Address: "10.0.0.8:15008", Identity: "spiffe://example.org/billing", Mesh: true, InUse: true, Tried: true, Error: "connection refused"},
				{Address: "10.0.0.11:15008", Identity: "spiffe://example.org/billing", Mesh: true, Healthy: true},
				{Address: "10.0.0.12:15008", Identity: "spiffe://example.org/billing", Mesh: true, Tried: true, Out: admin.Lost, Again: 3, Error: "connection refused"},
			}},
			{Name: "db", Source: "static", Listen: "127.0.0.1:5432", Protocol: "auto", Speaks: "server-first", Age: 0.5,
				Flows: &admin.Flows{Open: 10, Total: 12000, Evicted: 5, In: 123456, Out: 123000, Dropped: map[string]uint64{"no_room": 3, "unopened": 17}}, Endpoints: []admin.Endpoint{{Address: "10.1.2.3:5432", InUse: true, Healthy: true}}},
			{Name: "lost", Source: "dns:lost.internal:15008", Age: -1, Stale: 65, Error: "no such\n\x1b[2Jhost"},
		},
		Links: []admin.Link{
			{Direction: admin.Outbound, Peer: "10.0.0.7:15008", Identity: "spiffe://example.org/billing", Transport: "tcp", Pillion: true, Streams: 7, RTT: 0.000345, BytesIn: 5 << 20, BytesOut: 1023, Age: 61},
			{Direction: admin.Inbound, Peer: "10.0.0.9:40000", Identity: "spiffe://example.org/cart", Transport: "tcp", Age: 1.26},
			{Direction: admin.Outbound, Peer: "10.0.0.8:15008", Identity: "spiffe://example.org/billing", Transport: "quic", Pillion: true, Streams: 1, RTT: 0.02, Age: 30, Suspect: true, Moves: 1, Lost: 4},
		},
		Paths: []admin.Path{
			{Peer: "10.0.0.7:15008", Network: "10.0.0.3", Ways: []admin.Way{{Transport: "tcp", State: "works", Age: 61}, {Transport: "quic", State: "unknown"}}},
			{Peer: "10.0.0.8:15008", Network: "10.0.0.3", Ways: []admin.Way{
				{Transport: "tcp", State: "fails", Age: 5, Error: "connection\x1b[2J timed out", Again: 14}, {Transport: "quic", State: "works", Age: 30}}},
		},
		DNS:   &admin.DNS{Address: "127.0.0.1:53", Suffix: "pillion.internal", Range: "127.80.0.0/16", Servers: []string{"10.0.0.2:53", "10.0.0.3:53"}, Own: 12, Forwarded: 3, Failed: 1},
		Drain: &admin.Drain{Step: "inbound exchanges", Left: 12.34},
	}, now
}

// TestStatusText compares tables, coloured tables, and the plain form with golden files.
func TestStatusText(t *testing.T) {
	st, now := sample()
	for name, p := range map[string]*printer{
		"plain":  {},
		"table":  {tables: true},
		"colour": {tables: true, colour: true},
	} {
		var b bytes.Buffer
		p.w = &b
		printStatus(p, st, now)
		if p.tables {
			for i, line := range strings.Split(b.String(), "\n") {
				if strings.HasSuffix(line, " ") {
					t.Errorf("%s: line %d ends in a space", name, i+1)
				}
			}
		}
		compare(t, filepath.Join("testdata", "status-"+name+".txt"), b.String())
	}
}

// A long error does not widen a table; the plain form has all of it.
func TestStatusShortensLongCells(t *testing.T) {
	st, now := sample()
	long := strings.Repeat("lookup billing.internal on 10.0.0.2:53: i/o timeout; ", 10)
	st.Services[0].Error = long
	var table, plain bytes.Buffer
	printStatus(&printer{w: &table, tables: true}, st, now)
	printStatus(&printer{w: &plain}, st, now)
	if strings.Contains(table.String(), long[:widest]) || !strings.Contains(table.String(), "…") {
		t.Errorf("the table has the whole error:\n%s", table.String())
	}
	if !strings.Contains(plain.String(), long[:len(long)-1]) {
		t.Errorf("the plain form lacks the error:\n%s", plain.String())
	}
}

// fake is an admin listener: of a sidecar that is not ready before its third answer, and wants a token for its status.
func fake(t *testing.T) string {
	t.Helper()
	var asked atomic.Int32
	st, _ := sample()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/readyz" && asked.Add(1) < 3:
			http.Error(w, "not ready: no endpoints of billing yet", http.StatusServiceUnavailable)
		case r.URL.Path == "/readyz":
		case r.Header.Get("Authorization") != "Bearer 0123456789abcdef":
			w.WriteHeader(http.StatusUnauthorized)
		default:
			json.NewEncoder(w).Encode(st)
		}
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func TestStatusCommand(t *testing.T) {
	inFolder(t)
	addr := fake(t)
	// HTTP_PROXY is what a supervised app has: the question must not go through it.
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	if r := pillion(t, "status", "--admin", addr); r.code != 1 || !strings.Contains(r.errors, tokenEnv) {
		t.Errorf("without the token: %+v", r)
	}
	write(t, "pillion.yaml", "service: web\nadmin: {listen: \""+addr+"\", token: 0123456789abcdef}\n")
	r := pillion(t, "status")
	if r.code != 0 || !strings.Contains(r.out, "service\tbilling\tdns:billing.internal:15008\t") {
		t.Errorf("with the configuration's address and token: %+v", r)
	}
	t.Setenv(tokenEnv, "0123456789abcdef")
	r = pillion(t, "status", "--admin", "http://"+addr+"/", "-o", "json")
	var st admin.Status
	if err := json.Unmarshal([]byte(r.out), &st); err != nil || st.Service != "web" || len(st.Links) != 3 {
		t.Errorf("-o json: %v in %+v", err, r)
	}
}

func TestWait(t *testing.T) {
	inFolder(t)
	if r := pillion(t, "wait", "--admin", fake(t), "--timeout", "20s"); r.code != 0 || r.out != "" || r.errors != "" {
		t.Errorf("wait = %+v", r)
	}
	r := pillion(t, "wait", "--admin", fake(t), "--timeout", "50ms")
	if r.code != 1 || !strings.Contains(r.errors, "no endpoints of billing yet") {
		t.Errorf("wait that is too short = %+v", r)
	}
	r = pillion(t, "wait", "--admin", "127.0.0.1:1", "--timeout", "50ms", "-o", "json")
	var got struct {
		Ready bool
		Error string
	}
	if err := json.Unmarshal([]byte(r.out), &got); err != nil || r.code != 1 || got.Ready || got.Error == "" || r.errors != "" {
		t.Errorf("wait -o json = %+v, %v", r, err)
	}
}
