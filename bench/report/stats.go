package report

import (
	"math"
	"slices"
)

// student is the 97.5th percentile of Student's t by degrees of freedom, from 1.
var student = [...]float64{
	12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
	2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
	2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
}

// minRounds is the least number of rounds for an interval. Two would give one that is useless.
const minRounds = 3

// trimmed is the share of the rounds that is left out at either end.
const trimmed = 0.2

// interval returns the 20 % trimmed mean of xs and how far its 95 % interval reaches to either side; ok is false if xs are too few for it. The interval is
// that of Tukey and McLaughlin (1963), Student's t with the winsorized variance: one round that something else has disturbed does not move it far,
// which a mean and its interval would let it do. Of less than five rounds nothing is trimmed, and it is Student's t as it is.
func interval(xs []float64) (mean, reach float64, ok bool) {
	xs = slices.Sorted(slices.Values(xs))
	n := len(xs)
	if n == 0 {
		return 0, 0, false
	}
	out := int(trimmed * float64(n))
	kept := xs[out : n-out]
	for _, x := range kept {
		mean += x / float64(len(kept))
	}
	if n < minRounds {
		return mean, 0, false
	}
	for i := range out {
		xs[i], xs[n-1-i] = kept[0], kept[len(kept)-1]
	}
	var center, sum float64
	for _, x := range xs {
		center += x / float64(n)
	}
	for _, x := range xs {
		sum += (x - center) * (x - center)
	}
	t := 1.96
	if df := len(kept) - 1; df <= len(student) {
		t = student[df-1]
	}
	share := float64(len(kept)) / float64(n)
	return mean, t * math.Sqrt(sum/float64(n-1)) / (share * math.Sqrt(float64(n))), true
}

// median returns that of xs, 0 if there are none.
func median(xs []float64) float64 {
	if len(xs) == 0 {
		return 0
	}
	xs = slices.Sorted(slices.Values(xs))
	n := len(xs)
	return (xs[(n-1)/2] + xs[n/2]) / 2
}
