package relay

import (
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// FlowResult says how a relay of Flows ended.
type FlowResult struct {
	AtoB, BtoA int64 // datagrams passed on
	Idle       bool  // because nothing had come for too long
	Err        error // what ended it first: of Receive or Send; io.EOF in order; nil if Idle
}

// Flows passes datagrams between a and b, in the calling task and one more, until one of them ends or nothing has come for idle; 0 is for ever. It closes
// both, and returns when both have ended. A datagram that cannot be passed on is dropped; nothing waits for another.
func Flows(s task.Shard, a, b proxy.Flow, idle time.Duration) FlowResult {
	r := &flows{s: s, a: a, b: b, idle: idle, last: s.Now()}
	s.Gate(&r.gate)
	if idle > 0 {
		r.watch = r.look
		r.s.Lock()
		r.timer = s.After(idle, r.watch)
		r.s.Unlock()
	}
	s.Go(r.back)
	r.forth()
	for !r.backEnded() {
		r.gate.Wait(0)
	}
	r.s.Lock()
	defer r.s.Unlock()
	if r.timer != nil {
		r.timer.Stop()
	}
	return r.result
}

type flows struct {
	// Static after construction.
	s     task.Shard
	a, b  proxy.Flow
	idle  time.Duration
	watch func()
	gate  task.Gate // woken when ended is set

	// Guarded by the shard's lock.
	result FlowResult
	last   task.Instant // when something came
	timer  task.Timer
	over   bool // the relay ends: the result is fixed
	ended  bool // back has returned
}

func (r *flows) forth() {
	defer r.close() // after a panic too
	r.end(r.pass(r.b, r.a, &r.result.AtoB))
}

func (r *flows) back() {
	defer func() {
		r.close()
		r.s.Lock()
		r.ended = true
		r.s.Unlock()
		r.gate.Wake()
	}()
	r.end(r.pass(r.a, r.b, &r.result.BtoA))
}

func (r *flows) backEnded() bool {
	r.s.Lock()
	defer r.s.Unlock()
	return r.ended
}

func (r *flows) close() {
	_ = r.a.Close()
	_ = r.b.Close()
}

func (r *flows) end(err error) {
	r.s.Lock()
	if !r.over {
		r.over, r.result.Err = true, err
	}
	r.s.Unlock()
	r.close()
}

// pass returns why src gives nothing more. A dst that takes nothing more ends the relay; src is told, and has a moment to end in order.
func (r *flows) pass(dst, src proxy.Flow, n *int64) error {
	waiter, _ := src.(proxy.Waiter)
	for {
		if waiter != nil {
			if err := waiter.WaitReadable(); err != nil {
				return err
			}
		}
		if err := r.step(dst, src, n); err != nil {
			return err
		}
	}
}

// step passes one datagram on. The buffer is held for no longer than that.
func (r *flows) step(dst, src proxy.Flow, n *int64) error {
	buf := r.s.Datagram()
	defer r.s.Free(buf)
	m, err := src.Receive(buf.B)
	if err != nil {
		return err
	}
	r.s.Lock()
	r.last = r.s.Now()
	*n++
	r.s.Unlock()
	if err := dst.Send(buf.B[:m]); err != nil && err != proxy.ErrDatagramTooLong {
		r.end(err)
	}
	return nil
}

// look is a callback: it ends a relay that has been idle, and else comes again when it could have been.
func (r *flows) look() {
	r.s.Lock()
	left := r.last.Add(r.idle).Sub(r.s.Now())
	idle := left <= 0 && !r.over
	switch {
	case idle:
		r.over, r.result.Idle = true, true
	case !r.over:
		r.timer = r.s.After(left, r.watch)
	}
	r.s.Unlock()
	if idle {
		r.close()
	}
}
