package observe_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/observe"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

const ms = task.Instant(time.Millisecond)

// TestParts: attempts as they stand in the Record, and what is made of them.
func TestParts(t *testing.T) {
	for _, c := range []struct {
		name     string
		d        observe.Direction
		attempts []proxy.Attempt // instants are since the request began
		queued   time.Duration
		want     observe.Parts // but Own, which depends on the clock
	}{
		{"none", observe.Outbound, nil, 0, observe.Parts{}},
		{"a pillion", observe.Outbound, []proxy.Attempt{{Start: 1, Head: 1 + 10*ms, Took: 7 * time.Millisecond, AppTook: 4 * time.Millisecond}}, 0,
			observe.Parts{Link: 3 * time.Millisecond, Peer: 3 * time.Millisecond, App: 4 * time.Millisecond}},
		{"no pillion", observe.Outbound, []proxy.Attempt{{Start: 1, Head: 1 + 10*ms}}, 0, observe.Parts{Link: 10 * time.Millisecond}},
		{"one that says too much", observe.Outbound, []proxy.Attempt{{Start: 1, Head: 1 + 10*ms, Took: time.Hour, AppTook: time.Minute}}, 0, observe.Parts{App: 10 * time.Millisecond}},
		{"the second one", observe.Outbound, []proxy.Attempt{{Start: 1, End: 1 + 5*ms}, {Start: 1 + 6*ms, Head: 1 + 10*ms, Took: 3 * time.Millisecond, AppTook: time.Millisecond}}, 0,
			observe.Parts{Link: 6 * time.Millisecond, Peer: 2 * time.Millisecond, App: time.Millisecond}},
		{"the app", observe.Inbound, []proxy.Attempt{{Start: 1, Head: 1 + 10*ms}}, 0, observe.Parts{App: 10 * time.Millisecond}},
		{"unsent", observe.Inbound, []proxy.Attempt{{Start: 1}}, 0, observe.Parts{}},
	} {
		proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
			s, got := rt.Shards()[0], new(sink)
			proxytest.Do(t, s, func() {
				stack := observe.Layer(observe.Config{Direction: c.d, Shards: rt.Shards(), Sinks: []observe.Sink{got}})(proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
					began := s.Now()
					for _, a := range c.attempts {
						*req.Record.Try(0) = proxy.Attempt{Start: began + a.Start, Head: after(began, a.Head), End: after(began, a.End), Took: a.Took, AppTook: a.AppTook}
					}
					req.Record.Queued = c.queued
					resp.Status = 200
					return nil
				}))
				req, resp := proxy.Request{Method: "GET", Shard: s, Cancel: new(proxy.Cancel)}, proxy.Response{}
				if err := stack.RoundTrip(&req, &resp); err != nil {
					t.Error(err)
				}
				resp.Close()
			})
			p := got.facts[0].Parts
			if p.Own = 0; p != c.want {
				t.Errorf("%s: got %+v, want %+v", c.name, p, c.want)
			}
		})
	}
}

func after(began, d task.Instant) task.Instant {
	if d == 0 {
		return 0
	}
	return began + d
}

// TestTook: a calling pillion is told, nobody else is; an app that asks gets Server-Timing.
func TestTook(t *testing.T) {
	for _, c := range []struct {
		d          observe.Direction
		name, want string // the fields of the request and of the answer
	}{
		{observe.Inbound, proxy.ToField, proxy.TookField},
		{observe.Inbound, "X", ""},
		{observe.Inbound, observe.TimingField, ""},
		{observe.Outbound, proxy.ToField, ""},
		{observe.Outbound, observe.TimingField, "Server-Timing"},
	} {
		proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
			s := rt.Shards()[0]
			proxytest.Do(t, s, func() {
				stack := observe.Layer(observe.Config{Direction: c.d, Shards: rt.Shards(), Sinks: []observe.Sink{new(sink)}})(&endless{})
				req := proxy.Request{Method: "GET", Shard: s, Cancel: new(proxy.Cancel), Fields: proxy.Fields{{Name: c.name, Value: "1"}}}
				var resp proxy.Response
				if err := stack.RoundTrip(&req, &resp); err != nil {
					t.Error(err)
				}
				switch {
				case c.want == "" && len(resp.Fields) != 0, c.want != "" && !resp.Fields.Has(c.want):
					t.Errorf("%v %s: the answer has %v", c.d, c.name, resp.Fields)
				case c.want == proxy.TookField:
					if _, _, ok := proxy.ParseTook(resp.Fields.Get(c.want)); !ok {
						t.Errorf("%q", resp.Fields.Get(c.want))
					}
				case c.want != "" && !strings.HasPrefix(resp.Fields.Get(c.want), "pillion-queue;dur=0.000, pillion-own;dur="):
					t.Errorf("%q", resp.Fields.Get(c.want))
				}
				resp.Close()
			})
		})
	}
}

func TestPartsString(t *testing.T) {
	p := observe.Parts{Own: 1500, App: 2 * time.Millisecond}
	if got := p.String(); got != "own 2µs, app 2ms" {
		t.Errorf("%q", got)
	}
	if got := new(observe.Parts).String(); got != "" {
		t.Errorf("%q", got)
	}
}
