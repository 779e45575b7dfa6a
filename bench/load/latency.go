package load

import (
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// What a histogram holds: three significant digits of everything from a microsecond to ten minutes.
const (
	lowest  = int64(100 * time.Nanosecond)
	highest = int64(10 * time.Minute)
	digits  = 3

	beyond = 10 // samples that must lie beyond a percentile, so that it is more than one sample's luck
)

// Latency is the distribution of latencies: a high dynamic range histogram with three significant digits. The zero value is not usable; see
// NewLatency. It is not safe for concurrent use.
type Latency struct {
	h   *hdrhistogram.Histogram
	max time.Duration
}

// NewLatency returns an empty one.
func NewLatency() *Latency { return newLatency(digits) }

func newLatency(digits int) *Latency {
	return &Latency{h: hdrhistogram.New(lowest, highest, digits)}
}

// Record adds d.
func (l *Latency) Record(d time.Duration) {
	l.max = max(l.max, d)
	_ = l.h.RecordValue(min(max(int64(d), 0), highest)) // cannot be out of range
}

// Merge adds what o holds.
func (l *Latency) Merge(o *Latency) {
	l.h.Merge(o.h)
	l.max = max(l.max, o.max)
}

// Count is the number of samples.
func (l *Latency) Count() int64 { return l.h.TotalCount() }

// Max is the longest latency, exactly; 0 without samples.
func (l *Latency) Max() time.Duration { return l.max }

// Mean is their mean; 0 without samples.
func (l *Latency) Mean() time.Duration {
	if l.Count() == 0 {
		return 0
	}
	return time.Duration(l.h.Mean())
}

// Quantile returns the latency that the share q of all samples does not exceed, 0 <= q <= 1. ok is false if there are fewer than
// Needed(q) samples: the figure would say more about luck than about the target.
func (l *Latency) Quantile(q float64) (d time.Duration, ok bool) {
	return l.value(q), l.Count() >= Needed(q)
}

// value is the quantile, however many samples there are.
func (l *Latency) value(q float64) time.Duration {
	if q >= 1 {
		return l.max
	}
	return min(time.Duration(l.h.ValueAtQuantile(100*q)), l.max)
}

// Needed is the number of samples from which on Quantile(q) is told: ten lie beyond it, and so it is 20 for the median, 1,000 for p99, 10,000 for p99.9.
func Needed(q float64) int64 {
	if q >= 1 {
		return 1
	}
	return int64(math.Ceil(beyond/(1-q) - 1e-6))
}

// Step is one point of a distribution: the share Q of all samples is not above At.
type Step struct {
	Q  float64
	At time.Duration
}

// Curve returns the distribution for drawing, ascending, n points for each tenfold of 1/(1-q), as far as Quantile would tell.
func (l *Latency) Curve(n int) []Step {
	var steps []Step
	for i := 0; ; i++ {
		q := 1 - math.Pow(10, -float64(i)/float64(n))
		at, ok := l.Quantile(q)
		if !ok || q > 0.999999 {
			return steps
		}
		steps = append(steps, Step{q, at})
	}
}
