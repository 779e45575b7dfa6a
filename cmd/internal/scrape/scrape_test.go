package scrape

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/pillion-proxy/pillion/listeners/admin"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/metrics"
	"github.com/pillion-proxy/pillion/proxy/observe"
)

func source() Source {
	k := metrics.Key{Service: "billing", Rule: 2, Peer: "spiffe://x/billing", Version: proxy.HTTP2}
	x := &metrics.Series{Key: k, Outcomes: map[metrics.Outcome]uint64{
		{Status: 200, GRPC: -1, End: observe.Complete}:                       3,
		{Status: 503, Code: "no_endpoints", GRPC: -1, End: observe.Complete}: 1,
	}, BytesIn: 10, BytesOut: 20}
	for _, ms := range []int{0, 1, 3, 700} {
		x.Duration.Observe(time.Duration(ms) * time.Millisecond)
	}
	x.Duration.Exemplar = metrics.Exemplar{Trace: proxy.TraceID{0: 0xab, 15: 1}, Took: 3 * time.Millisecond, At: 1}
	streams := metrics.Key{Direction: observe.Inbound, Shape: observe.Stream, Port: 22}
	return Source{
		Requests: func() metrics.Totals {
			return metrics.Totals{Series: map[metrics.Key]*metrics.Series{k: x, streams: {Key: streams, Open: 2}}, Running: [2]int64{1, 0}}
		},
		Status: func() admin.Status {
			return admin.Status{
				Service: "web", State: admin.Ready, Identity: admin.Identity{ID: "spiffe://x/web", NotAfter: time.Unix(1e9, 0)},
				Listeners:     []admin.Listener{{Name: "peer", Connections: 3}, {Name: "services.a", Connections: 1}, {Name: "services.a", Connections: 1, Retired: true}},
				Cache:         &admin.Cache{Bytes: 5, DNS: []admin.CacheDNS{{Service: "dns", Hits: 4, Misses: 1, Entries: 1, Bytes: 200}}, Services: []admin.CacheService{{Name: "billing", Hits: 9, NotStored: map[string]uint64{"private": 3}}}},
				Configuration: &admin.Configuration{Generation: 4, Reloads: 5, Failed: 2, Error: "a mistake"},
				Apps:          []admin.App{{Port: 8080, Protocol: "auto", Error: "refused", Load: &admin.Load{Connections: 3, ConnectionLimit: 5, ConnectionsRefused: 2}}},
				Services: []admin.Service{{Name: "billing", Speaks: "http1", Endpoints: []admin.Endpoint{{Healthy: true, InUse: true}, {Out: admin.Ejected}}, Retries: &admin.Retries{Total: 7, Recovered: 5, Budget: 90, BudgetUsed: 0.1},
					Balance: &admin.Balance{Picks: 50, Ejected: 2, Panics: 1},
					Hedges:  &admin.Hedges{Total: 3, Won: 2}, Load: &admin.Load{Running: 4, Limit: 11, Shed: 6}, RouteLoads: []admin.Load{{Route: 2, Limit: 7}}, Faults: &admin.Faults{Aborted: 1},
					Flows: &admin.Flows{Total: 4, In: 9, Dropped: map[string]uint64{"no_room": 2}}}},
				Links: []admin.Link{{Direction: admin.Outbound, Identity: "spiffe://x/billing", Transport: "tcp", Streams: 2, RTT: 0.5, Window: 14000, MTU: 1500, Lost: 1, Stalls: &admin.Stalls{Stream: 3, StreamSeconds: 0.25, Line: 1, LineSeconds: 0.5}},
					{Direction: admin.Outbound, Identity: "spiffe://x/billing", Transport: "tcp", Streams: 3, Suspect: true, Window: 20000, MTU: 9000, Lost: 2, Stalls: &admin.Stalls{Stream: 1}},
					{Direction: admin.Inbound, Identity: "spiffe://x/cart", Transport: "quic", Window: 30000, MTU: 1308, Stalls: &admin.Stalls{QUIC: 7, QUICSeconds: 1.5}}},
				Paths: []admin.Path{{Peer: "p", Network: "n", Ways: []admin.Way{{Transport: "tcp", State: "works"}, {Transport: "quic", State: "unknown"}}}},
				DNS:   &admin.DNS{Own: 6},
			}
		},
		Counters: func() []Counter {
			return []Counter{{Name: "log_lines_lost_total", Help: "Lines that were not written.", Value: 8}}
		},
	}
}

