package spans

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	v1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/observe"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/proxy/tracing"
)

// decode is what a collector reads of what waits.
func decode(t testing.TB, s *Spans) []*v1.Span {
	t.Helper()
	b, n := s.Take(nil)
	var all v1.ScopeSpans
	if err := proto.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	if len(all.Spans) != n {
		t.Fatalf("%d spans, which were said to be %d", len(all.Spans), n)
	}
	return all.Spans
}

// attributes are those of a span, as text.
func attributes(x *v1.Span) map[string]string {
	all := make(map[string]string)
	for _, kv := range x.Attributes {
		if v := kv.Value.GetStringValue(); v != "" {
			all[kv.Key] = v
		} else {
			all[kv.Key] = fmt.Sprint(kv.Value.GetIntValue())
		}
	}
	return all
}

// check compares some attributes; "" is none.
func check(t testing.TB, x *v1.Span, want map[string]string) {
	t.Helper()
	got := attributes(x)
	for k, v := range want {
		if got[k] != v {
			t.Errorf("span %s: %s is %q, want %q", x.Name, k, got[k], v)
		}
	}
}

// send has requests run past s.
func send(t *testing.T, s *Spans, d observe.Direction, app func(*proxy.Request, *proxy.Response) error, reqs ...proxy.Request) {
	t.Helper()
	rt := task.NewGoroutines(task.Config{})
	stop := proxytest.Start(t, rt)
	defer stop()
	sh := rt.Shards()[0]
	stack := observe.Layer(observe.Config{Direction: d, Shards: rt.Shards(), Sinks: []observe.Sink{s}})(stackOf(s, d, app))
	for _, req := range reqs {
		proxytest.Do(t, sh, func() {
			req.Shard, req.Cancel = sh, new(proxy.Cancel)
			var resp proxy.Response
			if err := stack.RoundTrip(&req, &resp); err == nil {
				resp.Close()
			}
		})
	}
}

// stackOf is what is below: outbound, an app that answers 503 is asked a second time.
func stackOf(s *Spans, d observe.Direction, app func(*proxy.Request, *proxy.Response) error) proxy.RoundTripper {
	if d == observe.Inbound {
		return observe.Attempts(proxy.RoundTripperFunc(app))
	}
	one := observe.Attempts(s.Attempts(proxy.RoundTripperFunc(app)))
	return proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
		err := one.RoundTrip(req, resp)
		if err == nil && resp.Status == 503 && req.Attempt == 0 {
			resp.Close()
			req.Note("retry", "a second try, elsewhere", 7)
			req.Attempt++
			return one.RoundTrip(req, resp)
		}
		return err
	})
}

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func fields(pairs ...string) (f proxy.Fields) {
	for i := 0; i < len(pairs); i += 2 {
		f.Add(pairs[i], pairs[i+1])
	}
	return f
}

