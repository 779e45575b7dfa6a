package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/pillion-proxy/pillion/cmd/internal/dashboard"
	"github.com/pillion-proxy/pillion/cmd/internal/scrape"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/answer"
	"github.com/pillion-proxy/pillion/proxy/flight"
	"github.com/pillion-proxy/pillion/proxy/metrics"
	"github.com/pillion-proxy/pillion/proxy/observe"
	"github.com/pillion-proxy/pillion/proxy/tap"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// pages are what the observers have to show, behind the admin listener's guard.
func (s *sidecar) pages() map[string]http.Handler {
	return map[string]http.Handler{
		"GET /metrics":  scrape.Handler(scrape.Source{Requests: s.totals, Status: s.status, Counters: s.Observers.counters}),
		"GET /requests": http.HandlerFunc(s.servedRequests),
		"GET /why":      http.HandlerFunc(s.servedStories),
		"GET /tap":      http.HandlerFunc(s.servedTap),
		"GET /config":   http.HandlerFunc(s.servedConfig),
		"GET /peers":    &peersPage{ask: s.peers},
		"GET /events":   dashboard.NewEvents(dashboard.Source{Status: s.status, Requests: s.totals, Stories: s.stories}),
	}
}

// stories are the latest, and how many there ever were.
func (s *sidecar) stories(n int) ([]*flight.Story, map[flight.Reason]uint64) {
	return s.Observers.flight.Recent("", n), s.Observers.flight.Totals()
}

// servedConfig is the configuration that is in force.
func (s *sidecar) servedConfig(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprint(w, s.config().Brief())
}

// totals sums what the shards have counted.
func (s *sidecar) totals() metrics.Totals {
	ctx, cancel := context.WithTimeout(context.Background(), gatherTimeout)
	defer cancel()
	var t metrics.Totals
	for _, sh := range s.Shards {
		var one metrics.Totals
		if task.Call(ctx, sh, func() { s.Observers.metrics.Collect(sh, &one) }) == nil {
			t.Add(&one)
		}
	}
	return t
}

// requestRow is a Series as /requests shows it.
type requestRow struct {
	Direction observe.Direction `json:"direction"`
	Shape     observe.Shape     `json:"shape"`
	Service   string            `json:"service,omitempty"`
	Port      uint16            `json:"port,omitempty"`
	Route     int               `json:"route,omitempty"`
	Peer      proxy.Identity    `json:"peer,omitempty"`
	Protocol  int               `json:"protocol,omitempty"` // 11 is HTTP/1.1, 20 is HTTP/2
	Requests  uint64            `json:"requests"`
	Failed    uint64            `json:"failed"` // answers of pillion's own, 5xx, ends before the end
	Open      int64             `json:"open,omitempty"`
	BytesIn   uint64            `json:"bytes_in"`
	BytesOut  uint64            `json:"bytes_out"`
	P50       float64           `json:"p50_seconds"`
	P90       float64           `json:"p90_seconds"`
	P99       float64           `json:"p99_seconds"`
}

func newRequestRow(x *metrics.Series) requestRow {
	r := requestRow{Direction: x.Direction, Shape: x.Shape, Service: x.Service, Port: x.Port, Route: x.Rule, Peer: x.Peer, Protocol: int(x.Version),
		Requests: x.Duration.Count, Open: x.Open, BytesIn: x.BytesIn, BytesOut: x.BytesOut,
		P50: x.Duration.Quantile(0.5).Seconds(), P90: x.Duration.Quantile(0.9).Seconds(), P99: x.Duration.Quantile(0.99).Seconds()}
	for o, n := range x.Outcomes {
		if o.Failed() {
			r.Failed += n
		}
	}
	return r
}

