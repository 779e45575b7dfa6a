package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// round is what one pair did in one round.
type round struct {
	Requests      int     `json:"requests"`
	RequestsPerS  float64 `json:"requests_per_s"`
	CPUPerRequest float64 `json:"cpu_us_per_request"`
	P50           float64 `json:"p50_us"`
	P99           float64 `json:"p99_us"`
}

// newRound turns readings into figures.
func newRound(res *loadResult, cpu time.Duration) round {
	return round{
		Requests:      res.requests,
		RequestsPerS:  float64(res.requests) / res.elapsed.Seconds(),
		CPUPerRequest: micros(cpu) / float64(max(res.requests, 1)),
		P50:           micros(res.latency.quantile(0.5)),
		P99:           micros(res.latency.quantile(0.99)),
	}
}

// micros is d in microseconds.
func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// result is a pair's rounds and their medians.
type result struct {
	Name   string  `json:"name"`
	Median round   `json:"median"`
	Rounds []round `json:"rounds"`
}

// add counts a round and moves the medians.
func (r *result) add(x round) {
	r.Rounds = append(r.Rounds, x)
	r.Median = round{
		Requests:      int(r.median(func(x round) float64 { return float64(x.Requests) })),
		RequestsPerS:  r.median(func(x round) float64 { return x.RequestsPerS }),
		CPUPerRequest: r.median(func(x round) float64 { return x.CPUPerRequest }),
		P50:           r.median(func(x round) float64 { return x.P50 }),
		P99:           r.median(func(x round) float64 { return x.P99 }),
	}
}

// median is that of one figure over the rounds.
func (r *result) median(figure func(round) float64) float64 {
	all := make([]float64, len(r.Rounds))
	for i, x := range r.Rounds {
		all[i] = figure(x)
	}
	slices.Sort(all)
	n := len(all)
	return (all[(n-1)/2] + all[n/2]) / 2
}

// report is the whole outcome.
type report struct {
	Connections int       `json:"connections"`
	AnswerBytes int       `json:"answer_bytes"`
	Results     []*result `json:"results"`
	// Ratio is the median, over the rounds, of pillion's CPU per request divided by HAProxy's in the same round; 0 if one of them did not run.
	Ratio float64 `json:"ratio_pillion_to_haproxy"`
}

// named returns the result of a pair, or nil.
func (r *report) named(name string) *result {
	i := slices.IndexFunc(r.Results, func(x *result) bool { return x.Name == name })
	if i < 0 {
		return nil
	}
	return r.Results[i]
}

// compare sets Ratio.
func (r *report) compare() {
	ours, theirs := r.named("pillion"), r.named("haproxy")
	if ours == nil || theirs == nil {
		return
	}
	ratios := &result{}
	for i := range min(len(ours.Rounds), len(theirs.Rounds)) {
		ratios.Rounds = append(ratios.Rounds, round{CPUPerRequest: ours.Rounds[i].CPUPerRequest / theirs.Rounds[i].CPUPerRequest})
	}
	r.Ratio = ratios.median(func(x round) float64 { return x.CPUPerRequest })
}

// print writes the table.
func (r *report) print(w io.Writer) error {
	fmt.Fprintf(w, "%d keep-alive connections, %d byte answers, closed loop; medians\n\n", r.Connections, r.AnswerBytes)
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\tCPU µs/request of the pair\trequests/s\tp50 µs\tp99 µs\trounds\t\n")
	for _, x := range r.Results {
		m := x.Median
		fmt.Fprintf(t, "%s\t%.1f\t%.0f\t%.0f\t%.0f\t%d\t\n", x.Name, m.CPUPerRequest, m.RequestsPerS, m.P50, m.P99, len(x.Rounds))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if r.Ratio != 0 {
		fmt.Fprintf(w, "\npillion / haproxy, CPU per request: %.2f\n", r.Ratio)
	}
	return nil
}