// TestOutbound: an exchange that is tried twice is three spans, of which the peers are told the attempts'.
func TestOutbound(t *testing.T) {
	s := New(Config{})
	var told []string
	app := func(req *proxy.Request, resp *proxy.Response) error {
		told = append(told, req.Fields.Get("traceparent"))
		told[len(told)-1] = strings.Clone(told[len(told)-1])
		req.Service, req.Endpoint = proxy.Service{Name: "billing"}, &proxy.Endpoint{Addr: netip.MustParseAddrPort("10.0.0.7:15008"), Identity: "spiffe://pillion.local/billing"}
		if resp.Status = 200; req.Attempt == 0 {
			resp.Status = 503
		}
		return nil
	}
	send(t, s, observe.Outbound, app, proxy.Request{Method: "GET", Authority: "billing:9000", Path: "/pay?card=4111", Version: proxy.HTTP11,
		Fields: fields("traceparent", parent, "tracestate", "a=b")})
	got := decode(t, s)
	if len(got) != 3 {
		t.Fatalf("%d spans, want 3", len(got))
	}
	x := got[0]
	if hex.EncodeToString(x.TraceId) != parent[3:35] || hex.EncodeToString(x.ParentSpanId) != parent[36:52] || x.TraceState != "a=b" {
		t.Errorf("the exchange's place is %x, %x, %q", x.TraceId, x.ParentSpanId, x.TraceState)
	}
	if x.Name != "GET" || x.Kind != v1.Span_SPAN_KIND_CLIENT || x.Flags != 0x301 || x.Status.GetCode() != 0 || x.StartTimeUnixNano == 0 || x.EndTimeUnixNano < x.StartTimeUnixNano {
		t.Errorf("the exchange is %v", x)
	}
	check(t, x, map[string]string{"http.request.method": "GET", "url.full": "http://billing:9000/pay", "server.address": "billing", "server.port": "9000",
		"network.protocol.version": "1.1", "http.response.status_code": "200", "pillion.service": "billing", "error.type": ""})
	if len(x.Events) != 1 || x.Events[0].Name != "retry: a second try, elsewhere" || x.Events[0].Attributes[0].Value.GetIntValue() != 7 {
		t.Errorf("events %v", x.Events)
	}
	for i, a := range got[1:] {
		if string(a.ParentSpanId) != string(x.SpanId) || a.Flags != 0x101 {
			t.Errorf("attempt %d is below %x, not %x", i, a.ParentSpanId, x.SpanId)
		}
		if want := "00-" + parent[3:35] + "-" + hex.EncodeToString(a.SpanId) + "-01"; told[i] != want {
			t.Errorf("attempt %d was told %s, want %s", i, told[i], want)
		}
		check(t, a, map[string]string{"network.peer.address": "10.0.0.7", "network.peer.port": "15008", "pillion.peer": "spiffe://pillion.local/billing"})
	}
	check(t, got[1], map[string]string{"http.response.status_code": "503", "error.type": "503", "http.request.resend_count": ""})
	check(t, got[2], map[string]string{"http.response.status_code": "200", "error.type": "", "http.request.resend_count": "1"})
	if got[1].Status.GetCode() != v1.Status_STATUS_CODE_ERROR || got[2].Status.GetCode() != 0 {
		t.Errorf("statuses of the attempts: %v, %v", got[1].Status, got[2].Status)
	}
}

// TestInbound: one span, of which the app is told; gRPC has the names of RPC.
func TestInbound(t *testing.T) {
	s := New(Config{})
	var told string
	app := func(req *proxy.Request, resp *proxy.Response) error {
		told = strings.Clone(req.Fields.Get("traceparent"))
		resp.Status, resp.Fields = 200, fields("Content-Type", "application/grpc", "Grpc-Status", "5")
		return nil
	}
	send(t, s, observe.Inbound, app, proxy.Request{Method: "POST", Authority: "[::1]:80", Path: "/pkg.Bill/Pay", Version: proxy.HTTP2, Client: netip.MustParseAddrPort("10.0.0.9:4711"),
		Peer: &proxy.Peer{Identity: "spiffe://pillion.local/web"}, Fields: fields("Content-Type", "application/grpc", "traceparent", parent)})
	got := decode(t, s)
	if len(got) != 1 {
		t.Fatalf("%d spans, want 1", len(got))
	}
	x := got[0]
	if x.Name != "pkg.Bill/Pay" || x.Kind != v1.Span_SPAN_KIND_SERVER || x.Status.GetCode() != 0 {
		t.Errorf("the span is %v", x)
	}
	check(t, x, map[string]string{"rpc.system": "grpc", "rpc.service": "pkg.Bill", "rpc.method": "Pay", "rpc.grpc.status_code": "5", "url.path": "/pkg.Bill/Pay", "url.scheme": "http",
		"server.address": "::1", "server.port": "80", "network.peer.address": "10.0.0.9", "pillion.peer": "spiffe://pillion.local/web", "network.protocol.version": "2"})
	if want := hex.EncodeToString(x.SpanId); told[36:52] != want {
		t.Errorf("the app was told %s, want the span %s", told, want)
	}
}

