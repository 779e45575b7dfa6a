package limit

import (
	"math"
	"time"

	"github.com/pillion-proxy/pillion/proxy/task"
)

// What Gradient2 starts from; https://github.com/Netflix/concurrency-limits, Gradient2Limit.
const (
	firstLimit   = 20.0
	leastLimit   = 1.0
	queueSize    = 4.0                    // that the limit may grow by, so that it finds out about more
	smoothing    = 0.2                    // of a new limit
	tolerance    = 1.5                    // of latency, over its long mean, before the limit shrinks
	longWindow   = 600                    // samples in the long mean
	warmup       = 10                     // of these, plainly averaged
	sampleTime   = 100 * time.Millisecond // that one sample averages, at least
	sampleLeast  = 10                     // latencies in one sample, at least
	forgetFactor = 0.95                   // of the long mean, while it is far above what is seen
	patience     = 50                     // samples at the limit that say that the app is slower than it was, until that is looked into
	soundLimit   = 3.0                    // while it is: few enough not to queue
	soundSamples = 2                      // for which it is; of the first, requests that ran before are a part
)

// gradient estimates how many requests may run at a time so that they do not queue behind each other.
type gradient struct {
	limit, most float64
	long        float64 // mean latency, nanoseconds
	samples     int

	slower   int          // samples in a row that say that the app has become slower
	sounding int          // samples until it is known
	before   float64      // the limit until then
	since    task.Instant // of the present sample
	sum      float64
	count    int
	peak     int // requests that ran
}

func (g *gradient) start(most int) {
	*g = gradient{most: float64(most), limit: min(firstLimit, float64(most))}
}

// add takes the latency of one request, and how many ran with it.
func (g *gradient) add(now task.Instant, took time.Duration, running int) {
	if g.count == 0 {
		g.since = now
	}
	g.sum += float64(took)
	g.count++
	g.peak = max(g.peak, running)
	if g.count < sampleLeast || now.Sub(g.since) < sampleTime {
		return
	}
	short, peak := g.sum/float64(g.count), g.peak
	g.sum, g.count, g.peak = 0, 0, 0
	g.sample(max(short, 1), peak)
}

// Gradient is the estimate alone, for simulations: how many requests may run at a time so that they do not queue behind each other.
type Gradient struct{ g gradient }

// NewGradient returns an estimate that never exceeds most.
func NewGradient(most int) *Gradient {
	var g Gradient
	g.g.start(most)
	return &g
}

// Add takes the latency of one request, and how many ran with it.
func (g *Gradient) Add(now task.Instant, took time.Duration, running int) {
	g.g.add(now, took, running)
}

// Limit is the present estimate.
func (g *Gradient) Limit() int { return int(g.g.limit) }

func (g *gradient) sample(short float64, running int) {
	if g.sounding > 0 {
		if g.sounding--; g.sounding == 0 {
			g.long, g.limit, g.slower = short, g.before, 0
		}
		return
	}
	// Unlike the original, a latency that comes of running at the limit does not raise the long mean: under a load that stays, that
	// would follow it, and the limit grow without end. Whether it is the app that has become slower is looked into, with few requests.
	unused := float64(running) < g.limit/2
	switch g.samples++; {
	case g.samples <= warmup:
		g.long += (short - g.long) / float64(g.samples)
	case unused || short < g.long:
		g.long += (short - g.long) * 2 / (longWindow + 1)
	}
	if g.long/short > 2 { // the load that made it long is over
		g.long *= forgetFactor
	}
	if unused { // the callers are the limit
		return
	}
	slope := max(0.5, min(1, tolerance*g.long/short))
	next := g.limit*slope + min(queueSize, math.Sqrt(g.limit))
	g.limit = max(leastLimit, min(g.most, g.limit*(1-smoothing)+next*smoothing))
	if slope == 1 {
		g.slower = 0
		return
	}
	if g.slower++; g.slower >= patience {
		g.before, g.sounding = g.limit, soundSamples
		g.limit = min(g.limit, soundLimit)
	}
}
