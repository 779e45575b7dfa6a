package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pillion-proxy/pillion/bench/load"
)

// notes says what to know before believing the figures.
func notes(r *Report, direct, via []Round) []string {
	var all []string
	if r.Interrupted {
		all = append(all, fmt.Sprintf("It was interrupted: the figures are of %d of %d rounds.", r.Rounds, r.Load.Rounds))
	}
	for _, s := range []struct {
		name string
		side *Side
	}{{"directly", &r.Direct}, {"through the proxy", &r.Via}} {
		all = append(all, failures(s.name, &s.side.All)...)
	}
	all = append(all, bottlenecks(append(slices.Clone(direct), via...))...)
	all = append(all, refused(r)...)
	if n := r.Rounds; n > 0 && n < minRounds {
		all = append(all, fmt.Sprintf("An interval needs %d rounds; there are %d.", minRounds, n))
	}
	return all
}

// failures says what went wrong on one side.
func failures(name string, f *Figures) []string {
	var all []string
	if f.Errors > 0 {
		reasons := slices.SortedFunc(maps.Keys(f.Failures), func(a, b string) int { return int(f.Failures[b]) - int(f.Failures[a]) })
		var told []string
		for _, why := range reasons[:min(3, len(reasons))] {
			told = append(told, fmt.Sprintf("%s (%d)", why, f.Failures[why]))
		}
		all = append(all, fmt.Sprintf("%s of %s requests failed %s: %s.", thousands(int64(f.Errors)), thousands(int64(f.Errors+f.Requests+f.Unfinished)), name, strings.Join(told, ", ")))
	}
	if f.Unfinished > 0 {
		all = append(all, fmt.Sprintf("%s requests had no answer %s when their time was over; they count with their age then. Is the rate more than can be served?", thousands(int64(f.Unfinished)), name))
	}
	return all
}

// bottlenecks says once what the generator says of itself.
func bottlenecks(rounds []Round) []string {
	said, n := "", 0
	for _, round := range rounds {
		if why := round.Result.Bottleneck(); why != "" {
			n++
			if said == "" {
				said = why
			}
		}
	}
	if n == 0 {
		return nil
	}
	return []string{fmt.Sprintf("In %d of %d measurements %s.", n, len(rounds), said)}
}

// refused says which percentiles are not told, and what they need.
func refused(r *Report) []string {
	if r.Load.Bulk() || r.Rounds == 0 {
		return nil
	}
	var all []string
	for _, p := range []struct {
		name string
		q    float64
		of   func(Figures) *float64
	}{
		{"p50", 0.5, func(f Figures) *float64 { return f.Latency.P50 }},
		{"p90", 0.9, func(f Figures) *float64 { return f.Latency.P90 }},
		{"p99", 0.99, func(f Figures) *float64 { return f.Latency.P99 }},
		{"p99.9", 0.999, func(f Figures) *float64 { return f.Latency.P999 }},
	} {
		least := min(r.Direct.All.samples(), r.Via.All.samples())
		if p.of(r.Direct.All) == nil || p.of(r.Via.All) == nil {
			all = append(all, fmt.Sprintf("%s is not told: it needs %s requests on each side, and there are %s. Measure longer or at a higher rate.",
				p.name, thousands(load.Needed(p.q)), thousands(least)))
			continue
		}
		if r.find(p.name) == nil {
			all = append(all, fmt.Sprintf("The difference of %s is not told: it needs %s requests on each side in every round. Lengthen --duration, or raise the rate.",
				p.name, thousands(load.Needed(p.q))))
		}
	}
	return all
}

// samples is how many latencies there are.
func (f *Figures) samples() int64 { return int64(f.Requests + f.Unfinished) }
