package observe_test

import (
	"cmp"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/observe"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// sink keeps the facts of the requests it was told of.
type sink struct {
	calls  string
	facts  []observe.Facts
	events []proxy.Event
}

func (s *sink) Begin(*observe.Entry) { s.calls += "b" }
func (s *sink) Head(*observe.Entry)  { s.calls += "h" }
func (s *sink) Done(e *observe.Entry) {
	s.calls += "d"
	s.facts = append(s.facts, e.Facts)
	events, _ := e.Record().Events()
	s.events = append(s.events, events...)
}

// body gives text, then err.
type body struct {
	text     string
	err      error
	trailers proxy.Fields
}

func (b *body) Read(p []byte) (int, error) {
	n := copy(p, b.text)
	b.text = b.text[n:]
	if n == 0 {
		return 0, b.err
	}
	return n, nil
}
func (b *body) Buffered() int          { return len(b.text) }
func (b *body) Trailers() proxy.Fields { return b.trailers }
func (b *body) Close() error           { return nil }

// pipe is a Stream that gives a body and takes anything.
type pipe struct {
	body
	broken error
}

func (p *pipe) Write(b []byte) (int, error) {
	if p.broken != nil {
		return 0, p.broken
	}
	return len(b), nil
}
func (p *pipe) CloseWrite() error { return nil }
func (p *pipe) Reset() error      { return nil }

var errBroke = errors.New("it broke")

func TestFacts(t *testing.T) {
	grpc := proxy.Fields{{Name: "content-type", Value: "application/grpc"}}
	for _, c := range []struct {
		name string
		req  proxy.Request
		resp proxy.Response
		err  error
		read int // bytes that the client reads; -1: to the end
		gone bool
		why  error // for which it is gone; nil: errBroke
		use  func(proxy.Stream)
		want observe.Facts
	}{
		{name: "no content", resp: proxy.Response{Status: 204}, read: -1, want: observe.Facts{Status: 204, End: observe.Complete, GRPC: -1}},
		{name: "to the end", resp: proxy.Response{Status: 200, Length: -1, Body: &body{text: "hello", err: io.EOF}}, read: -1,
			want: observe.Facts{Status: 200, End: observe.Complete, BytesOut: 5, GRPC: -1}},
		{name: "all that was announced", resp: proxy.Response{Status: 200, Length: 5, Body: &body{text: "hello", err: io.EOF}}, read: 5,
			want: observe.Facts{Status: 200, End: observe.Complete, BytesOut: 5, GRPC: -1}},
		{name: "half read", resp: proxy.Response{Status: 200, Length: 5, Body: &body{text: "hello", err: io.EOF}}, read: 2,
			want: observe.Facts{Status: 200, End: observe.ClientGone, BytesOut: 2, GRPC: -1}},
		{name: "cut", resp: proxy.Response{Status: 200, Length: 9, Body: &body{text: "hello", err: errBroke}}, read: -1,
			want: observe.Facts{Status: 200, End: observe.Cut, Err: errBroke, BytesOut: 5, GRPC: -1}},
		{name: "the client left", resp: proxy.Response{Status: 200, Length: 9, Body: &body{text: "hello", err: io.EOF}}, read: 2, gone: true,
			want: observe.Facts{Status: 200, End: observe.ClientGone, Err: errBroke, BytesOut: 2, GRPC: -1}},
		{name: "no answer", err: errBroke, want: observe.Facts{End: observe.Cut, Err: errBroke, GRPC: -1}},
		{name: "no client", err: errBroke, gone: true, want: observe.Facts{End: observe.ClientGone, Err: errBroke, Code: "client_gone", GRPC: -1}},
		{name: "withdrawn, no answer", err: errBroke, gone: true, why: proxy.ErrWithdrawn, want: observe.Facts{End: observe.Withdrawn, Err: proxy.ErrWithdrawn, GRPC: -1}},
		{name: "withdrawn, own answer", resp: proxy.Response{Status: 499, Code: "client_gone"}, read: -1, gone: true, why: proxy.ErrWithdrawn,
			want: observe.Facts{End: observe.Withdrawn, Err: proxy.ErrWithdrawn, GRPC: -1}},
		{name: "own answer", resp: proxy.Response{Status: 503, Code: "no_endpoints"}, read: -1,
			want: observe.Facts{Status: 503, Code: "no_endpoints", End: observe.Complete, GRPC: -1}},
		{name: "grpc", resp: proxy.Response{Status: 200, Length: -1, Fields: grpc, Body: &body{text: "x", err: io.EOF,
			trailers: proxy.Fields{{Name: "grpc-status", Value: "14"}}}}, read: -1,
			want: observe.Facts{Status: 200, End: observe.Complete, BytesOut: 1, GRPC: 14}},
		{name: "grpc, head only", resp: proxy.Response{Status: 200, Fields: append(grpc[:1:1], proxy.Field{Name: "Grpc-Status", Value: "5"})}, read: -1,
			want: observe.Facts{Status: 200, End: observe.Complete, GRPC: 5}},
		{name: "content of the request", req: proxy.Request{Length: 3, Body: &body{text: "abc", err: io.EOF}}, resp: proxy.Response{Status: 200}, read: -1,
			want: observe.Facts{Status: 200, End: observe.Complete, BytesIn: 3, GRPC: -1}},
		{name: "stream", req: proxy.Request{Method: "CONNECT"}, resp: proxy.Response{Status: 200, Stream: &pipe{body: body{text: "hello", err: io.EOF}}},
			use: func(s proxy.Stream) {
				s.Write([]byte("hi"))
				s.CloseWrite()
				io.ReadAll(s)
			},
			want: observe.Facts{Shape: observe.Stream, Status: 200, End: observe.Complete, StreamDone: true, BytesIn: 2, BytesOut: 5, GRPC: -1}},
		{name: "stream that broke", req: proxy.Request{Method: "GET", Upgrade: "websocket"}, resp: proxy.Response{Status: 101, Stream: &pipe{body: body{err: errBroke}}},
			use:  func(s proxy.Stream) { io.ReadAll(s) },
			want: observe.Facts{Shape: observe.Stream, Status: 101, End: observe.Cut, Err: errBroke, GRPC: -1}},
		{name: "flow", req: proxy.Request{Method: "GET", Upgrade: proxy.ConnectUDP}, resp: proxy.Response{Status: 101, Stream: &pipe{}},
			want: observe.Facts{Shape: observe.Flow, Status: 101, End: observe.Complete, GRPC: -1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if f := c.want; f.Failed() != (f.Code != "" || f.End == observe.Cut || f.GRPC == 14) {
				t.Errorf("counts as a failure: %v", f.Failed())
			}
			proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
				s := rt.Shards()[0]
				got := new(sink)
				proxytest.Do(t, s, func() { play(t, s, rt, got, c.req, c.resp, c.err, c.read, c.gone, cmp.Or(c.why, errBroke), c.use) })
				if len(got.facts) != 1 {
					t.Fatalf("calls %q", got.calls)
				}
				f := got.facts[0]
				if f.Start == 0 || f.Stop < f.Start || (f.Head != 0) != (c.err == nil) {
					t.Errorf("times %v %v %v", f.Start, f.Head, f.Stop)
				}
				if want := map[bool]string{true: "bhd", false: "bd"}[c.err == nil]; got.calls != want {
					t.Errorf("calls %q, want %q", got.calls, want)
				}
				f.Start, f.Head, f.Stop, f.Request, f.Response, f.Parts = 0, 0, 0, nil, nil, observe.Parts{}
				if f != c.want {
					t.Errorf("\ngot  %+v\nwant %+v", f, c.want)
				}
				if len(got.events) != 1 || got.events[0].Text != "seen" {
					t.Errorf("events %v", got.events)
				}
			})
		})
	}
}