func scrape(t *testing.T, accept string) (string, string) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", accept)
	Handler(source()).ServeHTTP(w, r)
	body, err := io.ReadAll(w.Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("%d, %v: %s", w.Code, err, body)
	}
	return string(body), w.Header().Get("Content-Type")
}

func TestText(t *testing.T) {
	got, _ := scrape(t, "text/plain")
	const common = `direction="outbound",`
	for _, want := range []string{
		`pillion_listener_connections{listener="services.a"} 2`,
		`pillion_configuration_generation 4`,
		`pillion_configuration_stale 1`,
		`pillion_configuration_reloads_failed_total 2`,
		`pillion_requests_total{code="",direction="outbound",end="complete",grpc_status="",peer="spiffe://x/billing",port="",protocol="http2",route="2",service="billing",shape="exchange",status="200"} 3`,
		`pillion_requests_total{code="no_endpoints",` + common + `end="complete",grpc_status="",peer="spiffe://x/billing",port="",protocol="http2",route="2",service="billing",shape="exchange",status="503"} 1`,
		`pillion_request_duration_seconds_bucket{` + common + `peer="spiffe://x/billing",port="",protocol="http2",route="2",service="billing",shape="exchange",le="0.001"} 2`,
		`pillion_request_duration_seconds_bucket{` + common + `peer="spiffe://x/billing",port="",protocol="http2",route="2",service="billing",shape="exchange",le="+Inf"} 4`,
		`pillion_request_duration_seconds_count{` + common + `peer="spiffe://x/billing",port="",protocol="http2",route="2",service="billing",shape="exchange"} 4`,
		`pillion_requests_running{direction="outbound"} 1`,
		`pillion_streams_open{direction="inbound",peer="",port="22",protocol="",route="",service="",shape="stream"} 2`,
		`pillion_certificate_expiry_seconds 1e+09`,
		`pillion_app_reachable{port="8080",protocol="auto"} 0`,
		`pillion_endpoints{service="billing"} 2`,
		`pillion_endpoints_healthy{service="billing"} 1`,
		`pillion_endpoints_in_use{service="billing"} 1`,
		`pillion_retries_total{service="billing"} 7`,
		`pillion_cache_bytes{tier="memory"} 5`,
		`pillion_cache_requests_total{result="hit",service="billing"} 9`,
		`pillion_cache_not_stored_total{reason="private",service="billing"} 3`,
		`pillion_cache_dns_questions_total{result="hit",service="dns"} 4`,
		`pillion_cache_dns_questions_total{result="miss",service="dns"} 1`,
		`pillion_cache_dns_bytes{service="dns"} 200`,
		`pillion_datagrams_dropped_total{direction="outbound",port="",reason="no_room",service="billing"} 2`,
		`pillion_links{direction="outbound",peer="spiffe://x/billing",transport="tcp"} 2`,
		`pillion_link_streams{direction="outbound",peer="spiffe://x/billing",transport="tcp"} 5`,
		`pillion_links_suspect{direction="outbound",peer="spiffe://x/billing",transport="tcp"} 1`,
		`pillion_path_works{network="n",peer="p",transport="tcp"} 1`,
		`pillion_dns_questions_total{answer="own"} 6`,
		`pillion_log_lines_lost_total 8`,
		`pillion_retry_budget{service="billing"} 90`,
		`pillion_retry_budget_used_ratio{service="billing"} 0.1`,
		`pillion_detected{port="",protocol="http1",service="billing"} 1`,
		`pillion_ejections_total{service="billing"} 2`,
		`pillion_endpoints_out{reason="ejected",service="billing"} 1`,
		`pillion_endpoints_out{reason="sick",service="billing"} 0`,
		`pillion_picks_unusual_total{service="billing",what="panic"} 1`,
		`pillion_link_congestion_window_bytes{direction="outbound",peer="spiffe://x/billing",transport="tcp"} 14000`,
		`pillion_link_congestion_window_bytes{direction="inbound",peer="spiffe://x/cart",transport="quic"} 30000`,
		`pillion_link_mtu_bytes{direction="inbound",peer="spiffe://x/cart",transport="quic"} 1308`,
		`pillion_link_stalls{cause="quic",direction="inbound",peer="spiffe://x/cart",transport="quic"} 7`,
		`pillion_link_stalled_seconds{cause="quic",direction="inbound",peer="spiffe://x/cart",transport="quic"} 1.5`,
		`pillion_link_mtu_bytes{direction="outbound",peer="spiffe://x/billing",transport="tcp"} 1500`,
		`pillion_link_packets_lost{direction="outbound",peer="spiffe://x/billing",transport="tcp"} 3`,
		`pillion_link_stalls{cause="stream_window",direction="outbound",peer="spiffe://x/billing",transport="tcp"} 4`,
		`pillion_link_stalls{cause="link_window",direction="outbound",peer="spiffe://x/billing",transport="tcp"} 0`,
		`pillion_link_stalled_seconds{cause="head_of_line",direction="outbound",peer="spiffe://x/billing",transport="tcp"} 0.5`,
		`pillion_hedges_won_total{service="billing"} 2`,
		`pillion_limit_most{service="billing"} 11`,
		`pillion_limit_refused_total{code="overloaded",service="billing"} 6`,
		`pillion_route_limit_most{route="2",service="billing"} 7`,
		`pillion_app_limit_connections{port="8080",protocol="auto"} 3`,
		`pillion_app_limit_connections_refused_total{port="8080",protocol="auto"} 2`,
		`pillion_faults_total{fault="aborted",service="billing"} 1`,
		"go_goroutines ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("missing: %s", want)
		}
	}
	if strings.Contains(got, `pillion_path_works{network="n",peer="p",transport="quic"`) {
		t.Error("a transport that was never tried is shown")
	}
	if t.Failed() {
		t.Log(got)
	}
}

