package limit

import (
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// waiter is a request that waits for its turn.
type waiter struct {
	s     task.Shard
	gate  task.Gate
	wake  func() // on s
	level int

	before proxy.Canceled // who was registered with the request's Cancel; guarded by the shard's lock

	// Guarded by Concurrency.mu.
	state      waitState
	prev, next *waiter
}

// waitState is how far a wait has come: inLine, then one of the others.
type waitState uint8

const (
	inLine waitState = iota
	granted
	turnedAway
)

// Canceled implements proxy.Canceled.
func (w *waiter) Canceled(err error) {
	w.gate.Wake()
	w.s.Lock()
	before := w.before
	w.s.Unlock()
	if before != nil {
		before.Canceled(err)
	}
}

// queue is a list of waiters, the first to come first.
type queue struct{ head, tail *waiter }

func (q *queue) push(w *waiter) {
	w.prev = q.tail
	if q.tail == nil {
		q.head = w
	} else {
		q.tail.next = w
	}
	q.tail = w
}

func (q *queue) remove(w *waiter) {
	if w.prev == nil {
		q.head = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.tail = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next = nil, nil
}

func (q *queue) pop() *waiter {
	w := q.head
	if w != nil {
		q.remove(w)
	}
	return w
}

func (q *queue) popLast() *waiter {
	w := q.tail
	if w != nil {
		q.remove(w)
	}
	return w
}
