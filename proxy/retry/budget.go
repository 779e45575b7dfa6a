package retry

import (
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/proxy/task"
)

// window is how long requests and retries count, in slots of a second.
const window = 10

// Budget decides whether a service may be sent one more retry. Deposits are counted per shard, withdrawals together.
type Budget struct {
	shards  []ring // by Shard.Index
	retries ring
}

// ring counts events of the last window seconds.
type ring struct {
	slots [window + 1]atomic.Uint64 // the second in the upper half, the count in the lower
	_     [40]byte                  // so that two shards' rings share no cache line
}

// NewBudget returns one that has seen no requests. Make it for as many shards as there are.
func NewBudget(shards int) *Budget { return &Budget{shards: make([]ring, shards)} }

func second(now task.Instant) uint64 { return uint64(now) / uint64(time.Second) }

// add counts one event.
func (r *ring) add(sec uint64) {
	slot := &r.slots[sec%uint64(len(r.slots))]
	for {
		old := slot.Load()
		next := old + 1
		if old>>32 != sec&0xffffffff {
			next = sec<<32 | 1
		}
		if slot.CompareAndSwap(old, next) {
			return
		}
	}
}

// sum is the number of events of the last window seconds, the present one included.
func (r *ring) sum(sec uint64) (n int) {
	for i := range r.slots {
		v := r.slots[i].Load()
		if age := uint32(sec) - uint32(v>>32); age < window {
			n += int(uint32(v))
		}
	}
	return n
}

// Deposit counts a request.
func (b *Budget) Deposit(shard int, now task.Instant) { b.shards[shard].add(second(now)) }

// Level says how many retries there may be in all within the window, and how many of them there have been.
func (b *Budget) Level(now task.Instant, share, floor float64) (most float64, used int) {
	sec := second(now)
	requests := 0
	for i := range b.shards {
		requests += b.shards[i].sum(sec)
	}
	return share*float64(requests) + floor*window, b.retries.sum(sec)
}

// Withdraw reports whether a retry is within share of the requests and floor per second, and counts it if so.
func (b *Budget) Withdraw(now task.Instant, share, floor float64) bool {
	most, used := b.Level(now, share, floor)
	if float64(used+1) > most {
		return false
	}
	b.retries.add(second(now))
	return true
}
