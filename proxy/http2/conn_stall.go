package http2

import (
	"time"

	"github.com/pillion-proxy/pillion/proxy/task"
)

// Stalls are waits of what was to be sent.
type Stalls struct {
	// Stream are waits of one stream for the peer to open its window.
	Stream Stall
	// Conn are waits of all streams for the peer to open the window of the connection.
	Conn Stall
	// Line are waits of all streams behind bytes that the Transport has not taken yet, because the network is slower, or has lost some: head of line.
	Line Stall
}

// Stall counts waits: how many have begun, and how long those took together that have ended.
type Stall struct {
	Count uint64
	Time  time.Duration
}

// begin notes in at that a wait begins, unless it has begun already. The lock is held, as for end.
func (s *Stall) begin(at *task.Instant, sh task.Shard) {
	if *at == 0 {
		*at = sh.Now()
		s.Count++
	}
}

// end notes that it has ended, if it ever began.
func (s *Stall) end(at *task.Instant, sh task.Shard) {
	if *at != 0 {
		s.Time += sh.Now().Sub(*at)
		*at = 0
	}
}