// TestExemplar: OpenMetrics names a trace beside the bucket that it is in.
func TestExemplar(t *testing.T) {
	got, _ := scrape(t, "application/openmetrics-text; version=1.0.0")
	if want := `le="0.005"} 3 # {trace_id="ab000000000000000000000000000001"} 0.003 `; strings.Count(got, want) != 1 || strings.Count(got, "trace_id") != 1 {
		t.Errorf("missing: %s in\n%s", want, got)
	}
}

// TestNative: who asks for protobuf gets the histogram with all its buckets.
func TestNative(t *testing.T) {
	got, kind := scrape(t, "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited")
	d := expfmt.NewDecoder(strings.NewReader(got), expfmt.ResponseFormat(http.Header{"Content-Type": {kind}}))
	for {
		var f dto.MetricFamily
		if err := d.Decode(&f); err != nil {
			t.Fatalf("no histogram: %v", err)
		}
		if f.GetName() != "pillion_request_duration_seconds" {
			continue
		}
		for _, m := range f.Metric {
			h := m.GetHistogram()
			if h.GetSampleCount() == 0 {
				continue
			}
			n, sum := int64(0), int64(h.GetZeroCount())
			for _, delta := range h.PositiveDelta {
				n += delta
				sum += n
			}
			// 700 ms is the last bucket: (2^(-5/8), 2^(-4/8)] s.
			last := h.PositiveSpan[0].GetOffset() + int32(h.PositiveSpan[0].GetLength()) - 1
			if h.GetSchema() != 3 || h.GetZeroCount() != 1 || sum != 4 || last != -4 || h.GetSampleSum() < 0.7 {
				t.Errorf("%v", h)
			}
			return
		}
	}
}

func TestOpenMetrics(t *testing.T) {
	got, kind := scrape(t, "application/openmetrics-text; version=1.0.0")
	if !strings.HasPrefix(kind, "application/openmetrics-text") || !strings.HasSuffix(got, "# EOF\n") {
		t.Errorf("%s, ends with %q", kind, got[max(0, len(got)-20):])
	}
}

// TestNames: they hold to Prometheus' rules.
func TestNames(t *testing.T) {
	got, _ := scrape(t, "text/plain")
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(got))
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range families {
		if f.GetHelp() == "" || strings.HasSuffix(name, "_total") != (f.GetType() == dto.MetricType_COUNTER) && strings.HasPrefix(name, "pillion_") {
			t.Errorf("%s: %v, help %q", name, f.GetType(), f.GetHelp())
		}
	}
}
