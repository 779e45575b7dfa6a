package task

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// NewGoroutines returns the reference runtime, which works on every platform and with any net.Conn: tasks
// are goroutines, and a shard is no more than a mutex and a goroutine that runs its callbacks.
func NewGoroutines(c Config) Runtime {
	c = c.withDefaults()
	rt := &goRuntime{cfg: c, stopping: make(chan struct{}), unwind: make(chan struct{})}
	rt.dialing, rt.stopDials = context.WithCancel(context.Background())
	for i := range c.Loops {
		s := &goShard{rt: rt, index: c.First + i, kicked: make(chan struct{}, 1)}
		rt.shards = append(rt.shards, s)
		rt.asShards = append(rt.asShards, s)
	}
	return rt
}

type goRuntime struct {
	// Static after construction.
	cfg       Config
	shards    []*goShard
	asShards  []Shard
	stopping  chan struct{} // closed when Run's context has ended
	unwind    chan struct{} // closed when the grace is over
	dialing   context.Context
	stopDials context.CancelFunc

	tasks, idle, buffers atomic.Int64
	panics, shed         atomic.Uint64

	mu        sync.Mutex
	running   bool
	stopped   bool
	conns     map[*goConn]struct{}
	packets   map[*goPacket]struct{}
	listeners map[*goListener]struct{}

	live group // tasks, acceptors, idle connections, writers
}

func (rt *goRuntime) Shards() []Shard { return rt.asShards }

// Pick returns the shard with the fewest connections.
func (rt *goRuntime) Pick() Shard {
	best := rt.shards[0]
	for _, s := range rt.shards[1:] {
		if s.conns.Load() < best.conns.Load() {
			best = s
		}
	}
	return best
}

func (rt *goRuntime) Stats() Stats {
	st := Stats{
		Shards:  len(rt.shards),
		Tasks:   int(rt.tasks.Load()),
		Idle:    int(rt.idle.Load()),
		Buffers: int(rt.buffers.Load()),
		Panics:  rt.panics.Load(),
		Shed:    rt.shed.Load(),
	}
	for _, s := range rt.shards {
		st.Conns += int(s.conns.Load())
	}
	return st
}

// Run starts the callback goroutines and the acceptors, waits for ctx, and takes everything down again.
func (rt *goRuntime) Run(ctx context.Context) error {
	rt.mu.Lock()
	if rt.running {
		rt.mu.Unlock()
		return errors.New("task: Run called twice")
	}
	rt.running = true
	for l := range rt.listeners {
		rt.live.start(l.accept)
	}
	rt.mu.Unlock()
	var callbacks sync.WaitGroup
	for _, s := range rt.shards {
		s.workers.begin()
		callbacks.Add(1)
		go s.callbacks(callbacks.Done)
	}
	<-ctx.Done()
	rt.stop()
	for _, s := range rt.shards {
		s.end()
	}
	callbacks.Wait()
	return nil
}

// stop closes listeners and connections and waits for the tasks: first on their own accord, then unwound.
func (rt *goRuntime) stop() {
	rt.mu.Lock()
	rt.stopped = true
	close(rt.stopping)
	rt.stopDials()
	var ls []*goListener
	for l := range rt.listeners {
		ls = append(ls, l)
	}
	var cs []*goConn
	for c := range rt.conns {
		cs = append(cs, c)
	}
	var ps []*goPacket
	for c := range rt.packets {
		ps = append(ps, c)
	}
	rt.mu.Unlock()
	for _, c := range ps {
		c.Close()
	}
	for _, l := range ls {
		l.Close()
	}
	for _, c := range cs {
		c.close(ErrClosed, rt.cfg.Grace)
	}
	for _, s := range rt.shards {
		s.workers.end()
	}
	ended := rt.live.end()
	if waitFor(ended, rt.cfg.Grace) {
		return
	}
	close(rt.unwind)
	if !waitFor(ended, rt.cfg.Grace) {
		rt.cfg.Logger.Error("runtime stopped with tasks that do not end", "tasks", rt.tasks.Load())
	}
}

// waitFor reports whether c was closed within d.
func waitFor(c <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c:
		return true
	case <-t.C:
		return false
	}
}

// unwindTask ends the calling task, whose grace is over.
func (rt *goRuntime) unwindTask() {
	rt.cfg.Logger.Warn("task unwound at shutdown", "waiting in", waiter())
	panic(unwound{})
}

// recovered deals with the panic that ended a task or callback; r is what recover returned. It reports
// whether there was one.
func (rt *goRuntime) recovered(r any) bool {
	if r == nil {
		return false
	}
	if _, ok := r.(unwound); !ok {
		rt.panics.Add(1)
		rt.cfg.Logger.Error("panic in task", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
	}
	return true
}

// Listen serves ln from Run on.
func (rt *goRuntime) Listen(ln net.Listener, o ServeOptions) (Listener, error) {
	l := newGoListener(rt, ln, o)
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.stopped {
		return nil, ErrClosed
	}
	if rt.listeners == nil {
		rt.listeners = make(map[*goListener]struct{})
	}
	rt.listeners[l] = struct{}{}
	if rt.running {
		rt.live.start(l.accept)
	}
	return l, nil
}

func (rt *goRuntime) addConn(c *goConn) error {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.stopped {
		return ErrClosed
	}
	if rt.conns == nil {
		rt.conns = make(map[*goConn]struct{})
	}
	rt.conns[c] = struct{}{}
	c.s.conns.Add(1)
	return nil
}

func (rt *goRuntime) removeConn(c *goConn) {
	rt.mu.Lock()
	_, ok := rt.conns[c]
	delete(rt.conns, c)
	rt.mu.Unlock()
	if !ok {
		return
	}
	c.s.conns.Add(-1)
	if c.l != nil {
		c.l.left(c)
	}
}
