package dashboard

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/listeners/admin"
	"github.com/pillion-proxy/pillion/proxy/flight"
	"github.com/pillion-proxy/pillion/proxy/metrics"
	"github.com/pillion-proxy/pillion/proxy/observe"
)

// counts is a source whose service has 10 requests more each time it is asked, of 1 ms but for the last ten, of 100.
type counts struct {
	asked  int
	series metrics.Series
}

func (c *counts) source() Source {
	c.series.Key = metrics.Key{Service: "billing"}
	c.series.Outcomes = make(map[metrics.Outcome]uint64)
	return Source{
		Status: func() admin.Status { return admin.Status{Service: "web"} },
		Requests: func() metrics.Totals {
			c.asked++
			for i := range 10 {
				took := time.Millisecond
				if c.asked > 2 {
					took = 100 * time.Millisecond
				}
				c.series.Duration.Observe(took)
				c.series.Head.Observe(took)
				c.series.Outcomes[metrics.Outcome{Status: 200 + 300*(i/8), GRPC: -1}]++
			}
			return metrics.Totals{Series: map[metrics.Key]*metrics.Series{c.series.Key: &c.series}, Running: [2]int64{3, 0}}
		},
		Stories: func(int) ([]*flight.Story, map[flight.Reason]uint64) {
			return []*flight.Story{{ID: "1", Why: flight.Failed, Path: "/x"}}, map[flight.Reason]uint64{flight.Failed: 1}
		},
	}
}

func frameOf(t *testing.T, event []byte) *Frame {
	t.Helper()
	data, ok := strings.CutPrefix(string(event), "data: ")
	if !ok || !strings.HasSuffix(data, "\n\n") || strings.Count(data, "\n") != 2 || strings.Contains(data, ":null") {
		t.Fatalf("event %q", event)
	}
	f := new(Frame)
	if err := json.Unmarshal([]byte(data), f); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestFrames: rates and latencies are those of the last seconds, whoever asks meanwhile gets the same Frame, and what was counted long ago is forgotten.
func TestFrames(t *testing.T) {
	c := new(counts)
	e := NewEvents(c.source())
	now := time.Unix(1000, 0)
	e.now = func() time.Time { return now }
	f := frameOf(t, e.next())
	if f.Window != 0 || len(f.Edges) != 1 || f.Edges[0].Requests != 10 || f.Edges[0].Failed != 2 || f.Edges[0].Rate != 0 || f.Running["outbound"] != 3 || f.Stories[0].Path != "/x" {
		t.Errorf("first: %+v", f)
	}
	now = now.Add(fresh / 2)
	if e.next(); c.asked != 1 {
		t.Errorf("asked %d times for two watchers at once", c.asked)
	}
	now = now.Add(1550 * time.Millisecond)
	f = frameOf(t, e.next())
	if x := f.Edges[0]; f.Window != 2 || x.Rate != 5 || x.FailRate != 1 || x.millis() != 1 {
		t.Errorf("second: %+v", f)
	}
	for range 11 {
		now = now.Add(time.Second)
		e.next()
	}
	f = frameOf(t, e.next())
	if x := f.Edges[0]; f.Window != 10 || x.Rate != 10 || x.millis() != 100 {
		t.Errorf("later: %+v", f)
	}
	if len(e.samples) != window {
		t.Errorf("%d samples are kept", len(e.samples))
	}
	now = now.Add(time.Hour)
	if f = frameOf(t, e.next()); f.Window != 0 {
		t.Errorf("after an hour: %+v", f)
	}
}

// millis is rounded to what buckets can tell apart.
func (e Edge) millis() int { return int(e.P50*1000 + 0.1) }

// TestWatchers: each gets Frames, those beyond the bound are refused, and nothing is asked for when nobody watches.
func TestWatchers(t *testing.T) {
	c := new(counts)
	e := NewEvents(c.source())
	e.every = time.Millisecond
	srv := httptest.NewServer(e)
	defer srv.Close()
	if c.asked != 0 {
		t.Errorf("asked %d times before anybody watches", c.asked)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for i := range maxWatchers + 1 {
		req, err := http.NewRequestWithContext(ctx, "GET", srv.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if i == maxWatchers {
			if resp.StatusCode != 503 {
				t.Errorf("watcher %d: %d", i, resp.StatusCode)
			}
			continue
		}
		if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
			t.Errorf("Content-Type %q", got)
		}
		lines := bufio.NewReader(resp.Body)
		for range 3 {
			line, err := lines.ReadString('\n')
			if err != nil || !strings.HasPrefix(line, "data: {") {
				t.Fatalf("watcher %d: %q, %v", i, line, err)
			}
			if line, err = lines.ReadString('\n'); line != "\n" || err != nil {
				t.Fatalf("watcher %d: %q, %v", i, line, err)
			}
		}
	}
	cancel()
	for range 10_000 {
		if e.watchers.Load() == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%d watchers have not ended", e.watchers.Load())
}

// TestInbound: callers are told apart by who they are, whatever they speak.
func TestInbound(t *testing.T) {
	series := make(map[metrics.Key]*metrics.Series)
	for _, k := range []metrics.Key{{Direction: observe.Inbound, Port: 80, Peer: "spiffe://x/a", Version: 11}, {Direction: observe.Inbound, Port: 80, Peer: "spiffe://x/a", Version: 20},
		{Direction: observe.Inbound, Port: 80, Peer: "spiffe://x/b"}, {Direction: observe.Inbound, Port: 80, Shape: observe.Stream, Peer: "spiffe://x/b"}} {
		s := &metrics.Series{Key: k, Open: 1}
		s.Duration.Observe(time.Second)
		s.Head.Observe(time.Second)
		series[k] = s
	}
	got := edges(counted(&metrics.Totals{Series: series}), nil, 1)
	if len(got) != 2 || got[0].Peer != "spiffe://x/a" || got[0].Requests != 2 || got[1].Open != 2 {
		t.Errorf("%+v", got)
	}
}
