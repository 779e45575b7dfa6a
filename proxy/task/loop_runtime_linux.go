package task

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// New returns the best runtime of this platform, not yet running: here, epoll loops with coroutines.
//
// Run sees to it that GOMAXPROCS exceeds the number of loops, since a loop that polls keeps its processor for up to 4 ms.
func New(c Config) (Runtime, error) {
	c = c.withDefaults()
	rt := &loopRuntime{cfg: c}
	rt.watch.init(rt)
	for i := range c.Loops {
		l := newLoop(rt, i)
		rt.all = append(rt.all, l)
		rt.shards = append(rt.shards, l)
	}
	return rt, nil
}

type loopRuntime struct {
	// Static after construction.
	cfg    Config
	all    []*loop
	shards []Shard
	watch  watchdog

	ran          atomic.Bool
	loops        sync.WaitGroup
	panics, shed atomic.Uint64
}

func (rt *loopRuntime) Shards() []Shard { return rt.shards }

func (rt *loopRuntime) loops0() *loop { return rt.all[0] }

// Run starts the loops, waits for ctx, and takes everything down again.
func (rt *loopRuntime) Run(ctx context.Context) error {
	if rt.ran.Swap(true) {
		return errors.New("task: Run called twice")
	}
	if n := len(rt.all) + 1; runtime.GOMAXPROCS(0) < n {
		runtime.GOMAXPROCS(n)
	}
	for _, l := range rt.all {
		if err := l.openPoller(); err != nil {
			rt.closePollers()
			return fmt.Errorf("start loop %d: %w", l.index, err)
		}
	}
	rt.loops.Add(len(rt.all))
	for _, l := range rt.all {
		go l.main()
	}
	endWatch := rt.watch.start()
	<-ctx.Done()
	for _, l := range rt.all {
		l.post(l.stop)
	}
	ended := make(chan struct{})
	go rt.awaitLoops(ended)
	defer endWatch()
	if !waitFor(ended, 3*rt.cfg.Grace+time.Second) {
		return errors.New("task: a loop does not end, since a task holds it")
	}
	rt.closePollers()
	return nil
}

func (rt *loopRuntime) awaitLoops(ended chan struct{}) {
	rt.loops.Wait()
	close(ended)
}

func (rt *loopRuntime) closePollers() {
	for _, l := range rt.all {
		l.closePoller()
	}
}

// stop begins the end of l.
func (l *loop) stop() {
	l.stopping = true
	l.graceEnd = l.now.Add(l.rt.cfg.Grace)
	for _, ln := range l.listeners {
		ln.Close()
	}
	l.closeConns()
	for _, t := range l.tasks {
		if t.busy && t.sleeping {
			t.killed = true
			l.wake(t)
		}
	}
	l.wakeAt(l.graceEnd)
}

func (l *loop) closeConns() {
	l.handlers.each(func(h handler) {
		switch c := h.(type) {
		case *loopConn:
			c.close(l.rt.cfg.Grace)
		case *loopPacket:
			c.Close()
		}
	})
}

// wakeAt ends a poll at t.
func (l *loop) wakeAt(t Instant) { l.After(t.Sub(l.now), func() {}) }

// checkStop ends l when nothing is left, and unwinds the tasks that are left when the grace is over.
func (l *loop) checkStop() {
	if !l.killing && l.now >= l.graceEnd {
		l.killing = true
		l.handlers.each(func(h handler) {
			if c, ok := h.(*loopConn); ok {
				c.Reset()
			}
		})
	}
	if l.killing {
		for _, t := range l.tasks {
			if t.busy && !t.killed {
				t.killed, t.logKill = true, true
				l.wake(t)
			}
		}
	}
	if l.count.tasks > 0 || l.count.conns > 0 || len(l.listeners) > 0 || !l.idle() || !l.close() {
		return
	}
	for len(l.pool) > 0 {
		t := l.pool[len(l.pool)-1]
		l.pool = l.pool[:len(l.pool)-1]
		t.stop()
	}
	l.buffers, l.large = nil, nil
	l.finished = true
}

// close refuses posts from now on. It reports false if some have come.
func (l *loop) close() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = len(l.posts) == 0
	return l.over
}

// published is what Stats reads: the counts as of the end of the last turn.
type published struct {
	last                        counts
	tasks, conns, idle, buffers atomic.Int64
}

func (l *loop) publish() {
	p := &l.seen
	if p.last == l.count {
		return
	}
	p.last = l.count
	p.tasks.Store(int64(l.count.tasks))
	p.conns.Store(int64(l.count.conns))
	p.idle.Store(int64(l.count.idle))
	p.buffers.Store(int64(l.count.buffers))
}

func (rt *loopRuntime) Stats() Stats {
	st := Stats{Shards: len(rt.all), Panics: rt.panics.Load(), Stalls: rt.watch.stalls.Load(), Shed: rt.shed.Load()}
	now := Now()
	for _, l := range rt.all {
		st.Busy = max(st.Busy, float64(l.load.value(now))/1000)
		st.LongestTurn = max(st.LongestTurn, time.Duration(l.load.longest.Load()))
		st.Tasks += int(l.seen.tasks.Load())
		st.Conns += int(l.seen.conns.Load())
		st.Idle += int(l.seen.idle.Load())
		st.Buffers += int(l.seen.buffers.Load())
	}
	return st
}

// maxLead is how many connections more than the least populated loop one may have and still be dealt more,
// busy or not: connections often come long before their load.
const maxLead = 256

func (rt *loopRuntime) Pick() Shard { return rt.pick() }

// pick returns the first loop that has time, or the least loaded.
func (rt *loopRuntime) pick() *loop {
	if len(rt.all) == 1 {
		return rt.all[0]
	}
	now := Now()
	fewest := rt.all[0].seen.conns.Load()
	for _, l := range rt.all[1:] {
		fewest = min(fewest, l.seen.conns.Load())
	}
	var best *loop
	var bestLoad int32
	for _, l := range rt.all {
		conns, load := l.seen.conns.Load(), l.load.value(now)
		if conns > fewest+maxLead {
			continue
		}
		if load < busyPermille {
			return l
		}
		if best == nil || load < bestLoad || load == bestLoad && conns < best.seen.conns.Load() {
			best, bestLoad = l, load
		}
	}
	return best
}
