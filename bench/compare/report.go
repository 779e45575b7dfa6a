package main

import (
	"bufio"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/pillion-proxy/pillion/bench/peers"
)

// report is everything that was measured.
type report struct {
	Date      time.Time         `json:"date"`
	Machine   machine           `json:"machine"`
	Rounds    int               `json:"rounds"`
	Round     float64           `json:"round_s"`
	Peers     []peerReport      `json:"peers"`
	Notes     []string          `json:"notes,omitempty"`
	Scenarios []*scenarioReport `json:"scenarios"`
	Goals     []goal            `json:"goals"`
}

// machine is where it was measured.
type machine struct {
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	Load   string `json:"load_at_start"` // that others made before it began
}

// peerReport is what is known of a peer.
type peerReport struct {
	Name    string `json:"name"`
	About   string `json:"about"`
	Version string `json:"version,omitempty"`
	Missing string `json:"missing,omitempty"` // why it could not be had
}

// scenarioReport is one scenario with all peers.
type scenarioReport struct {
	ID      string    `json:"id"`
	Title   string    `json:"title"`
	Why     string    `json:"why_not,omitempty"` // it was not run
	Metrics []metric  `json:"metrics"`
	Results []*result `json:"results"`
}

// result is one peer in one scenario.
type result struct {
	Peer   string               `json:"peer"`
	field  bool                 // pillion is compared with it
	aware  bool                 // it understands HTTP
	Why    string               `json:"why_not,omitempty"`  // it cannot carry this
	Failed []string             `json:"failures,omitempty"` // it should have
	Notes  []string             `json:"notes,omitempty"`
	Rounds []map[string]float64 `json:"rounds"` // nil is a round that failed
	Median map[string]float64   `json:"median"`
}

func (r *result) fail(err error) { r.Failed = append(r.Failed, err.Error()) }

// note keeps the first of each kind: they differ in figures only.
func (r *result) note(s string) {
	if len(r.Notes) == 0 {
		r.Notes = append(r.Notes, s)
	}
}

// begin takes down what is known before anything runs.
func (r *report) begin(b *bench) {
	r.Date, r.Rounds, r.Round = time.Now().UTC(), b.options.rounds, b.options.round.Seconds()
	r.Machine = machine{CPUs: runtime.NumCPU(), Go: runtime.Version(), CPU: line("/proc/cpuinfo", "model name"), Kernel: line("/proc/sys/kernel/osrelease", ""), Load: line("/proc/loadavg", "")}
}

// describe takes down the peers, once those that can be had are installed.
func (r *report) describe(b *bench) {
	for _, p := range b.peers {
		rep := peerReport{Name: p.Name, About: p.About, Version: b.bed.Version(p)}
		if _, err := b.bed.Find(p); err != nil {
			rep.Missing = err.Error()
		}
		r.Peers = append(r.Peers, rep)
	}
}

// line is the rest of the first line of a file that begins with a name, "" if there is none.
func line(path, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), name); ok {
			return strings.TrimLeft(rest, "\t: ")
		}
	}
	return ""
}

// add begins the report of a scenario.
func (r *report) add(s *scenario, all []peers.Peer) *scenarioReport {
	rep := &scenarioReport{ID: s.ID, Title: s.Title, Metrics: s.metrics}
	for _, p := range all {
		rep.Results = append(rep.Results, &result{Peer: p.Name, field: p.Field, aware: p.Aware})
	}
	r.Scenarios = append(r.Scenarios, rep)
	return rep
}

// median is one figure of what has been measured so far, 0 if it has not been.
func (r *report) median(id, peer, key string) float64 {
	for _, s := range r.Scenarios {
		if s.ID != id {
			continue
		}
		if res := s.result(peer); res != nil {
			return res.Median[key]
		}
	}
	return 0
}

// result returns the result of a peer, nil if it does not take part.
func (s *scenarioReport) result(peer string) *result {
	for _, res := range s.Results {
		if res.Peer == peer {
			return res
		}
	}
	return nil
}

// finish computes what needs all peers, and the medians.
func (s *scenarioReport) finish() {
	if direct := s.result("direct"); direct != nil {
		for _, res := range s.Results {
			if res != direct {
				res.addedTo(direct)
			}
		}
	}
	for _, res := range s.Results {
		res.Median = map[string]float64{}
		for _, m := range s.Metrics {
			if v, ok := medianOf(res.Rounds, func(x map[string]float64, _ int) (float64, bool) { v, ok := x[m.Key]; return v, ok }); ok {
				res.Median[m.Key] = v
			}
		}
	}
}

// addedTo computes the latencies that a peer adds to the direct ones of the same round.
func (r *result) addedTo(direct *result) {
	for i, x := range r.Rounds {
		for added, key := range map[string]string{"added_p50_us": "p50_us", "added_p99_us": "p99_us"} {
			v, ok := x[key]
			if i < len(direct.Rounds) && ok {
				if base, ok := direct.Rounds[i][key]; ok {
					x[added] = v - base
				}
			}
		}
	}
}

// medianOf is the median over the rounds that have a value.
func medianOf(rounds []map[string]float64, f func(round map[string]float64, i int) (float64, bool)) (float64, bool) {
	var all []float64
	for i, x := range rounds {
		if v, ok := f(x, i); ok {
			all = append(all, v)
		}
	}
	if len(all) == 0 {
		return 0, false
	}
	slices.Sort(all)
	n := len(all)
	return (all[(n-1)/2] + all[n/2]) / 2, true
}
