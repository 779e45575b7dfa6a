package main

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets 3 % wide. The zero value is empty.
type histogram struct {
	buckets [64 * 32]uint32 // 32 buckets for each power of two of nanoseconds
	count   int
}

// add counts d.
func (h *histogram) add(d time.Duration) {
	h.buckets[bucket(d)]++
	h.count++
}

// bucket is the place of d.
func bucket(d time.Duration) int {
	v := uint64(max(d, 32))
	shift := bits.Len64(v) - 6
	return shift*32 + int(v>>shift)
}

// quantile returns the lower edge of the bucket in which the q-th of all durations lies, 0 <= q < 1.
func (h *histogram) quantile(q float64) time.Duration {
	rank := int(q * float64(h.count))
	for i, n := range h.buckets {
		rank -= int(n)
		if rank < 0 {
			shift := max(i/32-1, 0)
			return time.Duration(uint64(i-shift*32) << shift)
		}
	}
	return 0
}
