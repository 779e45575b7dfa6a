package http3

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// Stalls are waits of what was to be sent, of a millisecond and more: how many there were, and how long they took together. QUIC does not tell whether
// it was the peer that opened no window, or the network that was slower.
type Stalls struct {
	Count uint64
	Time  time.Duration
}

// stallAfter is how long a write may take that did not have to wait.
const stallAfter = time.Millisecond

// stalls counts them.
type stalls struct{ count, nanoseconds atomic.Int64 }

// note is for a write that has begun at start, and is over.
func (s *stalls) note(start time.Time) {
	if d := time.Since(start); d >= stallAfter {
		s.count.Add(1)
		s.nanoseconds.Add(int64(d))
	}
}

func (s *stalls) stats() Stalls {
	return Stalls{Count: uint64(s.count.Load()), Time: time.Duration(s.nanoseconds.Load())}
}

const (
	// shortHeader is what QUIC leaves of a packet for its short header, with the longest connection ID, and for the tag.
	shortHeader = 1 + 20 + 16
	udpHeader   = 8
	ipv4Header  = 20
	ipv6Header  = 40
)

// mtu is the size of the largest packet that is sent now, with its headers of IP and UDP; 0 if QUIC does not say. It says it of a datagram that
// is too large, which it does not send. Both ends take datagrams.
func mtu(q *quic.Conn, ipv6 bool) int {
	var large *quic.DatagramTooLargeError
	if !errors.As(q.SendDatagram(make([]byte, 1<<16)), &large) {
		return 0
	}
	if ipv6 {
		return int(large.MaxDatagramPayloadSize) + shortHeader + udpHeader + ipv6Header
	}
	return int(large.MaxDatagramPayloadSize) + shortHeader + udpHeader + ipv4Header
}
