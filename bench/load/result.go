package load

import (
	"fmt"
	"time"
)

// Result is what a run saw.
type Result struct {
	// Requests is the number of requests of the window that were answered well. Latency holds theirs and those of the Unfinished.
	Requests uint64
	// Errors is the number of requests of the window that failed; Failures counts them by reason, the rarer reasons as "other".
	Errors   uint64
	Failures map[string]uint64
	// Unfinished is the number of requests of the window without an answer at the end of the grace. For an open loop this includes those that were
	// due and could not even be sent, because all places were taken.
	Unfinished uint64
	// Latency is the distribution, from the moment a request was due until its answer was whole.
	Latency *Latency
	// Series is the window in intervals, by the moment of the answer.
	Series []Point

	// Answered is the number of answers, good or bad, that came between OnBegin and OnEnd, whenever their requests were due, Bytes the number of bytes received,
	// and Elapsed the time between them: these belong together with what meters said at OnBegin and OnEnd.
	Answered uint64
	Bytes    uint64
	Elapsed  time.Duration

	// WindowAnswers and WindowBytes are those that came within the window, of which Window is the length: Config.Duration, unless it was interrupted.
	WindowAnswers, WindowBytes uint64
	Window                     time.Duration

	// CPU is the processor time of the generator in the window (that of the whole process where the system does not tell threads apart),
	// CPUShare the part of the window that its busiest thread computed, from 0 to 1.
	CPU      time.Duration
	CPUShare float64
	// Late is how much later than due the open loop noticed that requests were due: the generator's own lag, not the target's.
	Late *Latency
	// Interrupted is whether ctx ended before the window did.
	Interrupted bool
	// Reconnects is the number of connections that the target closed in the window and that were made anew.
	Reconnects uint64

	interval time.Duration
	cells    []cell
}

// Point is one interval of a Result.
type Point struct {
	At       time.Duration // from the beginning of the window to the beginning of the interval
	Length   time.Duration
	Answers  uint64
	Errors   uint64
	P50, P99 time.Duration // 0 if there are too few samples
	Max      time.Duration
	Bytes    uint64
}

// cell is a Point under way.
type cell struct {
	answers, errors, bytes uint64
	latency                *Latency
}

const (
	maxReasons  = 16                    // reasons that are told apart
	maxPoints   = 600                   // intervals; later answers go to the last one
	busyShare   = 0.9                   // of a thread, from which on it was the bottleneck
	lateShare   = 0.25                  // of a percentile of the latency, from which on the generator's lag colours it
	lateLeast   = 50 * time.Microsecond // the lag of any timer
	seriesDigit = 2                     // significant digits of the latencies of one interval
)

func newResult(c *Config, whole bool) *Result {
	return &Result{Failures: map[string]uint64{}, Latency: NewLatency(), Late: NewLatency(), Interrupted: !whole, interval: c.Interval}
}

// add takes in what a worker, which has ended, has seen.
func (r *Result) add(w *worker) {
	t := &w.tally
	r.Requests += t.requests
	r.Errors += t.errors
	r.Unfinished += t.unfinished
	r.Reconnects += t.reconnects
	for why, n := range t.failures {
		r.Failures[why] += n
	}
	r.Latency.Merge(t.latency)
	r.Late.Merge(t.late)
	r.CPU += t.cpu
	r.CPUShare = max(r.CPUShare, t.cpuShare)
	for len(r.cells) < len(t.cells) {
		r.cells = append(r.cells, cell{latency: newLatency(seriesDigit)})
	}
	for i, c := range t.cells {
		sum := &r.cells[i]
		sum.answers += c.answers
		sum.errors += c.errors
		sum.bytes += c.bytes
		if c.latency != nil {
			sum.latency.Merge(c.latency)
		}
	}
}

// finish makes the series.
func (r *Result) finish() {
	for i, c := range r.cells {
		at := time.Duration(i) * r.interval
		if at >= r.Window {
			break
		}
		p := Point{At: at, Length: min(r.interval, r.Window-at), Answers: c.answers, Errors: c.errors, Bytes: c.bytes, Max: c.latency.Max()}
		if d, ok := c.latency.Quantile(0.5); ok {
			p.P50 = d
		}
		if d, ok := c.latency.Quantile(0.99); ok {
			p.P99 = d
		}
		r.Series = append(r.Series, p)
	}
	r.cells = nil
}

// Throughput is the answers per second within the window.
func (r *Result) Throughput() float64 { return perSecond(r.WindowAnswers, r.Window) }

// BytesPerSecond is the bytes received per second within the window.
func (r *Result) BytesPerSecond() float64 { return perSecond(r.WindowBytes, r.Window) }

func perSecond(n uint64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

// Add adds the counts and the distributions of another run, but for its Series.
func (r *Result) Add(o *Result) {
	if r.Latency == nil {
		r.Latency, r.Late, r.Failures = NewLatency(), NewLatency(), map[string]uint64{}
	}
	r.Requests += o.Requests
	r.Errors += o.Errors
	r.Unfinished += o.Unfinished
	r.Reconnects += o.Reconnects
	for why, n := range o.Failures {
		r.Failures[why] += n
	}
	r.Latency.Merge(o.Latency)
	r.Late.Merge(o.Late)
	r.Answered += o.Answered
	r.Bytes += o.Bytes
	r.Elapsed += o.Elapsed
	r.WindowAnswers += o.WindowAnswers
	r.WindowBytes += o.WindowBytes
	r.Window += o.Window
	r.CPU += o.CPU
	r.CPUShare = max(r.CPUShare, o.CPUShare)
}

// Bottleneck says in a sentence that the generator itself coloured the figures, and how to avoid it; "" if it did not.
func (r *Result) Bottleneck() string {
	if r.CPUShare >= busyShare {
		return fmt.Sprintf("the load generator was the bottleneck: a thread of it computed %.0f %% of the time; use more threads, or a lower rate", 100*r.CPUShare)
	}
	for _, q := range []float64{0.5, 0.99} {
		late, ok := r.Late.Quantile(q)
		latency, _ := r.Latency.Quantile(q)
		if ok && late > time.Duration(lateShare*float64(latency)) && late > lateLeast {
			return fmt.Sprintf("the load generator lagged behind its schedule: its own lag is %[2]v at p%.0[1]f, where the latency is %[3]v; use a lower rate, or a machine with free processors",
				100*q, brief(late), brief(latency))
		}
	}
	return ""
}

// brief is d with three digits.
func brief(d time.Duration) time.Duration {
	for unit := time.Duration(1); ; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit)
		}
	}
}
