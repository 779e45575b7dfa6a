package otlp

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pillion-proxy/pillion/proxy/spans"
)

// queue is a Source.
type queue struct {
	mu    sync.Mutex
	b     []byte
	n     int
	ready chan struct{}
}

func newQueue(names ...string) *queue {
	q := &queue{ready: make(chan struct{}, 1)}
	q.add(names...)
	return q
}

func (q *queue) add(names ...string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, name := range names {
		q.b = spans.AppendBytes(q.b, 2, spans.AppendBytes(nil, 5, []byte(name)))
		q.n++
	}
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

func (q *queue) Ready() <-chan struct{} { return q.ready }

func (q *queue) Take(spare []byte) ([]byte, int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b, n := q.b, q.n
	q.b, q.n = spare[:0], 0
	return b, n
}

// collector answers batches as told: with the errors in their order, then well.
type collector struct {
	mu      sync.Mutex
	errs    []reply
	batches []*trace.TracesData // those taken
	tries   int
	headers []string
	took    chan struct{} // a batch was taken
}

// reply is how a batch is refused.
type reply struct {
	http  int
	after string
	grpc  error
	body  []byte // of an answer that is good
}

func (c *collector) take(t *testing.T, header string, body []byte) reply {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tries++
	c.headers = append(c.headers, header)
	if len(c.errs) > 0 {
		r := c.errs[0]
		c.errs = c.errs[1:]
		if r.body == nil {
			return r
		}
		defer func() { c.took <- struct{}{} }()
		return r
	}
	data := new(trace.TracesData) // the same bytes as an ExportTraceServiceRequest
	if err := proto.Unmarshal(body, data); err != nil {
		t.Error(err)
	}
	c.batches = append(c.batches, data)
	c.took <- struct{}{}
	return reply{http: 200}
}

// serve starts c for a protocol and returns its URL.
func (c *collector) serve(t *testing.T, overGRPC bool) string {
	c.took = make(chan struct{}, 100)
	if !overGRPC {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			x := c.take(t, r.Method+" "+r.URL.Path+" "+r.Header.Get("Content-Type")+" "+r.Header.Get("Api-Key"), body)
			w.Header().Set("Content-Type", "application/x-protobuf")
			if x.after != "" {
				w.Header().Set("Retry-After", x.after)
			}
			w.WriteHeader(x.http)
			_, _ = w.Write(x.body)
		}))
		t.Cleanup(s.Close)
		return s.URL + "/v1/traces"
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.ForceServerCodec(raw{}), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(s)
		var in []byte
		if err := s.RecvMsg(&in); err != nil {
			return err
		}
		md, _ := metadata.FromIncomingContext(s.Context())
		x := c.take(t, method+" "+strings.Join(md.Get("api-key"), ","), in)
		if x.grpc != nil {
			return x.grpc
		}
		return s.SendMsg(&x.body)
	}))
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(s.Stop)
	return "http://" + ln.Addr().String()
}

// raw passes messages as they are.
type raw struct{}

func (raw) Name() string                    { return "proto" }
func (raw) Marshal(v any) ([]byte, error)   { return *v.(*[]byte), nil }
func (raw) Unmarshal(b []byte, v any) error { *v.(*[]byte) = bytes.Clone(b); return nil }

// exporter starts an Exporter; stop ends it and waits.
func exporter(t *testing.T, cfg Config) (x *Exporter, stop func()) {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Version, cfg.Headers = "1.2", []Attribute{{"Api-Key", "k1"}}
	cfg.Resource = []Attribute{{"service.name", "web"}}
	x, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	return x, sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// both runs a test for each protocol.
func both(t *testing.T, f func(t *testing.T, overGRPC bool)) {
	t.Run("http", func(t *testing.T) { f(t, false) })
	t.Run("grpc", func(t *testing.T) { f(t, true) })
}

func wait(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(time.Minute):
		t.Fatal("nothing came for a minute")
	}
}

func TestExport(t *testing.T) {
	both(t, func(t *testing.T, overGRPC bool) {
		var c collector
		q := newQueue("one", "two")
		x, stop := exporter(t, Config{URL: c.serve(t, overGRPC), GRPC: overGRPC, Source: q, Delay: time.Hour})
		wait(t, c.took) // because it is ready
		q.mu.Lock()
		q.b, q.n = spans.AppendBytes(q.b, 2, spans.AppendBytes(nil, 5, []byte("last"))), 1 // and nobody is told
		q.mu.Unlock()
		stop()
		if len(c.batches) != 2 {
			t.Fatalf("%d batches, want 2: the second at the end", len(c.batches))
		}
		r := c.batches[0].ResourceSpans[0]
		want := &common.KeyValue{Key: "service.name", Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: "web"}}}
		if len(r.Resource.Attributes) != 1 || !proto.Equal(r.Resource.Attributes[0], want) {
			t.Errorf("resource %v", r.Resource)
		}
		s := r.ScopeSpans[0]
		if s.Scope.GetName() != "pillion" || s.Scope.GetVersion() != "1.2" || !strings.HasPrefix(s.SchemaUrl, "https://") || len(s.Spans) != 2 || s.Spans[1].Name != "two" {
			t.Errorf("spans %v", s)
		}
		if got := c.batches[1].ResourceSpans[0].ScopeSpans[0].Spans[0].Name; got != "last" {
			t.Errorf("at the end: %q", got)
		}
		head := "POST /v1/traces application/x-protobuf k1"
		if overGRPC {
			head = export + " k1"
		}
		if c.headers[0] != head {
			t.Errorf("sent as %q, want %q", c.headers[0], head)
		}
		if got := x.Stats(); got != (Stats{Sent: 3}) {
			t.Errorf("%+v", got)
		}
	})
}