// play has a client send req, and do with the answer what it says.
func play(t *testing.T, s task.Shard, rt task.Runtime, got *sink, req proxy.Request, resp proxy.Response, err error, read int, gone bool, why error, use func(proxy.Stream)) {
	app := proxy.RoundTripperFunc(func(r *proxy.Request, a *proxy.Response) error {
		r.Note("test", "seen", 0)
		if b, ok := r.Body.(io.Reader); ok {
			io.ReadAll(b)
		}
		if gone {
			r.Cancel.Cancel(why)
		}
		if err != nil {
			return err
		}
		fresh := resp
		copyOf(&fresh)
		*a = fresh
		return nil
	})
	stack := observe.Layer(observe.Config{Shards: rt.Shards(), Sinks: []observe.Sink{got}})(app)
	if b, ok := req.Body.(*body); ok {
		clone := *b
		req.Body = &clone
	}
	req.Shard, req.Cancel = s, new(proxy.Cancel)
	var a proxy.Response
	if stack.RoundTrip(&req, &a) != nil {
		return
	}
	switch {
	case a.Body != nil && read < 0:
		io.ReadAll(a.Body)
	case a.Body != nil:
		io.ReadFull(a.Body, make([]byte, read))
	case use != nil:
		use(a.Stream)
	}
	a.Close()
	if req.Record != nil {
		t.Error("the Record is still there")
	}
}

// copyOf gives each runtime's subtest Fields, and a Body or a Stream, of its own.
func copyOf(r *proxy.Response) {
	r.Fields = slices.Clone(r.Fields)
	switch b := r.Body.(type) {
	case *body:
		clone := *b
		r.Body = &clone
	}
	if p, ok := r.Stream.(*pipe); ok {
		clone := *p
		r.Stream = &clone
	}
}

// resetter would end a Stream that its user has not ended, as those do who open one.
type resetter struct{ of proxy.Stream }

