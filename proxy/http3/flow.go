package http3

import (
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

const (
	// maxReceived bounds the datagrams that wait for Receive; a further one is dropped, and counted.
	maxReceived = 256
	// maxReceivedBytes bounds their size together.
	maxReceivedBytes = 512 << 10
	// closeTimeout is how long Close waits for the other side's end before it resets.
	closeTimeout = 5 * time.Second
)

// flow is the proxy.Flow over a stream: datagrams of QUIC where they fit, capsules on the stream where not (RFC 9297, RFC 9298). It is made
// with its stream, so that a datagram which overtakes an answer is kept.
type flow struct {
	// Static after construction.

	st    *stream
	ready chan struct{} // one slot: there is something for Receive

	sending atomic.Int64 // bytes in Conn.outbox

	mu       sync.Mutex
	stats    *proxy.FlowStats
	received [][]byte // oldest first
	size     int      // bytes in received
	closed   bool     // by Close
	err      error    // why nothing more will come
	timer    task.Timer
}

func newFlow(st *stream) *flow {
	return &flow{st: st, ready: make(chan struct{}, 1), stats: st.c.cfg.FlowStats}
}

// FlowStats implements proxy.FlowCounter.
func (f *flow) FlowStats() *proxy.FlowStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats
}

// CountIn implements proxy.FlowCounter.
func (f *flow) CountIn(stats *proxy.FlowStats) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats = stats
}

// start begins to read capsules, and counts in stats from now on.
func (f *flow) start(stats *proxy.FlowStats) {
	if stats != nil {
		f.mu.Lock()
		f.stats = stats
		f.mu.Unlock()
	}
	f.st.c.s.Go(f.readCapsules)
}

func (f *flow) wake() {
	select {
	case f.ready <- struct{}{}:
	default:
	}
}

// deliver takes a payload that has come, and keeps it.
func (f *flow) deliver(p []byte) {
	f.mu.Lock()
	full := len(f.received) >= maxReceived || f.size+len(p) > maxReceivedBytes
	stats := f.stats
	if !full && !f.closed {
		f.received = append(f.received, p)
		f.size += len(p)
	}
	f.mu.Unlock()
	if full {
		stats.Drop(proxy.DropNoRoom, 1)
		return
	}
	f.wake()
}

// next returns the oldest payload, or nil; or why none will come.
func (f *flow) next() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.received) == 0 || f.closed {
		if f.err != nil && f.closed {
			return nil, task.ErrClosed
		}
		return nil, f.err
	}
	p := f.received[0]
	f.received[0] = nil
	f.received = f.received[1:]
	f.size -= len(p)
	if p == nil {
		p = []byte{}
	}
	return p, nil
}

// Receive implements proxy.Flow.
func (f *flow) Receive(p []byte) (int, error) {
	for {
		d, err := f.next()
		if err != nil {
			f.wake() // for the next call
			return 0, err
		}
		if d == nil {
			<-f.ready
			continue
		}
		if len(d) <= len(p) {
			return copy(p, d), nil
		}
		f.FlowStats().Drop(proxy.DropTooLong, 1)
	}
}

// WaitReadable waits until Receive would not wait.
func (f *flow) WaitReadable() error {
	for {
		f.mu.Lock()
		done := f.err != nil || len(f.received) > 0 && !f.closed
		f.mu.Unlock()
		if done {
			f.wake()
			return nil
		}
		<-f.ready
	}
}

// Send implements proxy.Flow.
func (f *flow) Send(p []byte) error {
	if len(p) > proxy.MaxDatagram {
		f.FlowStats().Drop(proxy.DropTooLong, 1)
		return proxy.ErrDatagramTooLong
	}
	f.mu.Lock()
	closed, err := f.closed, f.err
	f.mu.Unlock()
	switch {
	case closed:
		return task.ErrClosed
	case err == io.EOF:
		return io.ErrClosedPipe
	case err != nil:
		return err
	}
	f.st.c.sendDatagram(f, p)
	return nil
}

// Close implements proxy.Flow.
func (f *flow) Close() error {
	c := f.st.c
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil
	}
	f.closed = true
	f.received, f.size = nil, 0
	over := f.err != nil
	if !over {
		f.timer = c.s.After(closeTimeout, f.giveUp)
	}
	f.mu.Unlock()
	_ = f.st.closeWrite() // an error is one of a stream that is over
	f.wake()
	return nil
}

// giveUp is a callback: the other side did not end in time.
func (f *flow) giveUp() { f.st.c.endWith(f.st, task.ErrClosed, ErrRequestCancelled) }

// end notes why nothing more will come.
func (f *flow) end(err error) {
	f.mu.Lock()
	if f.err == nil {
		f.err = err
	}
	if f.timer != nil {
		f.timer.Stop()
	}
	f.mu.Unlock()
	f.wake()
}
