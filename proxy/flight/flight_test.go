package flight

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/answer"
	"github.com/pillion-proxy/pillion/proxy/observe"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// app answers as the request's Path says.
func app(req *proxy.Request, resp *proxy.Response) error {
	req.Service = proxy.Service{Name: "billing"}
	req.Endpoint = &proxy.Endpoint{Addr: netip.MustParseAddrPort("10.0.0.7:15008")}
	req.Note("test", "sent", 7)
	switch req.Path {
	case "/500":
		resp.Status = 500
	case "/down?key=secret":
		return &proxy.Error{Code: proxy.ConnectFailed, Detail: "dial 10.0.0.7:15008", Err: errors.New("refused")}
	case "/cut":
		resp.Status, resp.Length, resp.Body = 200, -1, cut{}
	case "/grpc":
		resp.Status = 200
		resp.Fields = proxy.Fields{{Name: "content-type", Value: "application/grpc"}, {Name: "grpc-status", Value: req.Authority}}
	case "/slow":
		req.Shard.Sleep(30 * time.Millisecond)
		resp.Status = 204
	default:
		resp.Status = 204
	}
	return nil
}

// cut is a content that breaks off.
type cut struct{}

func (cut) Read([]byte) (int, error) { return 0, errors.New("it broke") }
func (cut) Buffered() int            { return 0 }
func (cut) Trailers() proxy.Fields   { return nil }
func (cut) Close() error             { return nil }

func stack(rt task.Runtime, r *Recorder) proxy.RoundTripper {
	return observe.Layer(observe.Config{Shards: rt.Shards(), Sinks: []observe.Sink{r}})(answer.Rescue(observe.Attempts(proxy.RoundTripperFunc(app))))
}

// send returns the id that the answer shows.
func send(t *testing.T, s task.Shard, rt proxy.RoundTripper, req proxy.Request) string {
	req.Shard, req.Cancel, req.Method = s, new(proxy.Cancel), "GET"
	var resp proxy.Response
	if err := rt.RoundTrip(&req, &resp); err != nil {
		t.Error(err)
	}
	if resp.Body != nil {
		io.ReadAll(resp.Body)
	}
	id := resp.Fields.Get(answer.IDField)
	resp.Close()
	return id
}

func TestStories(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s, r := rt.Shards()[0], New(rt.Shards(), 0)
		proxytest.Do(t, s, func() {
			rt := stack(rt, r)
			for _, c := range []struct {
				req  proxy.Request
				want Reason
			}{
				{proxy.Request{Path: "/"}, ""},
				{proxy.Request{Path: "/500"}, Failed},
				{proxy.Request{Path: "/down?key=secret"}, Failed},
				{proxy.Request{Path: "/cut"}, Failed},
				{proxy.Request{Path: "/grpc", Authority: "0"}, ""},
				{proxy.Request{Path: "/grpc", Authority: "5"}, ""}, // NOT_FOUND is an answer
				{proxy.Request{Path: "/grpc", Authority: "14"}, Failed},
				{proxy.Request{Path: "/", Fields: proxy.Fields{{Name: "pillion-why", Value: "1"}}}, Asked},
				{proxy.Request{Path: "/500", Fields: proxy.Fields{{Name: AskField, Value: "1"}, {Name: "X-Request-Id", Value: "mine"}}}, Asked},
			} {
				before := len(r.Recent("", 100))
				id := send(t, s, rt, c.req)
				now := r.Recent("", 100)
				if kept := len(now) > before; kept != (c.want != "") || kept && now[0].Why != c.want {
					t.Errorf("%s: kept %v, want %q", c.req.Path, kept, c.want)
				}
				if c.want == "" || c.req.Path == "/cut" { // what is cut after the head cannot say so in the head
					continue
				}
				if got := r.Find(id); id == "" || len(got) != 1 {
					t.Errorf("%s: %d stories with id %q", c.req.Path, len(got), id)
				}
			}
			if got := r.Find("mine"); len(got) != 1 {
				t.Errorf("%d stories of a request with an id of its own", len(got))
			}
		})
		if got := fmt.Sprint(r.Totals()); got != "map[asked:2 failed:4]" {
			t.Error(got)
		}
	})
}

