package main

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/bench/load"
	"github.com/pillion-proxy/pillion/bench/meter"
	"github.com/pillion-proxy/pillion/bench/peers"
)

// measured is a report of one scenario: the values of each peer's rounds.
func measured(t *testing.T, m metric, rounds map[string][]float64) *report {
	t.Helper()
	r := &report{}
	rep := r.add(&scenario{ID: "S1", Title: "a <title>", metrics: []metric{m}}, peers.All())
	for peer, values := range rounds {
		res := rep.result(peer)
		if res == nil {
			t.Fatalf("no peer %q", peer)
		}
		for _, v := range values {
			res.Rounds = append(res.Rounds, map[string]float64{m.Key: v})
		}
	}
	rep.finish()
	return r
}

func TestGoalComparesRoundByRoundWithTheBestPeer(t *testing.T) {
	m := metric{Key: "cpu_us", Name: "CPU per request", Unit: "µs", Ratio: 0.8}
	r := measured(t, m, map[string][]float64{
		"pillion": {10, 30, 8}, "haproxy-h2": {20, 40, 10}, "nginx": {50, 50, 50},
		"stunnel":  {1, 1, 1}, // understands no HTTP
		"naive-go": {2, 2, 2}, // is no more than a reference
	})
	goals := r.goals()
	if len(goals) != 1 {
		t.Fatalf("%d goals, want 1", len(goals))
	}
	if g := goals[0]; g.Best != "haproxy-h2" || g.BestHas != 20 || g.Ratio != 0.75 || !g.Met {
		t.Errorf("goal = %+v, want 0.75 of haproxy-h2's 20, met", g)
	}
	m.All = true
	if g := measured(t, m, map[string][]float64{"pillion": {10}, "haproxy-h2": {20}, "stunnel": {5}}).goals()[0]; g.Best != "stunnel" || g.Ratio != 2 || g.Met {
		t.Errorf("goal against all peers = %+v, want twice stunnel's, not met", g)
	}
}

func TestGoalWithALimit(t *testing.T) {
	m := metric{Key: "idle_mib", Name: "RSS", Unit: "MiB", Limit: 30}
	for rss, met := range map[float64]bool{29: true, 31: false} {
		if g := measured(t, m, map[string][]float64{"pillion": {rss}}).goals(); len(g) != 1 || g[0].Met != met {
			t.Errorf("goals with %v MiB = %+v, want one, met %v", rss, g, met)
		}
	}
}

// TestMemoryOfConnectionsIsJudgedByRSS: both growths are reported, and what decides is that of all resident memory.
func TestMemoryOfConnectionsIsJudgedByRSS(t *testing.T) {
	r := &report{}
	i := slices.IndexFunc(scenarios(), func(s scenario) bool { return s.ID == "S6" })
	rep := r.add(&scenarios()[i], peers.All())
	empty, full := meter.Memory{RSS: 20 << 20, Own: 8 << 20, PSS: 12 << 20}, meter.Memory{RSS: 24 << 20, Own: 9 << 20, PSS: 15 << 20}
	rep.result("pillion").Rounds = []map[string]float64{memoryFigures(empty, full, 2048)}
	rep.finish()
	for key, want := range map[string]float64{"idle_mib": 20, "pss_mib": 12, "conn_kib": 2, "conn_anon_kib": 0.5} {
		if got, ok := rep.result("pillion").Median[key]; !ok || got != want {
			t.Errorf("%s = %v, reported %v, want %v", key, got, ok, want)
		}
	}
	goals := r.goals()
	if len(goals) != 2 || !goals[0].Met || goals[1].Pillion != 2 || goals[1].Want != 1 || goals[1].Met {
		t.Errorf("goals = %+v, want that of idle memory met, and that of connections, at most 1, missed with 2", goals)
	}
}

func TestAddedLatencyIsThatOfTheSameRound(t *testing.T) {
	r := &report{}
	rep := r.add(&scenario{ID: "S3", metrics: []metric{{Key: "added_p50_us"}}}, peers.All())
	rep.result("direct").Rounds = []map[string]float64{{"p50_us": 50}, nil, {"p50_us": 70}}
	rep.result("pillion").Rounds = []map[string]float64{{"p50_us": 90}, {"p50_us": 500}, {"p50_us": 130}}
	rep.finish()
	if got := r.median("S3", "pillion", "added_p50_us"); got != 50 {
		t.Errorf("added p50 = %v, want 50, the median of 40 and 60", got)
	}
}

func TestReportSaysWhatCouldNotBeMeasured(t *testing.T) {
	r := measured(t, metric{Key: "cpu_us", Name: "CPU", Unit: "µs", Ratio: 1}, map[string][]float64{"pillion": {10}, "nginx": {20}})
	r.Peers = []peerReport{{Name: "stunnel", About: "a tunnel", Missing: "no such program"}}
	r.Scenarios[0].result("nghttpx").Why = "it has no such thing"
	r.Scenarios[0].result("stunnel").fail(errors.New("ended at once"))
	var out strings.Builder
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"MISSING: no such program", "nghttpx: not possible: it has no such thing", "stunnel: FAILED 1 times: ended at once", "0.50 of nginx"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, &out)
		}
	}
}

func TestPlotIsXML(t *testing.T) {
	r := measured(t, metric{Key: "cpu_us", Name: "CPU & more", Unit: "µs", Ratio: 0.8}, map[string][]float64{"pillion": {10, 12}, "nginx": {20, 30}, "direct": {0}})
	svg := plot(r)
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
	}
	for _, want := range []string{"pillion", "nginx", "25.0 µs", "CPU &amp; more"} {
		if !strings.Contains(svg, want) {
			t.Errorf("%q is not in\n%s", want, svg)
		}
	}
}

func TestValueHasThreeDigits(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.123: "0.12", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 12345: "12345", -1.5: "-1.50"} {
		if got := value(v, ""); got != want {
			t.Errorf("value(%v) = %q, want %q", v, got, want)
		}
	}
}

// TestScenariosReachTheirApps: every load is understood by the app that the scenario names, without a proxy.
func TestScenariosReachTheirApps(t *testing.T) {
	b := &bench{options: options{rounds: 1, round: 30 * time.Millisecond}}
	defer b.apps.stop()
	for _, s := range scenarios() {
		if s.load == nil || s.ID == "S9" {
			continue
		}
		addr, err := b.apps.addr(s.app)
		if err != nil {
			t.Fatal(err)
		}
		conf, err := s.load(b)
		if err != nil {
			t.Fatal(err)
		}
		conf.Addr, conf.Duration = addr, b.options.round
		res, err := load.Run(context.Background(), conf)
		for err == nil && res.Errors == 0 && res.Bytes == 0 && conf.Duration < 10*time.Second { // a busy machine may not answer in so short a time
			conf.Duration *= 4
			res, err = load.Run(context.Background(), conf)
		}
		if err != nil || res.Errors > 0 || res.Bytes == 0 {
			t.Errorf("%s: %+v, %v, want answers", s.ID, res, err)
			continue
		}
		for key, v := range s.figures(peers.Reading{Load: res}) {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Errorf("%s: %s = %v", s.ID, key, v)
			}
		}
	}
}