// grpcError is a status, with a RetryInfo if after is not 0.
func grpcError(c codes.Code, after time.Duration) error {
	s := status.New(c, "not now")
	if after > 0 {
		s, _ = s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
	}
	return s.Err()
}

// TestAgain: what may help is tried again, as late as the collector wants; what may not is dropped and counted.
func TestAgain(t *testing.T) {
	both(t, func(t *testing.T, overGRPC bool) {
		for _, x := range []struct {
			name  string
			errs  []reply
			tries int
			sent  uint64
		}{
			{"overloaded", []reply{{http: 503, grpc: grpcError(codes.Unavailable, 0)}, {http: 429, after: "0", grpc: grpcError(codes.ResourceExhausted, 1)}}, 3, 1},
			{"wrong", []reply{{http: 400, grpc: grpcError(codes.InvalidArgument, 0)}}, 1, 0},
			{"too much, and no word of when", []reply{{http: 413, grpc: grpcError(codes.ResourceExhausted, 0)}}, 1, 0},
			{"too late", []reply{{http: 503, after: "3600", grpc: grpcError(codes.Unavailable, time.Hour)}}, 1, 0},
		} {
			c := collector{errs: x.errs}
			e, stop := exporter(t, Config{URL: c.serve(t, overGRPC), GRPC: overGRPC, Source: newQueue("one"), Delay: time.Hour, Backoff: time.Millisecond})
			deadline := time.Now().Add(time.Minute)
			for s := e.Stats(); s.Sent+s.Lost < 1 && time.Now().Before(deadline); s = e.Stats() {
				time.Sleep(time.Millisecond)
			}
			stop()
			got := e.Stats()
			if c.tries != x.tries || got.Sent != x.sent || got.Lost != 1-x.sent || got.Failures != uint64(len(x.errs)) {
				t.Errorf("%s: %d tries, %+v", x.name, c.tries, got)
			}
		}
	})
}

// TestPartial: a collector may take a batch and refuse a part of it.
func TestPartial(t *testing.T) {
	inner := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 2)
	inner = protowire.AppendString(protowire.AppendTag(inner, 2, protowire.BytesType), "too old")
	body := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), inner)
	both(t, func(t *testing.T, overGRPC bool) {
		var log bytes.Buffer
		c := collector{errs: []reply{{http: 200, body: body}}}
		x, stop := exporter(t, Config{URL: c.serve(t, overGRPC), GRPC: overGRPC, Source: newQueue("a", "b", "c"), Logger: slog.New(slog.NewTextHandler(&log, nil))})
		wait(t, c.took)
		stop()
		if got := x.Stats(); got != (Stats{Sent: 1, Rejected: 2}) {
			t.Errorf("%+v", got)
		}
		if !strings.Contains(log.String(), "refused 2 of 3 spans: too old") {
			t.Errorf("log %q", log.String())
		}
	})
}

// TestNobodyThere: it is said once, and spans are counted; stopping does not wait for long.
func TestNobodyThere(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "http://" + ln.Addr().String()
	ln.Close()
	both(t, func(t *testing.T, overGRPC bool) {
		var log bytes.Buffer
		q := newQueue("a")
		x, stop := exporter(t, Config{URL: address, GRPC: overGRPC, Source: q, Backoff: time.Millisecond, Patience: 20 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		for i := range uint64(2) {
			deadline := time.Now().Add(time.Minute)
			for x.Stats().Lost <= i && time.Now().Before(deadline) {
				time.Sleep(time.Millisecond)
			}
			q.add("b")
		}
		stop()
		if got := x.Stats(); got.Lost < 2 || got.Sent > 0 || got.Failures < 2 {
			t.Errorf("%+v", got)
		}
		if n := strings.Count(log.String(), "level=WARN"); n != 1 {
			t.Errorf("%d warnings, want 1:\n%s", n, log.String())
		}
	})
}

func TestNewRefuses(t *testing.T) {
	for _, u := range []string{"", "collector:4318", "ftp://x", "http://", "://"} {
		if _, err := New(Config{URL: u}); err == nil {
			t.Errorf("New with %q succeeded", u)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for in, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "-1": 0, "x": 0, now.Add(time.Minute).Format(http.TimeFormat): time.Minute, now.Add(-time.Minute).Format(http.TimeFormat): 0} {
		if got := retryAfter(in, now); got != want {
			t.Errorf("retryAfter(%q) = %v, want %v", in, got, want)
		}
	}
}

// FuzzStatus: whatever a collector answers is read, or not.
func FuzzStatus(f *testing.F) {
	s, err := proto.Marshal(status.Convert(grpcError(codes.Unavailable, 3*time.Second)).Proto())
	if err != nil {
		f.Fatal(err)
	}
	if _, text, pause := readStatus(s); text != "not now" || pause != 3*time.Second {
		f.Errorf("%q, %v", text, pause)
	}
	f.Add(s)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, pause := readStatus(b); pause < 0 {
			t.Errorf("a pause of %v", pause)
		}
		partial(b)
	})
}
