package proxy

import "sync/atomic"

// Drop says why a datagram was not passed on.
type Drop int

// The reasons. Their names, in status and metrics, are those of String.
const (
	DropNoRoom   Drop = iota // the link, or the queue before it, was full
	DropSocket               // the kernel had no room in a local socket's send queue
	DropOverflow             // a local socket's receive queue was full: the kernel dropped it
	DropTooLong              // longer than MaxDatagram, or than what carries it takes
	DropRefused              // nobody listens at the app's port, or no route leads there
	DropUnopened             // no Flow could be opened for it, or too much was waiting for one
	DropForeign              // it is nothing that this end knows: an unknown context, a malformed packet
	drops
)

// String returns the name of the reason.
func (d Drop) String() string {
	return [drops]string{"no_room", "socket", "overflow", "too_long", "refused", "unopened", "foreign"}[d]
}

// FlowStats counts the Flows of one service or app entry. It is safe for concurrent use; a nil one counts nothing. Requests are the
// datagrams towards the app that serves, answers those that come back, wherever the counting sidecar stands.
type FlowStats struct {
	open, opened, evicted atomic.Uint64
	requests, answers     atomic.Uint64
	dropped               [drops]atomic.Uint64
}

// Opened counts a Flow that begins.
func (s *FlowStats) Opened() {
	if s != nil {
		s.open.Add(1)
		s.opened.Add(1)
	}
}

// Closed counts a Flow that ends.
func (s *FlowStats) Closed() {
	if s != nil {
		s.open.Add(^uint64(0))
	}
}

// Evicted counts a Flow that was ended to make room for another.
func (s *FlowStats) Evicted() {
	if s != nil {
		s.evicted.Add(1)
	}
}

// Request counts a datagram that came, towards the app.
func (s *FlowStats) Request() {
	if s != nil {
		s.requests.Add(1)
	}
}

// Answer counts a datagram that came back.
func (s *FlowStats) Answer() {
	if s != nil {
		s.answers.Add(1)
	}
}

// Drop counts n datagrams that were lost here.
func (s *FlowStats) Drop(why Drop, n int) {
	if s != nil && n > 0 {
		s.dropped[why].Add(uint64(n))
	}
}

// FlowCounts is a snapshot of FlowStats.
type FlowCounts struct {
	Open, Opened, Evicted uint64
	Requests, Answers     uint64
	Dropped               map[string]uint64 // by Drop.String; only what has happened
}

// Counts returns what has been counted.
func (s *FlowStats) Counts() FlowCounts {
	if s == nil {
		return FlowCounts{}
	}
	c := FlowCounts{Open: s.open.Load(), Opened: s.opened.Load(), Evicted: s.evicted.Load(), Requests: s.requests.Load(), Answers: s.answers.Load()}
	for d := range drops {
		if n := s.dropped[d].Load(); n > 0 {
			if c.Dropped == nil {
				c.Dropped = make(map[string]uint64)
			}
			c.Dropped[d.String()] = n
		}
	}
	return c
}

// FlowCounter is implemented by Flows that count what they lose.
type FlowCounter interface {
	// FlowStats is where, so that who carries the Flow further counts at the same place; may be nil.
	FlowStats() *FlowStats
	// CountIn makes the Flow count there. It is called before the Flow is used.
	CountIn(*FlowStats)
}
