package metrics

import (
	"math"
	"slices"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Schema is that of native histograms: 2^Schema buckets for each doubling.
const Schema = 3

// Bounds are the upper bounds of the classic buckets, in seconds, but for the last, which has none.
var Bounds = [...]float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}

// fractions are the upper bounds of the buckets within a doubling, as math.Frexp gives them: 2^(i/8) / 2.
var fractions = [1 << Schema]float64{0.5, 0.5452538663326288, 0.5946035575013605, 0.6484197773255048, 0.7071067811865475, 0.7711054127039704, 0.8408964152537144, 0.9170040432046711}

// Histogram counts durations. The zero value is empty.
type Histogram struct {
	Count uint64
	Sum   float64 // seconds
	// Zero counts what took no time that the clock can tell.
	Zero uint64
	// Buckets are those with indices First, First+1, …: index i is (2^((i-1)/8), 2^(i/8)] seconds.
	First   int
	Buckets []uint64
	Classic [len(Bounds) + 1]uint64 // each for its own bucket: not cumulative
	// Exemplar is the last one that belongs to a trace which is recorded.
	Exemplar Exemplar
}

// Exemplar is one duration that was counted, and the trace that it was in. The zero value is none.
type Exemplar struct {
	Trace proxy.TraceID
	Took  time.Duration
	At    task.Instant
}

// Observe counts d.
func (h *Histogram) Observe(d time.Duration) {
	p := placeOf(d)
	h.count(&p)
}

// place is where a duration is counted, in any Histogram.
type place struct {
	seconds float64
	index   int // in the terms of Histogram.First; meaningless if seconds is no more than 0
	classic int // in Histogram.Classic
}

func placeOf(d time.Duration) (p place) {
	p.seconds = float64(d) / float64(time.Second)
	for p.classic < len(Bounds) && p.seconds > Bounds[p.classic] {
		p.classic++
	}
	if p.seconds > 0 {
		p.index = index(p.seconds)
	}
	return p
}

// count is Observe for a duration whose place is known.
func (h *Histogram) count(p *place) {
	h.Sum += p.seconds
	h.Classic[p.classic]++
	h.tally(p.seconds, p.index)
}

// Tally is Observe for who asks for nothing but Quantile.
func (h *Histogram) Tally(d time.Duration) {
	i := 0
	s := float64(d) / float64(time.Second)
	if s > 0 {
		i = index(s)
	}
	h.tally(s, i)
}

func (h *Histogram) tally(s float64, index int) {
	h.Count++
	if s <= 0 {
		h.Zero++
		return
	}
	if at := index - h.First; uint(at) < uint(len(h.Buckets)) {
		h.Buckets[at]++
		return
	}
	*h.bucket(index)++
}

// The parts of a float64, which IEEE 754 calls binary64.
const (
	mantissaBits = 52
	half         = 1022 // the exponent of numbers from 0.5 to 1
)

// firstFraction is, by the upper three bits of a mantissa, the first of fractions that may be its bucket.
var firstFraction = [8]uint8{0, 2, 3, 4, 5, 6, 7, 8}

// index is that of the bucket that s, in seconds and no less than a nanosecond, falls in.
func index(s float64) int {
	bits := math.Float64bits(s)
	exponent := int(bits>>mantissaBits) - half // s is fraction * 2^exponent
	fraction := math.Float64frombits(bits&(1<<mantissaBits-1) | half<<mantissaBits)
	i := int(firstFraction[bits>>(mantissaBits-3)&7])
	for i < len(fractions) && fraction > fractions[i] {
		i++
	}
	return (exponent-1)<<Schema + i
}

// bucket returns the counter of index i, and makes room for it.
func (h *Histogram) bucket(i int) *uint64 {
	switch at := i - h.First; {
	case len(h.Buckets) == 0:
		h.First = i
		h.Buckets = append(h.Buckets, 0)
	case at < 0:
		h.Buckets = slices.Insert(h.Buckets, 0, make([]uint64, -at)...)
		h.First = i
	case at >= len(h.Buckets):
		h.Buckets = append(h.Buckets, make([]uint64, at+1-len(h.Buckets))...)
	}
	return &h.Buckets[i-h.First]
}

// Add adds what o has counted.
func (h *Histogram) Add(o *Histogram) {
	h.Count += o.Count
	h.Sum += o.Sum
	h.Zero += o.Zero
	if o.Exemplar.At > h.Exemplar.At {
		h.Exemplar = o.Exemplar
	}
	for i, n := range o.Classic {
		h.Classic[i] += n
	}
	for i, n := range o.Buckets {
		if n > 0 {
			*h.bucket(o.First + i) += n
		}
	}
}

// Quantile returns the duration below which the share q (0 to 1) of what was counted lies, interpolated within its bucket; 0 if nothing was.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := q * float64(h.Count)
	if rank <= float64(h.Zero) {
		return 0
	}
	seen := float64(h.Zero)
	for i, n := range h.Buckets {
		if n > 0 && seen+float64(n) >= rank {
			upper := float64(h.First + i)
			at := upper - 1 + (rank-seen)/float64(n) // on the exponential scale
			return time.Duration(math.Exp2(at/(1<<Schema)) * float64(time.Second))
		}
		seen += float64(n)
	}
	return 0
}