func (r *resetter) CloseResponse(resp *proxy.Response) { r.of = resp.Stream }

func TestStreamIsEndedByWhoMadeIt(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		proxytest.Do(t, s, func() {
			made, closer := new(pipe), new(resetter)
			layer := observe.Layer(observe.Config{Shards: rt.Shards(), Sinks: []observe.Sink{new(sink)}})
			var resp proxy.Response
			req := &proxy.Request{Method: "CONNECT", Shard: s, Cancel: new(proxy.Cancel)}
			err := layer(proxy.RoundTripperFunc(func(_ *proxy.Request, resp *proxy.Response) error {
				resp.Status, resp.Stream = 200, made
				resp.OnClose(closer)
				return nil
			})).RoundTrip(req, &resp)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Close()
			if closer.of != proxy.Stream(made) {
				t.Errorf("it was given %T to end, want what it made", closer.of)
			}
		})
	})
}

func TestNoSinksNoLayer(t *testing.T) {
	next := &endless{}
	if got := observe.Layer(observe.Config{})(next); got != proxy.RoundTripper(next) {
		t.Errorf("%T stands in the way", got)
	}
}

// greedy is a Sink that wants the beginning of each content.
type greedy struct{ in, out string }

func (g *greedy) Begin(e *observe.Entry) { e.Capture = 3 }
func (g *greedy) Head(*observe.Entry)    {}
func (g *greedy) Done(e *observe.Entry)  { g.in, g.out = string(e.In.Bytes()), string(e.Out.Bytes()) }

func TestCapture(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s, g := rt.Shards()[0], new(greedy)
		stack := observe.Layer(observe.Config{Shards: rt.Shards(), Sinks: []observe.Sink{g}})(proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			if req.Body != nil {
				io.ReadAll(req.Body)
			}
			resp.Status, resp.Length, resp.Body = 200, -1, &body{text: "hello", err: io.EOF}
			return nil
		}))
		for _, c := range []struct{ content, in string }{{"abcde", "abc"}, {"ab", "ab"}, {"", ""}} {
			proxytest.Do(t, s, func() {
				req, resp := proxy.Request{Shard: s, Cancel: new(proxy.Cancel)}, proxy.Response{}
				if c.content != "" {
					req.Length, req.Body = -1, &body{text: c.content, err: io.EOF}
				}
				if err := stack.RoundTrip(&req, &resp); err != nil {
					t.Error(err)
				}
				io.ReadAll(resp.Body)
				resp.Close()
			})
			if g.in != c.in || g.out != "hel" {
				t.Errorf("%q: captured %q and %q", c.content, g.in, g.out)
			}
		}
	})
}

// quiet is a Sink that keeps nothing.
type quiet struct{}

func (quiet) Begin(*observe.Entry) {}
func (quiet) Head(*observe.Entry)  {}
func (quiet) Done(*observe.Entry)  {}

// endless answers with the same content each time.
type endless struct{ b body }

func (e *endless) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	req.Note("test", "seen", 0)
	e.b = body{text: "hello", err: io.EOF}
	resp.Status, resp.Body, resp.Length = 200, &e.b, 5
	return nil
}

func exchange(s task.Shard, rt proxy.RoundTripper) func() error {
	req, resp, cancel := new(proxy.Request), new(proxy.Response), new(proxy.Cancel)
	fields := proxy.Fields{{Name: proxy.ToField, Value: "billing"}}
	buf := make([]byte, 16)
	return func() error {
		*req = proxy.Request{Method: "GET", Path: "/", Shard: s, Cancel: cancel, Fields: fields}
		if err := rt.RoundTrip(req, resp); err != nil {
			return err
		}
		_, err := resp.Body.Read(buf)
		resp.Close()
		return err
	}
}

func TestAllocatesNothing(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		proxytest.Do(t, s, func() {
			send := exchange(s, observe.Layer(observe.Config{Direction: observe.Inbound, Shards: rt.Shards(), Sinks: []observe.Sink{quiet{}}})(&endless{}))
			if n := testing.AllocsPerRun(100, func() {
				if err := send(); err != nil {
					t.Error(err)
				}
			}); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	})
}

// BenchmarkLayer is a request with the layer, and without.
func BenchmarkLayer(b *testing.B) {
	for _, x := range []struct {
		name  string
		sinks []observe.Sink
	}{{"none", nil}, {"one", []observe.Sink{quiet{}}}} {
		b.Run(x.name, func(b *testing.B) {
			run := task.NewGoroutines(task.Config{})
			proxytest.Start(b, run)
			s := run.Shards()[0]
			proxytest.Call(b, s, func() {
				send := exchange(s, observe.Layer(observe.Config{Shards: run.Shards(), Sinks: x.sinks})(&endless{}))
				b.ReportAllocs()
				for b.Loop() {
					if err := send(); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
