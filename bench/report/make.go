package report

import (
	"fmt"
	"time"

	"github.com/pillion-proxy/pillion/bench/load"
)

// Round is one measurement of one side.
type Round struct {
	Result *load.Result
	// CPU is what the proxies used in it; negative if nobody looked.
	CPU time.Duration
	// Memory is what they occupied at its end, in bytes; 0 if nobody looked.
	Memory int64
}

// Make adds up the rounds of both sides: direct[i] and via[i] are of the same round. r holds what the caller knows: versions, Load, targets.
func Make(r Report, direct, via []Round) *Report {
	r.Direct = side(r.Direct.Target, r.Load, direct)
	r.Via = side(r.Via.Target, r.Load, via)
	r.Rounds = min(len(direct), len(via))
	r.Differences = differences(r.Load, r.Direct.Rounds, r.Via.Rounds)
	r.Notes = append(append([]string{}, r.Notes...), notes(&r, direct, via)...)
	r.Summary = summary(&r)
	return &r
}

// side adds up one.
func side(target string, l Load, rounds []Round) Side {
	s := Side{Target: target, Rounds: []Figures{}, Curve: []Step{}, Series: []Point{}}
	sum := &load.Result{Latency: load.NewLatency(), Late: load.NewLatency(), Failures: map[string]uint64{}}
	var perRequest, perGiB, memory []float64
	for i, round := range rounds {
		f := figures(l, round)
		s.Rounds = append(s.Rounds, f)
		sum.Add(round.Result)
		if f.CPUPerRequest != nil {
			perRequest = append(perRequest, *f.CPUPerRequest)
		}
		if f.CPUPerGiB != nil {
			perGiB = append(perGiB, *f.CPUPerGiB)
		}
		if f.Memory != nil {
			memory = append(memory, float64(*f.Memory))
		}
		for _, p := range round.Result.Series {
			s.Series = append(s.Series, point(float64(i)*l.Seconds, p))
		}
	}
	s.All = figures(l, Round{Result: sum, CPU: -1})
	if len(perRequest) > 0 {
		s.All.CPUPerRequest = some(median(perRequest))
	}
	if len(perGiB) > 0 {
		s.All.CPUPerGiB = some(median(perGiB))
	}
	if len(memory) > 0 {
		bytes := int64(median(memory))
		s.All.Memory = &bytes
	}
	if l.Protocol != string(load.TCPBulk) {
		for _, step := range sum.Latency.Curve(40) {
			s.Curve = append(s.Curve, Step{step.Q, micros(step.At)})
		}
	}
	return s
}

// figures makes those of one measurement, or of several that were added up.
func figures(l Load, round Round) Figures {
	r := round.Result
	f := Figures{
		Requests: r.Requests, Errors: r.Errors, Unfinished: r.Unfinished, Failures: r.Failures, Seconds: r.Window.Seconds(),
		RequestsPerSecond: r.Throughput(), MiBPerSecond: r.BytesPerSecond() / (1 << 20), GeneratorShare: r.CPUShare,
	}
	f.Latency = Latency{quantile(r.Latency, 0.5), quantile(r.Latency, 0.9), quantile(r.Latency, 0.99), quantile(r.Latency, 0.999), quantile(r.Latency, 1), nil}
	if r.Latency.Count() > 0 {
		f.Latency.Mean = some(micros(r.Latency.Mean()))
	}
	f.GeneratorLate = quantile(r.Late, 0.99)
	if round.CPU >= 0 && r.Answered > 0 {
		f.CPUPerRequest = some(micros(round.CPU) / float64(r.Answered))
	}
	if round.CPU >= 0 && r.Bytes > 0 && l.Bulk() {
		f.CPUPerGiB = some(round.CPU.Seconds() / float64(r.Bytes) * (1 << 30))
	}
	if round.Memory > 0 {
		f.Memory = &round.Memory
	}
	return f
}

