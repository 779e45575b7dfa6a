package http1

import (
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// A client that has closed its sending side may have left, or may wait for its answer: TCP says the same of both, until it
// is sent something. So what is sent is what tells:
//
//   - Before the answer, HTTP/1.1 lets it be told 100 (Continue), RFC 9110 section 15.2: "A client MUST be able to parse one or more 1xx
//     responses received prior to a final response, even if the client does not expect one." A kernel whose process has left answers
//     with a reset, and the next 100 fails.
//   - HTTP/1.0 knows no 1xx. Its client is waited for, and the answer tells.
//   - While the answer flows, it tells. Once it pauses for ServerConfig.HalfClosed the client counts as one that has left: nothing could be
//     said to it in the middle of an answer.
const probeAgain = 50 // checks between probes, after the first two

// halfClosed is the state of an exchange whose client has closed its sending side. Guarded by the shard's lock.
type halfClosed struct {
	timer  task.Timer // of the next check
	checks int
	seen   uint32 // writer.writes at the last check during the answer
}

// beginHalfClosed starts the checks. The caller holds the lock.
func (x *exchange) beginHalfClosed(serial uint32) {
	x.half = halfClosed{seen: notSeen}
	x.half.timer = x.s.After(x.srv.cfg.HalfClosed/2, func() { x.checkHalfClosed(serial) })
}

// endHalfClosed ends them. The caller holds the lock.
func (x *exchange) endHalfClosed() {
	if x.half.timer != nil {
		x.half.timer.Stop()
		x.half.timer = nil
	}
}

// notSeen is no number of writes: it is odd, and far away.
const notSeen = 1<<32 - 1

// checkHalfClosed is a callback.
func (x *exchange) checkHalfClosed(serial uint32) {
	x.s.Lock()
	if x.serial != serial {
		x.s.Unlock()
		return
	}
	wait, probe := x.srv.cfg.HalfClosed, false
	if x.half.checks == 0 {
		wait /= 2
	}
	switch x.half.checks++; {
	case x.state == answered:
		writes := x.out.writes.Load()
		if writes == x.half.seen && writes%2 == 0 {
			x.s.Unlock()
			x.giveUp(serial)
			return
		}
		x.half.seen = writes
	case x.req.Version != proxy.HTTP10 && !x.pushing && (x.half.checks <= 2 || x.half.checks%probeAgain == 0):
		probe, x.pushing = true, true
	}
	c := x.c
	x.half.timer = x.s.After(wait, func() { x.checkHalfClosed(serial) })
	x.s.Unlock()
	if probe {
		x.probe(c, serial)
	}
}

// probe says 100 (Continue). Whoever begins the answer meanwhile waits: see beginAnswer.
func (x *exchange) probe(c task.Conn, serial uint32) {
	err := c.Push([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
	x.s.Lock()
	if x.serial == serial {
		x.pushing = false
	}
	x.s.Unlock()
	if err != nil {
		x.giveUp(serial)
	}
}
