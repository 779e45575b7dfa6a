package hedge

import (
	"math/bits"
	"time"
)

// latency is a histogram with a memory that fades: eight buckets for each doubling, from a microsecond on.
type latency struct {
	buckets [8 * 32]uint32
	count   uint32
	fresh   uint32 // since known was computed
	known   time.Duration
}

const (
	least   = 100  // latencies before anything is known
	renew   = 64   // latencies between two looks
	fadesAt = 4096 // latencies at which the old ones lose half their weight
)

func bucket(d time.Duration) int {
	us := uint64(max(d, time.Microsecond) / time.Microsecond)
	e := bits.Len64(us) - 1
	sub := uint64(0)
	if e >= 3 {
		sub = us >> (e - 3) & 7
	} else {
		sub = us << (3 - e) & 7
	}
	return min(e*8+int(sub), len(latency{}.buckets)-1)
}

// upper is the least latency above bucket i.
func upper(i int) time.Duration {
	e, sub := i/8, i%8
	return time.Duration(uint64(8+sub+1)<<e) * time.Microsecond / 8
}

func (l *latency) add(d time.Duration, percentile float64) {
	l.buckets[bucket(d)]++
	l.count++
	l.fresh++
	if l.count >= fadesAt {
		l.count = 0
		for i := range l.buckets {
			l.buckets[i] /= 2
			l.count += l.buckets[i]
		}
	}
	if l.count < least || l.fresh < renew && l.known != 0 {
		return
	}
	l.fresh = 0
	want, seen := uint32(float64(l.count)*percentile), uint32(0)
	for i, n := range l.buckets {
		if seen += n; seen >= want {
			l.known = upper(i)
			return
		}
	}
}
