package metrics

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestIndex: index i holds what is above 2^((i-1)/8) and not above 2^(i/8) seconds, as Prometheus defines its native histograms.
func TestIndex(t *testing.T) {
	for i := -250; i < 100; i++ {
		upper := math.Exp2(float64(i) / 8)
		for s, want := range map[float64]int{upper * (1 - 1e-9): i, upper * (1 + 1e-9): i + 1} {
			if got := index(s); got != want {
				t.Errorf("%v s: index %d, want %d", s, got, want)
			}
		}
	}
	for e := -20; e < 20; e++ { // powers of two are exact
		if got := index(math.Exp2(float64(e))); got != 8*e {
			t.Errorf("2^%d: index %d, want %d", e, got, 8*e)
		}
	}
}

func TestHistogram(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var all []time.Duration
	var whole Histogram
	parts := make([]Histogram, 3)
	for range 20_000 {
		d := time.Duration(math.Exp(rnd.NormFloat64()*2) * float64(time.Millisecond))
		all = append(all, d)
		whole.Observe(d)
		parts[rnd.IntN(len(parts))].Observe(d)
	}
	var sum Histogram
	for i := range parts {
		sum.Add(&parts[i])
	}
	if sum.Count != whole.Count || sum.Classic != whole.Classic || sum.First != whole.First || !slices.Equal(sum.Buckets, whole.Buckets) ||
		math.Abs(sum.Sum-whole.Sum) > 1e-6 {
		t.Errorf("the sum of parts is not the whole:\n%+v\n%+v", sum, whole)
	}
	slices.Sort(all)
	for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 0.999} {
		want := all[int(q*float64(len(all)))]
		if got := whole.Quantile(q); math.Abs(float64(got)/float64(want)-1) > 0.1 {
			t.Errorf("quantile %v: %v, want %v", q, got, want)
		}
	}
	var n uint64
	for _, c := range whole.Classic {
		n += c
	}
	if n != whole.Count {
		t.Errorf("classic buckets hold %d of %d", n, whole.Count)
	}
}

func TestHistogramEdges(t *testing.T) {
	var h Histogram
	if h.Quantile(0.5) != 0 {
		t.Error("a quantile of nothing")
	}
	for _, d := range []time.Duration{0, time.Hour, 1, 500 * time.Microsecond, 500*time.Microsecond + 1} {
		h.Observe(d)
	}
	if h.Zero != 1 || h.Count != 5 || h.Classic[0] != 3 || h.Classic[1] != 1 || h.Classic[len(Bounds)] != 1 {
		t.Errorf("%+v", h)
	}
	if got := h.Quantile(0.1); got != 0 {
		t.Errorf("quantile 0.1 is %v", got)
	}
}

func BenchmarkObserve(b *testing.B) {
	var h Histogram
	b.ReportAllocs()
	for b.Loop() {
		h.Observe(1234 * time.Microsecond)
	}
}

// TestIndexIsExact: the quick way to a bucket leads where the slow one does, at every bound too.
func TestIndexIsExact(t *testing.T) {
	slow := func(s float64) int {
		fraction, exponent := math.Frexp(s)
		i := 0
		for i < len(fractions) && fraction > fractions[i] {
			i++
		}
		return (exponent-1)<<Schema + i
	}
	for e := -30; e < 20; e++ {
		for _, f := range append(fractions[:], 0.5625, 0.6249999, 0.9375, 0.99999999) {
			for _, s := range []float64{math.Ldexp(f, e), math.Nextafter(math.Ldexp(f, e), 0), math.Nextafter(math.Ldexp(f, e), 1e9)} {
				if got, want := index(s), slow(s); got != want {
					t.Fatalf("%v: %d, want %d", s, got, want)
				}
			}
		}
	}
	for d := time.Duration(1); d < time.Hour; d += d/1000 + 1 {
		if got, want := index(d.Seconds()), slow(d.Seconds()); got != want {
			t.Fatalf("%v: %d, want %d", d, got, want)
		}
		if float64(d)/float64(time.Second) != d.Seconds() && d < time.Second {
			t.Fatalf("%d: %v is not %v", d, float64(d)/float64(time.Second), d.Seconds())
		}
	}
}
