package main

import "github.com/pillion-proxy/pillion/proxy/task"

// kind is what happens.
type kind uint8

const (
	changes  kind = iota // to the world
	arrives              // a request
	retries              // a request, again
	refused              // an attempt
	reaches              // an attempt, the server
	served               // an attempt, by the server
	answered             // an attempt
	expired              // the time of an attempt
	probes               // a caller, an endpoint that it had lost
)

// event is something that will happen.
type event struct {
	at     task.Instant
	order  uint64 // of those at the same time the first planned comes first
	kind   kind
	of     int32 // call or attempt
	change func(*world)
	caller int32
	n      int
}

// agenda is what will happen, the next first: a binary heap.
type agenda struct {
	heap  []event
	count uint64
}

func before(a, b *event) bool { return a.at < b.at || a.at == b.at && a.order < b.order }

func (a *agenda) add(e event) {
	a.count++
	e.order = a.count
	a.heap = append(a.heap, e)
	h := a.heap
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if !before(&h[i], &h[up]) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

func (a *agenda) take() event {
	h := a.heap
	first := h[0]
	last := len(h) - 1
	h[0] = h[last]
	h[last] = event{}
	a.heap = h[:last]
	h = a.heap
	for i := 0; ; {
		c := 2*i + 1
		if c >= last {
			return first
		}
		if c+1 < last && before(&h[c+1], &h[c]) {
			c++
		}
		if !before(&h[c], &h[i]) {
			return first
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
}