// point places an interval of a round, which begins at from, in the series of its side.
func point(from float64, p load.Point) Point {
	out := Point{Seconds: from + p.At.Seconds(), Errors: p.Errors}
	if length := p.Length.Seconds(); length > 0 {
		out.RequestsPerSecond = float64(p.Answers) / length
		out.MiBPerSecond = float64(p.Bytes) / (1 << 20) / length
	}
	if p.P50 > 0 {
		out.P50 = some(micros(p.P50))
	}
	if p.Max > 0 {
		out.Max = some(micros(p.Max))
	}
	return out
}

// measure is a figure whose difference is told.
type measure struct {
	name    string
	percent bool
	of      func(Figures) *float64
}

// measures are those of a load.
func measures(l Load) []measure {
	throughput := measure{"throughput", true, func(f Figures) *float64 { return &f.RequestsPerSecond }}
	if l.Bulk() {
		throughput.of = func(f Figures) *float64 { return &f.MiBPerSecond }
		return []measure{throughput}
	}
	return []measure{
		{"p50", false, func(f Figures) *float64 { return f.Latency.P50 }},
		{"p90", false, func(f Figures) *float64 { return f.Latency.P90 }},
		{"p99", false, func(f Figures) *float64 { return f.Latency.P99 }},
		{"p99.9", false, func(f Figures) *float64 { return f.Latency.P999 }},
		{"mean", false, func(f Figures) *float64 { return f.Latency.Mean }},
		throughput,
	}
}

// differences compares round by round. A figure that is missing in one round, for want of samples, is not compared at all.
func differences(l Load, direct, via []Figures) []Difference {
	all := []Difference{}
	for _, m := range measures(l) {
		var xs []float64
		for i := range min(len(direct), len(via)) {
			d, v := m.of(direct[i]), m.of(via[i])
			switch {
			case d == nil || v == nil || m.percent && *d == 0:
			case m.percent:
				xs = append(xs, 100*(*v / *d - 1))
			default:
				xs = append(xs, *v-*d)
			}
		}
		if len(xs) == 0 || len(xs) < min(len(direct), len(via)) {
			continue
		}
		diff := Difference{Figure: m.name, Unit: "us", Rounds: len(xs)}
		if m.percent {
			diff.Unit = "percent"
		}
		mean, reach, ok := interval(xs)
		if diff.Mean = mean; ok {
			diff.Low, diff.High = some(mean-reach), some(mean+reach)
		}
		all = append(all, diff)
	}
	return all
}

// find returns the difference of a figure, nil if there is none.
func (r *Report) find(figure string) *Difference {
	for i := range r.Differences {
		if r.Differences[i].Figure == figure {
			return &r.Differences[i]
		}
	}
	return nil
}

func some(x float64) *float64 { return &x }

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// quantile returns one in microseconds, nil if there are too few samples.
func quantile(l *load.Latency, q float64) *float64 {
	d, ok := l.Quantile(q)
	if !ok {
		return nil
	}
	return some(micros(d))
}

// summary says it in one sentence.
func summary(r *Report) string {
	first := measures(r.Load)[0] // p50, or the throughput of bytes
	d, direct, via := r.find(first.name), r.Direct.typical(first), r.Via.typical(first)
	switch {
	case d == nil || direct == nil || via == nil:
		return "Nothing can be said: there are too few answers on at least one side."
	case r.Load.Bulk():
		return fmt.Sprintf("Through the proxy %s instead of %s MiB/s: %s%s.", number(*via), number(*direct), signed(d.Mean, d.Unit), between(d))
	case d.Low != nil && *d.Low < 0 && *d.High > 0:
		return fmt.Sprintf("As far as can be told, the median request takes as long through the proxy as directly: %s%s.", signed(d.Mean, d.Unit), between(d))
	}
	word := "longer"
	if d.Mean < 0 {
		word = "shorter"
	}
	return fmt.Sprintf("Through the proxy the median request takes %s %s%s: %s instead of %s.", latency(abs(d.Mean)), word, between(d), latency(*via), latency(*direct))
}

func abs(x float64) float64 { return max(x, -x) }

// between is the interval of a difference in brackets, "" if it has none.
func between(d *Difference) string {
	if d.Low == nil {
		return ""
	}
	return fmt.Sprintf(" (95 %% interval: %s to %s)", signed(*d.Low, d.Unit), signed(*d.High, d.Unit))
}
