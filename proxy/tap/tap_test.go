package tap

import (
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/observe"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// content is a Body.
type content struct{ *strings.Reader }

func (c content) Buffered() int          { return c.Len() }
func (c content) Trailers() proxy.Fields { return nil }
func (c content) Close() error           { return nil }

// app answers with the status in the Authority.
func app(req *proxy.Request, resp *proxy.Response) error {
	req.Service = proxy.Service{Name: "billing"}
	req.Endpoint = &proxy.Endpoint{Addr: netip.MustParseAddrPort("10.0.0.7:15008"), Identity: "spiffe://x/billing"}
	if req.Body != nil {
		io.ReadAll(req.Body)
	}
	resp.Status = 200
	if req.Path == "/503" {
		resp.Status, resp.Code = 503, "no_endpoints"
	}
	if req.IsConnect() {
		resp.Stream = nothing{}
		return nil
	}
	resp.Fields.Add("Set-Cookie", "a=secret")
	resp.Length, resp.Body = 5, content{strings.NewReader("hello")}
	return nil
}

// nothing is a Stream that ends at once.
type nothing struct{}

func (nothing) Read([]byte) (int, error)    { return 0, io.EOF }
func (nothing) Write(p []byte) (int, error) { return len(p), nil }
func (nothing) CloseWrite() error           { return nil }
func (nothing) Close() error                { return nil }
func (nothing) Reset() error                { return nil }

// send carries requests past the tap.
func send(t *testing.T, rt task.Runtime, tap *Tap, reqs ...proxy.Request) {
	s := rt.Shards()[0]
	stack := observe.Layer(observe.Config{Shards: rt.Shards(), Sinks: []observe.Sink{tap}})(proxy.RoundTripperFunc(app))
	proxytest.Do(t, s, func() {
		for _, req := range reqs {
			req.Shard, req.Cancel = s, new(proxy.Cancel)
			var resp proxy.Response
			if err := stack.RoundTrip(&req, &resp); err != nil {
				t.Error(err)
			}
			if resp.Body != nil {
				io.ReadAll(resp.Body)
			}
			resp.Close()
		}
	})
}

func drain(events <-chan Event) (all []Event) {
	for {
		select {
		case e := <-events:
			all = append(all, e)
		default:
			return all
		}
	}
}

func TestFilter(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		reqs := []proxy.Request{
			{Method: "GET", Path: "/orders/1", Fields: proxy.Fields{{Name: "X-Tenant", Value: "a"}}},
			{Method: "POST", Path: "/503"},
			{Method: "CONNECT"},
		}
		for _, c := range []struct {
			f    Filter
			want string // methods, in their order
		}{
			{Filter{}, "GET POST CONNECT CONNECT"},
			{Filter{Service: "billing"}, "GET POST CONNECT CONNECT"},
			{Filter{Service: "other"}, ""},
			{Filter{Direction: "outbound"}, "GET POST CONNECT CONNECT"},
			{Filter{Direction: "inbound"}, ""},
			{Filter{Shape: "stream"}, "CONNECT CONNECT"},
			{Filter{Method: "GET"}, "GET"},
			{Filter{Path: "/orders"}, "GET"},
			{Filter{Status: "503"}, "POST"},
			{Filter{Status: "5xx"}, "POST"},
			{Filter{Status: "2xx"}, "GET CONNECT CONNECT"},
			{Filter{Status: "20"}, ""},
			{Filter{Header: "x-tenant"}, "GET"},
			{Filter{Header: "x-tenant: a"}, "GET"},
			{Filter{Header: "x-tenant: b"}, ""},
			{Filter{Peer: "/billing"}, "GET POST CONNECT CONNECT"},
			{Filter{Peer: "/web"}, ""},
			{Filter{Slower: time.Hour}, ""},
		} {
			tap := New(false)
			events, stop := tap.Watch(Watch{Filter: c.f})
			send(t, rt, tap, reqs...)
			stop()
			var got []string
			for _, e := range drain(events) {
				got = append(got, e.Method)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%+v: %v, want %s", c.f, got, c.want)
			}
		}
	})
}

func TestEvent(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		for _, permitted := range []bool{true, false} {
			tap := New(permitted)
			events, stop := tap.Watch(Watch{Heads: true, Body: 4})
			send(t, rt, tap, proxy.Request{Method: "POST", Path: "/a?token=x&b=1", Length: 6, Body: content{strings.NewReader("abcdef")},
				Fields: proxy.Fields{{Name: "Authorization", Value: "Bearer x"}, {Name: "Accept", Value: "*/*"}}})
			stop()
			all := drain(events)
			if len(all) != 1 {
				t.Fatalf("%d events", len(all))
			}
			e := all[0]
			if e.What != "ended" || e.Status != 200 || e.BytesIn != 6 || e.BytesOut != 5 || e.Path != "/a?token=***&b=1" || e.Endpoint != "10.0.0.7:15008" || e.End != "complete" {
				t.Errorf("%+v", e)
			}
			if len(e.Request) != 2 || e.Request[0] != [2]string{"Authorization", "***"} || e.Request[1][1] != "*/*" || e.Response[0] != [2]string{"Set-Cookie", "***"} {
				t.Errorf("heads %v %v", e.Request, e.Response)
			}
			in, out := "abcd", "hell"
			if !permitted {
				in, out = "", ""
			}
			if string(e.In) != in || string(e.Out) != out {
				t.Errorf("permitted %v: contents %q %q", permitted, e.In, e.Out)
			}
		}
	})
}

// TestSlowWatcher: who does not read misses events, is told how many, and holds up nobody.
func TestSlowWatcher(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		tap := New(false)
		tap.now = func() time.Time { return time.Unix(1000, 0) }
		slow, stopSlow := tap.Watch(Watch{Rate: 1 << 20})
		few, stopFew := tap.Watch(Watch{Rate: 3})
		reqs := make([]proxy.Request, queue+10)
		for i := range reqs {
			reqs[i] = proxy.Request{Method: "GET", Path: "/"}
		}
		send(t, rt, tap, reqs...)
		if n := len(drain(slow)); n != queue {
			t.Errorf("the slow one got %d events", n)
		}
		if n := len(drain(few)); n != 3 {
			t.Errorf("the one that wants three a second got %d events", n)
		}
		tap.now = func() time.Time { return time.Unix(1001, 0) }
		send(t, rt, tap, reqs[0])
		if all := drain(slow); len(all) != 1 || all[0].Missed != 10 {
			t.Errorf("then %+v", all)
		}
		if all := drain(few); len(all) != 1 || all[0].Missed != uint64(len(reqs)-3) {
			t.Errorf("then %+v", all)
		}
		stopSlow()
		stopFew()
		stopFew()
		send(t, rt, tap, reqs[0])
		if len(drain(slow))+len(drain(few)) != 0 || tap.watching.Load() != 0 {
			t.Error("events after the end")
		}
	})
}

// TestNobodyWatches: then it costs nothing.
func TestNobodyWatches(t *testing.T) {
	tap := New(true)
	e := &observe.Entry{}
	if n := testing.AllocsPerRun(100, func() {
		tap.Begin(e)
		tap.Head(e)
		tap.Done(e)
	}); n != 0 || e.Capture != 0 {
		t.Errorf("%v allocations", n)
	}
}