func TestStoryIsWhole(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s, r := rt.Shards()[0], New(rt.Shards(), 0)
		r.now = func() time.Time { return time.Unix(1000, 0) }
		var id string
		proxytest.Do(t, s, func() {
			id = send(t, s, stack(rt, r), proxy.Request{Path: "/down?key=secret", Authority: "billing:80", Client: netip.MustParseAddrPort("10.0.0.1:5"),
				Peer: &proxy.Peer{Identity: "spiffe://x/web"}})
		})
		got := r.Find(id)[0]
		if got.At.After(time.Unix(1000, 0)) || got.Duration < 0 || got.Head <= 0 && got.Duration > 0 {
			t.Errorf("times %+v", got)
		}
		if len(got.Events) != 2 || len(got.Attempts) != 1 {
			t.Fatalf("%+v", got)
		}
		for i := range got.Events {
			got.Events[i].After = 0
		}
		got.Attempts[0].Start, got.Attempts[0].End = 0, 0
		got.At, got.Duration, got.Head, got.ID, got.Parts = time.Time{}, 0, 0, "", observe.Parts{}
		want := Story{Why: Failed, Method: "GET", Authority: "billing:80", Path: "/down", Service: "billing", Client: "10.0.0.1:5", Peer: "spiffe://x/web", Status: 503,
			Code: "connect_failed", GRPC: -1, End: observe.Complete, BytesOut: got.BytesOut,
			Events: []Event{{Layer: "test", Text: "sent", N: 7, Endpoint: "10.0.0.7:15008"},
				{Layer: "answer", Text: "dial 10.0.0.7:15008: refused", N: 503, Endpoint: "10.0.0.7:15008"}},
			Attempts: []Attempt{{Endpoint: "10.0.0.7:15008", Code: "connect_failed"}}}
		if a, b := fmt.Sprintf("%+v", *got), fmt.Sprintf("%+v", want); a != b {
			t.Errorf("\ngot  %s\nwant %s", a, b)
		}
	})
}

// TestBounded: new stories push out the oldest of their own kind.
func TestBounded(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s, r := rt.Shards()[0], New(rt.Shards(), 3)
		proxytest.Do(t, s, func() {
			rt := stack(rt, r)
			ask := func(i int) proxy.Fields {
				return proxy.Fields{{Name: AskField, Value: "1"}, {Name: "X-Request-Id", Value: fmt.Sprint(i)}}
			}
			for i := range 2 {
				send(t, s, rt, proxy.Request{Path: "/", Fields: ask(i)})
			}
			for range 8 {
				send(t, s, rt, proxy.Request{Path: "/500"})
			}
			for i := 2; i < 5; i++ {
				send(t, s, rt, proxy.Request{Path: "/", Fields: ask(i)})
			}
		})
		if n := len(r.Recent(Failed, 100)); n != 3 {
			t.Errorf("%d failures are kept", n)
		}
		got := ""
		for _, s := range r.Recent(Asked, 100) {
			got += s.ID + " "
		}
		if got != "4 3 2 " {
			t.Errorf("kept %s, want the last three, the newest first", got)
		}
	})
}

// TestSlow: once enough is known of a service, a request that takes far longer than the others is kept.
func TestSlow(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s, r := rt.Shards()[0], New(rt.Shards(), 0)
		proxytest.Do(t, s, func() {
			rt := stack(rt, r)
			send(t, s, rt, proxy.Request{Path: "/slow"})
			if n := len(r.Recent(Slow, 10)); n != 0 {
				t.Errorf("%d slow ones before anything is known", n)
			}
			for range enough + relearn {
				send(t, s, rt, proxy.Request{Path: "/"})
			}
			r.shards[s.Index()].lastSlow = 0
			send(t, s, rt, proxy.Request{Path: "/slow", Authority: "this"})
		})
		kept := r.Recent(Slow, 10)
		if len(kept) == 0 || kept[0].Authority != "this" {
			t.Errorf("%d slow ones kept", len(kept))
		}
	})
}
