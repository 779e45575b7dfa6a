package load

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// serveH2C answers over HTTP/2 without TLS.
func serveH2C(t *testing.T, streams int, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: streams}
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestH2C(t *testing.T) {
	addr := serveH2C(t, 5, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/there" || r.Host != "shop" || r.ProtoMajor != 2 {
			http.Error(w, "no", http.StatusNotFound)
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 40_000))
	})
	for name, network := range networks {
		for _, rate := range []float64{0, 500} {
			// More streams than the server lets run at a time: they wait.
			c := Config{Protocol: H2C, Addr: addr, Host: "shop", Path: "/there", Conns: 2, Streams: 8, Rate: rate, network: network}
			var res *Result
			if rate == 0 {
				res = runUntil(t, 20, c)
			} else {
				var err error
				c.Duration, c.Grace = 200*time.Millisecond, 10*time.Second
				if res, err = Run(context.Background(), c); err != nil {
					t.Fatalf("%s at %v/s: %v", name, rate, err)
				}
			}
			if res.Requests == 0 || res.Errors+res.Unfinished > 0 {
				t.Errorf("%s at %v/s: %d requests, %d errors %v, %d unfinished, want some and none", name, rate, res.Requests, res.Errors, res.Failures, res.Unfinished)
			}
		}
	}
}

func TestH2CStatusIsAnError(t *testing.T) {
	addr := serveH2C(t, 100, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	res := runUntil(t, 3, Config{Protocol: H2C, Addr: addr})
	if res.Requests > 0 || res.Failures["answered 503"] != res.Errors {
		t.Errorf("got %+v; want answers of 503 only", res)
	}
}

// A server that ends its connections now and then (GOAWAY) loses no request.
func TestH2CGoAway(t *testing.T) {
	var n atomic.Int64
	addr := serveH2C(t, 100, func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1)%10 == 0 {
			w.Header().Set("Connection", "close")
		}
	})
	res := runUntil(t, 30, Config{Protocol: H2C, Addr: addr})
	if res.Errors+res.Unfinished > 0 || res.Reconnects == 0 {
		t.Errorf("got %+v; want some connections and no error", res)
	}
}

type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal(data []byte, v any) error { *v.(*[]byte) = bytes.Clone(data); return nil }
func (rawCodec) Name() string                       { return "raw" }

func TestGRPC(t *testing.T) {
	var want atomic.Int64
	want.Store(30_000)
	s := grpc.NewServer(grpc.ForceServerCodec(rawCodec{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		var message []byte
		if err := stream.RecvMsg(&message); err != nil {
			return err
		}
		method, _ := grpc.MethodFromServerStream(stream)
		if len(message) != int(want.Load()) || method != "/bench.Echo/Unary" {
			return status.Error(codes.InvalidArgument, "another message")
		}
		return stream.SendMsg(&message)
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l) //nolint:errcheck // it ends with Stop
	defer s.Stop()
	for name, network := range networks {
		res := runUntil(t, 20, Config{Protocol: GRPC, Addr: l.Addr().String(), Size: int(want.Load()), Conns: 2, Streams: 4, network: network})
		if res.Requests == 0 || res.Errors+res.Unfinished > 0 {
			t.Errorf("%s: %d requests, %d errors %v, %d unfinished, want some and none", name, res.Requests, res.Errors, res.Failures, res.Unfinished)
		}
	}
	want.Store(7)
	res := runUntil(t, 3, Config{Protocol: GRPC, Addr: l.Addr().String(), Size: 8})
	if res.Requests > 0 || res.Failures[`the call ended with grpc-status "3"`] == 0 {
		t.Errorf("calls that fail: got %+v; want errors with their status", res)
	}
}

// Field blocks are decoded once, and anew after each change of the table.
func TestFieldsAreRememberedUntilTheTableChanges(t *testing.T) {
	var out bytes.Buffer
	enc := hpack.NewEncoder(&out)
	var f h2Fields
	f.reset()
	for i, fields := range [][]hpack.HeaderField{
		{{Name: ":status", Value: "200"}, {Name: "grpc-status", Value: "0"}},
		{{Name: ":status", Value: "200"}, {Name: "grpc-status", Value: "0"}},
		{{Name: ":status", Value: "200"}, {Name: "grpc-status", Value: "0"}},
		{{Name: ":status", Value: "200"}, {Name: "grpc-status", Value: "14"}}, // shifts the table: the same bytes as before would mean another field
		{{Name: ":status", Value: "200"}, {Name: "grpc-status", Value: "0"}},
		{{Name: ":status", Value: "503"}, {Name: "x", Value: "secret", Sensitive: true}},
		{{Name: ":status", Value: "200"}, {Name: "grpc-status", Value: "14"}},
	} {
		out.Reset()
		want := h2Said{}
		for _, field := range fields {
			if err := enc.WriteField(field); err != nil {
				t.Fatal(err)
			}
			switch {
			case field.Name == "grpc-status":
				want.grpc = field.Value
			case field.Value == "200":
				want.status = 200
			case field.Value == "503":
				want.status = 503
			}
		}
		if got, err := f.read(out.Bytes()); err != nil || got != want {
			t.Errorf("block %d: got %+v, %v, want %+v", i, got, err, want)
		}
	}
	if len(f.known) == 0 {
		t.Error("nothing is remembered")
	}
}