func (s *sidecar) servedRequests(w http.ResponseWriter, _ *http.Request) {
	t := s.totals()
	rows := make([]requestRow, 0, len(t.Series))
	for _, x := range t.Series {
		rows = append(rows, newRequestRow(x))
	}
	slices.SortFunc(rows, func(a, b requestRow) int {
		return cmp.Or(cmp.Compare(a.Direction, b.Direction), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Route, b.Route),
			cmp.Compare(a.Peer, b.Peer), cmp.Compare(a.Shape, b.Shape), cmp.Compare(a.Protocol, b.Protocol))
	})
	serveJSON(w, map[string]any{"running": map[string]int64{"outbound": t.Running[observe.Outbound], "inbound": t.Running[observe.Inbound]}, "requests": rows})
}

// storyView is a Story, and what to do about it.
type storyView struct {
	*flight.Story
	Advice string `json:"advice,omitempty"`
}

// maxStories bounds an answer of /why.
const maxStories = 1000

// servedStories answers with the stories of one id, or with the latest.
func (s *sidecar) servedStories(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var stories []*flight.Story
	if id := q.Get("id"); id != "" {
		stories = s.Observers.flight.Find(id)
	} else {
		n, err := strconv.Atoi(cmp.Or(q.Get("n"), "20"))
		why := flight.Reason(q.Get("why"))
		if err != nil || n < 1 || !slices.Contains([]flight.Reason{"", flight.Failed, flight.Slow, flight.Asked}, why) {
			http.Error(w, "n is a number from 1, and why is failed, slow or asked", http.StatusBadRequest)
			return
		}
		stories = s.Observers.flight.Recent(why, min(n, maxStories))
	}
	views := make([]storyView, 0, len(stories))
	for _, one := range stories {
		views = append(views, storyView{one, answer.Advice(proxy.Code(one.Code))})
	}
	serveJSON(w, map[string]any{"stories": views, "kept": s.Observers.flight.Totals()})
}

func serveJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // the client has left
}

// readWatch reads what a watcher wants from a query.
func readWatch(q url.Values) (tap.Watch, error) {
	w := tap.Watch{Filter: tap.Filter{
		Direction: q.Get("direction"), Shape: q.Get("shape"), Service: q.Get("service"), Peer: q.Get("peer"),
		Method: q.Get("method"), Path: q.Get("path"), Status: q.Get("status"), Header: q.Get("header"),
	}, Heads: q.Has("heads")}
	var err error
	if v := q.Get("slower"); v != "" {
		if w.Slower, err = time.ParseDuration(v); err != nil {
			return w, fmt.Errorf("slower: %q is no duration, as 100ms is", v)
		}
	}
	for name, to := range map[string]*int{"rate": &w.Rate, "body": &w.Body} {
		if v := q.Get(name); v != "" {
			if *to, err = strconv.Atoi(v); err != nil || *to < 0 {
				return w, fmt.Errorf("%s: %q is no number", name, v)
			}
		}
	}
	return w, w.Check()
}

// tapQuiet is how long a watcher waits at most for a sign that the sidecar is there.
const tapQuiet = 5 * time.Second

// servedTap writes events as they happen: one JSON object a line, or as server-sent events if the client asks for those.
func (s *sidecar) servedTap(w http.ResponseWriter, r *http.Request) {
	watch, err := readWatch(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if watch.Body > 0 && !s.Observers.tap.Bodies() {
		http.Error(w, "contents are not shown: admin.tap_bodies is false", http.StatusForbidden)
		return
	}
	sse := r.Header.Get("Accept") == "text/event-stream"
	before, after, quiet := "", "\n", "\n"
	w.Header().Set("Content-Type", "application/x-ndjson")
	if sse {
		before, after, quiet = "data: ", "\n\n", ":\n\n"
		w.Header().Set("Content-Type", "text/event-stream")
	}
	events, stop := s.Observers.tap.Watch(watch)
	defer stop()
	out := http.NewResponseController(w)
	tick := time.NewTicker(tapQuiet)
	defer tick.Stop()
	for {
		if out.SetWriteDeadline(time.Now().Add(2*tapQuiet)) != nil || out.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
			_, err = fmt.Fprint(w, quiet)
		case e := <-events:
			var line []byte
			if line, err = json.Marshal(e); err == nil {
				_, err = fmt.Fprint(w, before, string(line), after)
			}
		}
		if err != nil {
			return
		}
	}
}
