package metrics

import (
	"fmt"
	"io"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/observe"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// world answers as the request's Path says.
func world(req *proxy.Request, resp *proxy.Response) error {
	req.Service = proxy.Service{Name: "billing"}
	if req.Authority != "" {
		req.Service.Name = req.Authority
	}
	switch req.Path {
	case "/own":
		resp.Status, resp.Code = 503, "no_endpoints"
	case "/odd":
		resp.Status = 999
	case "/ws":
		resp.Status, resp.Stream = 101, open{}
	default:
		resp.Status = 204
	}
	return nil
}

// open is a Stream that ends at once.
type open struct{}

func (open) Read([]byte) (int, error)    { return 0, io.EOF }
func (open) Write(p []byte) (int, error) { return len(p), nil }
func (open) CloseWrite() error           { return nil }
func (open) Close() error                { return nil }
func (open) Reset() error                { return nil }

func send(t *testing.T, s task.Shard, rt proxy.RoundTripper, req proxy.Request) *proxy.Response {
	req.Shard, req.Cancel, req.Method = s, new(proxy.Cancel), "GET"
	resp := new(proxy.Response)
	if err := rt.RoundTrip(&req, resp); err != nil {
		t.Error(err)
	}
	return resp
}

func TestCounts(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		m := New(rt.Shards(), 0)
		stack := observe.Layer(observe.Config{Shards: rt.Shards(), Sinks: []observe.Sink{m}})(proxy.RoundTripperFunc(world))
		var before, after Totals
		for _, s := range rt.Shards() {
			proxytest.Do(t, s, func() {
				for _, path := range []string{"/", "/", "/own", "/odd"} {
					send(t, s, stack, proxy.Request{Path: path, Version: proxy.HTTP11}).Close()
				}
				resp := send(t, s, stack, proxy.Request{Path: "/ws", Upgrade: "websocket", Version: proxy.HTTP11})
				m.Collect(s, &before)
				io.ReadAll(resp.Stream)
				resp.Stream.CloseWrite()
				resp.Close()
				m.Collect(s, &after)
			})
		}
		n := uint64(len(rt.Shards()))
		exchanges, streams := Key{Service: "billing", Version: proxy.HTTP11}, Key{Service: "billing", Shape: observe.Stream}
		if x := before.Series[streams]; x == nil || x.Open != int64(n) || len(x.Outcomes) != 0 {
			t.Errorf("while streams were open: %+v", x)
		}
		if before.Running[observe.Outbound] != int64(n) || after.Running[observe.Outbound] != 0 {
			t.Errorf("running: %v, %v", before.Running, after.Running)
		}
		if x := after.Series[streams]; x.Open != 0 || x.Outcomes[Outcome{Status: 101, GRPC: -1, End: observe.Complete}] != n {
			t.Errorf("streams: %+v", x)
		}
		x := after.Series[exchanges]
		for o, want := range map[Outcome]uint64{
			{Status: 204, GRPC: -1, End: observe.Complete}:                       2 * n,
			{Status: 503, Code: "no_endpoints", GRPC: -1, End: observe.Complete}: n,
			{Status: 599, GRPC: -1, End: observe.Complete}:                       n,
		} {
			if x.Outcomes[o] != want {
				t.Errorf("%+v: %d, want %d", o, x.Outcomes[o], want)
			}
		}
		if x.Duration.Count != 4*n || x.Head.Count != 4*n || len(after.Series) != 2 {
			t.Errorf("%+v of %d series", x, len(after.Series))
		}
	})
}

// TestBounded: whatever is asked for, there are only so many series, and nothing goes uncounted.
func TestBounded(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		const most, sent = 10, 100
		s := rt.Shards()[0]
		m := New(rt.Shards(), most)
		stack := observe.Layer(observe.Config{Shards: rt.Shards(), Sinks: []observe.Sink{m}})(proxy.RoundTripperFunc(world))
		var got Totals
		proxytest.Do(t, s, func() {
			for i := range sent {
				send(t, s, stack, proxy.Request{Authority: fmt.Sprintf("s%d", i)}).Close()
			}
			m.Collect(s, &got)
		})
		var n uint64
		for _, x := range got.Series {
			n += x.Duration.Count
		}
		if len(got.Series) != most+1 || n != sent || got.Series[Key{Service: Other}].Duration.Count != sent-most {
			t.Errorf("%d series count %d", len(got.Series), n)
		}
	})
}

func TestAllocatesNothing(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		stack := observe.Layer(observe.Config{Shards: rt.Shards(), Sinks: []observe.Sink{New(rt.Shards(), 0)}})(proxy.RoundTripperFunc(world))
		proxytest.Do(t, s, func() {
			req, resp, cancel := new(proxy.Request), new(proxy.Response), new(proxy.Cancel)
			one := func(path string) {
				*req = proxy.Request{Method: "GET", Path: path, Shard: s, Cancel: cancel}
				if err := stack.RoundTrip(req, resp); err != nil {
					t.Error(err)
				}
				resp.Close()
			}
			if n := testing.AllocsPerRun(100, func() { one("/"); one("/own") }); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	})
}

func BenchmarkDone(b *testing.B) {
	run := task.NewGoroutines(task.Config{})
	proxytest.Start(b, run)
	s := run.Shards()[0]
	proxytest.Call(b, s, func() {
		stack := observe.Layer(observe.Config{Shards: run.Shards(), Sinks: []observe.Sink{New(run.Shards(), 0)}})(proxy.RoundTripperFunc(world))
		req, resp, cancel := new(proxy.Request), new(proxy.Response), new(proxy.Cancel)
		b.ReportAllocs()
		for b.Loop() {
			*req = proxy.Request{Method: "GET", Path: "/", Shard: s, Cancel: cancel}
			if err := stack.RoundTrip(req, resp); err != nil {
				b.Error(err)
				return
			}
			resp.Close()
		}
	})
}
