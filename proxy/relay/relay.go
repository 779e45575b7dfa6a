// Package relay copies one Stream to another, both ways, until both directions have ended. An end is passed on as an
// end and a reset as a reset, so neither side can take a broken Stream for a complete one. Nothing is
// queued: a slow reader stops the writer. A direction that waits holds no buffer where its Stream is a
// proxy.Waiter. There are no timeouts; whoever wants one resets a Stream.
package relay

import (
	"io"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// End says how one direction of a relay ended.
type End struct {
	Bytes int64 // passed on
	Err   error // nil: in order. Else what Read or Write returned, of this or, first, of the other direction
}

// Result says how a relay ended.
type Result struct {
	AtoB, BtoA End
}

// Err is the error of either direction, or nil if both ended in order.
func (r Result) Err() error {
	if r.AtoB.Err != nil {
		return r.AtoB.Err
	}
	return r.BtoA.Err
}

// Copy relays between a and b in the calling task and one more, until both directions have ended, and closes both Streams.
func Copy(s task.Shard, a, b proxy.Stream) { Count(s, a, b) }

// Count is Copy, and tells what became of each direction.
func Count(s task.Shard, a, b proxy.Stream) Result {
	r := &relay{s: s, a: a, b: b}
	s.Gate(&r.gate)
	s.Go(r.back)
	r.forth()
	for !r.backEnded() {
		r.gate.Wait(0)
	}
	a.Close()
	b.Close()
	return r.result
}

type relay struct {
	// Static after construction.
	s    task.Shard
	a, b proxy.Stream

	gate   task.Gate // woken when ended is set
	result Result    // AtoB owned by the calling task, BtoA by the other until ended

	// Guarded by the shard's lock.
	ended bool
}

// forth is the direction from a to b, in the caller's task. If it panics, as a task is ended at
// shutdown, the other direction ends too.
func (r *relay) forth() {
	whole := false
	defer func() {
		if !whole {
			r.reset()
		}
	}()
	r.result.AtoB = r.pass(r.b, r.a)
	whole = true
}

// back is the task of the direction from b to a. It tells that it has ended even if it panics.
func (r *relay) back() {
	whole := false
	defer func() {
		if !whole {
			r.reset()
		}
		r.s.Lock()
		r.ended = true
		r.s.Unlock()
		r.gate.Wake()
	}()
	r.result.BtoA = r.pass(r.a, r.b)
	whole = true
}

func (r *relay) backEnded() bool {
	r.s.Lock()
	defer r.s.Unlock()
	return r.ended
}

// reset ends both Streams at once, which also wakes the other direction.
func (r *relay) reset() {
	r.a.Reset()
	r.b.Reset()
}

// pass copies src to dst until the end of src, which it passes on, or an error, which resets both.
func (r *relay) pass(dst, src proxy.Stream) (e End) {
	e.Bytes, e.Err = r.move(dst, src)
	if e.Err == nil {
		e.Err = dst.CloseWrite()
	}
	if e.Err != nil {
		r.reset()
	}
	return e
}

// move copies. A read that fills its buffer is followed by another at once: there is more, and no need to wait for it. While bytes come in
// bulk they are taken, and passed on, in larger pieces: fewer and larger system calls.
func (r *relay) move(dst, src proxy.Stream) (n int64, err error) {
	waiter, _ := src.(proxy.Waiter)
	more, size := false, 0
	for {
		if waiter != nil && !more {
			if err := waiter.WaitReadable(); err != nil {
				return n, err
			}
		}
		if size, more, err = r.step(dst, src, size >= task.BufferSize); err != nil {
			if err == io.EOF {
				err = nil
			}
			return n + int64(size), err
		}
		n += int64(size)
	}
}

// step reads once and writes what it read. A failed write is never io.EOF.
func (r *relay) step(dst, src proxy.Stream, bulk bool) (n int, full bool, err error) {
	var buf *task.Buffer
	if bulk {
		buf = r.s.Datagram()
	} else {
		buf = r.s.Buffer()
	}
	defer r.s.Free(buf)
	n, err = src.Read(buf.B)
	if n == 0 {
		return 0, false, err
	}
	full = n == len(buf.B)
	w, werr := dst.Write(buf.B[:n])
	if werr == io.EOF {
		werr = io.ErrClosedPipe
	}
	if werr != nil {
		return w, full, werr
	}
	return n, full, err
}