// TestKeep: what is not recorded makes a span if it failed, or was slow, and that is asked for.
func TestKeep(t *testing.T) {
	broken := errors.New("the line is cut")
	app := func(req *proxy.Request, resp *proxy.Response) error {
		req.Attempt = 1
		if req.Path == "/err" {
			return &proxy.Error{Code: proxy.NoEndpoints, Detail: "none", Err: broken}
		}
		_, err := fmt.Sscanf(req.Path, "/%d", &resp.Status)
		return err
	}
	const off = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
	for _, x := range []struct {
		keep bool
		path string
		want int
	}{{true, "/200", 0}, {true, "/404", 1}, {true, "/503", 1}, {true, "/err", 1}, {false, "/503", 0}, {false, "/err", 0}} {
		s := New(Config{KeepErrors: x.keep})
		send(t, s, observe.Outbound, app, proxy.Request{Method: "GET", Path: x.path, Fields: fields("traceparent", off)})
		got := decode(t, s)
		if len(got) != 2*x.want {
			t.Errorf("%+v: %d spans, want %d", x, len(got), 2*x.want)
			continue
		}
		if x.want > 0 && (got[0].Status.GetCode() != v1.Status_STATUS_CODE_ERROR || attributes(got[0])["error.type"] == "") {
			t.Errorf("%+v: %v", x, got[0])
		}
	}
	s := New(Config{KeepSlow: true})
	for _, slow := range []bool{false, true} {
		e := &observe.Entry{Facts: observe.Facts{Request: &proxy.Request{Method: "GET"}, Slow: slow, End: observe.Complete, GRPC: -1}}
		s.Begin(e)
		s.Done(e)
		if got := len(decode(t, s)); got == 1 != slow {
			t.Errorf("slow %v: %d spans", slow, got)
		}
	}
}

// TestShapes: Streams and Flows say what they carried and how they ended.
func TestShapes(t *testing.T) {
	s := New(Config{Propagation: tracing.Propagation{Ratio: 1}})
	for _, x := range []struct {
		req             proxy.Request
		shape           observe.Shape
		name, transport string
	}{
		{proxy.Request{Method: "CONNECT", Authority: "db:5432"}, observe.Stream, "stream", "tcp"},
		{proxy.Request{Method: "GET", Upgrade: proxy.ConnectUDP, Path: "/x"}, observe.Flow, "flow", "udp"},
		{proxy.Request{Method: "GET", Upgrade: "websocket", Authority: "chat", Path: "/x"}, observe.Stream, "GET", ""},
		{proxy.Request{Method: "BR\xffEW", Authority: "x", Path: "/\xff"}, observe.Exchange, "HTTP", ""},
	} {
		e := &observe.Entry{Facts: observe.Facts{Request: &x.req, Shape: x.shape, Head: 5, Stop: 9, BytesIn: 3, BytesOut: 4, End: observe.ClientGone, GRPC: -1}}
		s.Begin(e)
		s.Done(e)
		got := decode(t, s)[0]
		if got.Name != x.name {
			t.Errorf("%+v: name %q", x.req, got.Name)
		}
		want := map[string]string{"network.transport": x.transport, "pillion.end": "client_gone"}
		if x.shape != observe.Exchange {
			want["pillion.bytes_in"], want["pillion.bytes_out"] = "3", "4"
			if len(got.Events) != 1 || got.Events[0].Name != "opened" {
				t.Errorf("%+v: events %v", x.req, got.Events)
			}
		} else {
			want["http.request.method"], want["http.request.method_original"] = "_OTHER", "BR\uFFFDEW"
		}
		check(t, got, want)
	}
}

// TestBound: what does not fit is dropped whole, and counted.
func TestBound(t *testing.T) {
	s := New(Config{Propagation: tracing.Propagation{Ratio: 1}, Pending: 2000})
	for range 100 {
		e := &observe.Entry{Facts: observe.Facts{Request: &proxy.Request{Method: "GET", Path: "/" + strings.Repeat("x", 200)}, GRPC: -1}}
		s.Begin(e)
		s.Done(e)
	}
	n := uint64(len(decode(t, s)))
	if got := s.Stats(); n == 0 || got.Made != n || got.Dropped != 100-n {
		t.Errorf("%d spans, %+v", n, got)
	}
}

// TestReady: somebody is told before the queue is full.
func TestReady(t *testing.T) {
	s := New(Config{Propagation: tracing.Propagation{Ratio: 1}})
	for i := 0; ; i++ {
		e := &observe.Entry{Facts: observe.Facts{Request: &proxy.Request{Method: "GET", Path: "/" + strings.Repeat("x", 200)}, GRPC: -1}}
		s.Begin(e)
		s.Done(e)
		select {
		case <-s.Ready():
			if n := len(decode(t, s)); n != i+1 {
				t.Errorf("%d spans, want %d", n, i+1)
			}
			return
		default:
		}
		if s.Stats().Dropped > 0 {
			t.Fatal("spans were dropped, and nobody was told")
		}
	}
}

