package dashboard

import (
	"cmp"
	"slices"
	"time"

	"github.com/pillion-proxy/pillion/listeners/admin"
	"github.com/pillion-proxy/pillion/proxy/flight"
	"github.com/pillion-proxy/pillion/proxy/metrics"
	"github.com/pillion-proxy/pillion/proxy/observe"
)

// Frame is what the page is told each second.
type Frame struct {
	At     time.Time    `json:"at"`
	Status admin.Status `json:"status"`
	// Window is how many seconds the rates and latencies of Edges are about; 0 in the first Frame, which knows of none.
	Window  float64   `json:"window_seconds"`
	Edges   []Edge    `json:"edges"`
	Stories []Summary `json:"stories"`
	// Kept is how many stories there ever were.
	Kept map[flight.Reason]uint64 `json:"kept"`
	// Running are the requests that run now.
	Running map[string]int64 `json:"running"`
}

// Edge is the requests between this sidecar and a service that it calls, or a caller of one of its app's ports.
type Edge struct {
	Direction observe.Direction `json:"direction"`
	Service   string            `json:"service,omitempty"`
	Port      uint16            `json:"port,omitempty"`
	Peer      string            `json:"peer,omitempty"`
	// Since the sidecar began.
	Requests uint64 `json:"requests"`
	Failed   uint64 `json:"failed"`
	Open     int64  `json:"open"` // Streams and Flows, now
	// Within Frame.Window, a second.
	Rate     float64 `json:"rate"`
	FailRate float64 `json:"fail_rate"`
	BytesIn  float64 `json:"bytes_in_rate"`
	BytesOut float64 `json:"bytes_out_rate"`
	// To the heads of answers, in seconds, within Frame.Window; 0 if there were none.
	P50 float64 `json:"p50_seconds"`
	P90 float64 `json:"p90_seconds"`
	P99 float64 `json:"p99_seconds"`
}

// Summary is a flight.Story in a line.
type Summary struct {
	ID        string            `json:"id"`
	Why       flight.Reason     `json:"why"`
	At        time.Time         `json:"at"`
	Direction observe.Direction `json:"direction"`
	Service   string            `json:"service,omitempty"`
	Peer      string            `json:"caller,omitempty"`
	Method    string            `json:"method"`
	Authority string            `json:"authority,omitempty"`
	Path      string            `json:"path,omitempty"`
	Status    int               `json:"status,omitempty"`
	Code      string            `json:"code,omitempty"`
	End       observe.End       `json:"end"`
	Duration  time.Duration     `json:"duration_ns"`
}

func summaries(stories []*flight.Story) []Summary {
	all := make([]Summary, 0, len(stories))
	for _, s := range stories {
		all = append(all, Summary{ID: s.ID, Why: s.Why, At: s.At, Direction: s.Direction, Service: s.Service, Peer: string(s.Peer), Method: s.Method,
			Authority: s.Authority, Path: s.Path, Status: s.Status, Code: s.Code, End: s.End, Duration: s.Duration})
	}
	return all
}

// edgeKey tells edges apart.
type edgeKey struct {
	direction observe.Direction
	service   string
	port      uint16
	peer      string
}

// count is what was counted for an edge.
type count struct {
	requests, failed, in, out uint64
	open                      int64
	head                      metrics.Histogram // of Exchanges
}

// counted sums the Series of each edge.
func counted(t *metrics.Totals) map[edgeKey]*count {
	all := make(map[edgeKey]*count)
	for _, x := range t.Series {
		k := edgeKey{direction: x.Direction, service: x.Service, port: x.Port}
		if x.Direction == observe.Inbound {
			k.peer = string(x.Peer)
		}
		c := all[k]
		if c == nil {
			c = new(count)
			all[k] = c
		}
		c.open += x.Open
		c.in += x.BytesIn
		c.out += x.BytesOut
		c.requests += x.Duration.Count
		for o, n := range x.Outcomes {
			if o.Failed() {
				c.failed += n
			}
		}
		if x.Shape == observe.Exchange {
			c.head.Add(&x.Head)
		}
	}
	return all
}

// edges says what was counted, and how it has grown since before, some seconds ago; 0 if there is no before.
func edges(now, before map[edgeKey]*count, seconds float64) []Edge {
	all := make([]Edge, 0, len(now))
	for k, c := range now {
		e := Edge{Direction: k.direction, Service: k.service, Port: k.port, Peer: k.peer, Requests: c.requests, Failed: c.failed, Open: c.open}
		if seconds > 0 {
			b := before[k]
			if b == nil {
				b = new(count)
			}
			e.Rate, e.FailRate = float64(c.requests-b.requests)/seconds, float64(c.failed-b.failed)/seconds
			e.BytesIn, e.BytesOut = float64(c.in-b.in)/seconds, float64(c.out-b.out)/seconds
			head := since(&c.head, &b.head)
			e.P50, e.P90, e.P99 = head.Quantile(0.5).Seconds(), head.Quantile(0.9).Seconds(), head.Quantile(0.99).Seconds()
		}
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b Edge) int {
		return cmp.Or(cmp.Compare(a.Direction, b.Direction), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Peer, b.Peer), cmp.Compare(a.Port, b.Port))
	})
	return all
}

// since is what now has counted and before has not; of its Buckets alone, which Quantile reads.
func since(now, before *metrics.Histogram) metrics.Histogram {
	h := metrics.Histogram{Count: now.Count - before.Count, Zero: now.Zero - before.Zero, First: now.First, Buckets: slices.Clone(now.Buckets)}
	for i, n := range before.Buckets {
		if at := before.First + i - now.First; at >= 0 && at < len(h.Buckets) {
			h.Buckets[at] -= n
		}
	}
	return h
}