// TestLink: a request that says nothing of a trace is linked to the one that it is probably made for.
func TestLink(t *testing.T) {
	entry := func(d observe.Direction, pairs ...string) *observe.Entry {
		return &observe.Entry{Facts: observe.Facts{Direction: d, Request: &proxy.Request{Method: "GET", Fields: fields(pairs...)}, GRPC: -1}}
	}
	for _, x := range []struct {
		name       string
		in         [][]string
		out        []string
		reason     string
		confidence float64
	}{
		{"none", nil, nil, "", 0},
		{"one", [][]string{{"traceparent", parent}}, nil, "containment", 0.9},
		{"two", [][]string{{"traceparent", parent}, {"traceparent", parent}}, nil, "containment", 0.45},
		{"three", [][]string{{}, {}, {}}, nil, "", 0},
		{"id", [][]string{{}, {"X-Request-Id", "7", "traceparent", parent}, {}}, []string{"X-Request-Id", "7"}, "request_id", 0.99},
		{"the app says it", [][]string{{"traceparent", parent}}, []string{"traceparent", parent}, "", 0},
	} {
		s := New(Config{Link: true, Propagation: tracing.Propagation{Ratio: 0}})
		var in []*observe.Entry
		for _, f := range x.in {
			e := entry(observe.Inbound, f...)
			s.Begin(e)
			in = append(in, e)
		}
		out := entry(observe.Outbound, x.out...)
		s.Begin(out)
		out.Record().Trace.Sampled = true
		s.Done(out)
		links := decode(t, s)[0].Links
		for _, e := range in {
			s.Done(e)
		}
		if len(s.running.inbound)+len(s.running.links) > 0 {
			t.Errorf("%s: %v, %v are left", x.name, s.running.inbound, s.running.links)
		}
		if x.reason == "" {
			if len(links) > 0 {
				t.Errorf("%s: %v", x.name, links)
			}
			continue
		}
		if len(links) != 1 || hex.EncodeToString(links[0].TraceId) != parent[3:35] || links[0].Attributes[0].Value.GetStringValue() != x.reason ||
			links[0].Attributes[1].Value.GetDoubleValue() != x.confidence {
			t.Errorf("%s: %v", x.name, links)
		}
	}
}

// TestAllocatesNothing: a request makes no garbage, whether it is recorded or not.
func TestAllocatesNothing(t *testing.T) {
	for _, ratio := range []float64{0, 1} {
		s := New(Config{Propagation: tracing.Propagation{Ratio: ratio}})
		spare := make([]byte, 0, 1<<20)
		room := fields("Accept", "*/*", "User-Agent", "curl", "x", "y")
		e := new(observe.Entry)
		n := testing.AllocsPerRun(1000, func() {
			e.Facts = observe.Facts{Request: &proxy.Request{}, GRPC: -1, Status: 200, End: observe.Complete}
			*e.Request = proxy.Request{Method: "GET", Authority: "billing:9000", Path: "/pay?x", Version: proxy.HTTP11, Fields: room[:2]}
			s.Begin(e)
			e.Record().Try(5).Status = 200
			s.Done(e)
			e.Record().Reset()
			spare, _ = s.Take(spare)
		})
		if n > 1 { // the Request
			t.Errorf("ratio %v: %v allocations", ratio, n)
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{"": "", "a": "a", "\xff": "\uFFFD", strings.Repeat("é", 600): strings.Repeat("é", 512), "x" + strings.Repeat("é", 600): "x" + strings.Repeat("é", 511)} {
		if got := clean(in); !utf8.ValidString(got) || len(got) > maxText || len(in) <= maxText && got != want {
			t.Errorf("clean(%.20q) = %.20q of %d bytes", in, got, len(got))
		}
	}
}

func BenchmarkExchange(b *testing.B) {
	for _, ratio := range []float64{0, 1} {
		b.Run(fmt.Sprint(ratio), func(b *testing.B) {
			s := New(Config{Propagation: tracing.Propagation{Ratio: ratio}})
			spare := make([]byte, 0, 1<<20)
			room := fields("Accept", "*/*", "User-Agent", "curl", "x", "y")
			e := &observe.Entry{Facts: observe.Facts{Request: &proxy.Request{}, GRPC: -1, Status: 200, End: observe.Complete}}
			b.ReportAllocs()
			for b.Loop() {
				*e.Request = proxy.Request{Method: "GET", Authority: "billing:9000", Path: "/pay?x", Version: proxy.HTTP11, Fields: room[:2]}
				s.Begin(e)
				e.Record().Try(5).Status = 200
				s.Done(e)
				e.Record().Reset()
				spare, _ = s.Take(spare)
			}
		})
	}
}
