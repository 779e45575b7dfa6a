package task

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// goShard is a mutex, a pool of buffers and a queue of callbacks that one goroutine runs in order.
type goShard struct {
	// Static after construction.
	rt    *goRuntime
	index int

	lock  sync.Mutex // the shard's lock, see Lock
	conns atomic.Int64
	pool  sync.Pool // of *Buffer
	large sync.Pool // the same, of DatagramSize

	workers workers

	kicked chan struct{} // one slot: the queue has something, or the end has come
	mu     sync.Mutex
	queue  []func()
	ended  bool

	// Owned by callbacks.
	batch []func()
	at    int // the next of batch
}

func (s *goShard) Index() int   { return s.index }
func (s *goShard) Now() Instant { return Now() }
func (s *goShard) Lock()        { s.lock.Lock() }
func (s *goShard) Unlock()      { s.lock.Unlock() }
func (s *goShard) Yield()       { runtime.Gosched() }

func (s *goShard) Go(f func()) {
	if !s.workers.give(f) {
		s.rt.live.start(func() { s.work(f) })
	}
}

// task is the root of a task: what f panics with ends here.
func (s *goShard) task(f func()) {
	s.rt.tasks.Add(1)
	defer s.rt.tasks.Add(-1)
	defer func() { s.rt.recovered(recover()) }()
	f()
}

// Sleep waits for d. Once the runtime stops it unwinds the task, which has nothing else to end it.
func (s *goShard) Sleep(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.rt.stopping:
		panic(unwound{})
	}
}

// Offload calls f: a goroutine may block.
func (s *goShard) Offload(f func()) { f() }

func (s *goShard) Post(f func()) {
	s.mu.Lock()
	if !s.ended {
		s.queue = append(s.queue, f)
	}
	s.mu.Unlock()
	s.kick()
}

func (s *goShard) kick() {
	select {
	case s.kicked <- struct{}{}:
	default:
	}
}

// end lets callbacks return once the queue is empty.
func (s *goShard) end() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.kick()
}

// callbacks runs the queue until end, and then calls done. Should a callback end its goroutine with
// runtime.Goexit, another one goes on.
func (s *goShard) callbacks(done func()) {
	ended := false
	defer func() {
		if ended {
			done()
			return
		}
		go s.callbacks(done)
	}()
	for {
		for s.at < len(s.batch) {
			f := s.batch[s.at]
			s.batch[s.at] = nil
			s.at++
			s.callback(f)
		}
		s.mu.Lock()
		s.batch, s.queue, s.at = s.queue, s.batch[:0], 0
		ended = s.ended && len(s.batch) == 0
		s.mu.Unlock()
		switch {
		case ended:
			return
		case len(s.batch) == 0:
			<-s.kicked
		}
	}
}

func (s *goShard) callback(f func()) {
	defer func() { s.rt.recovered(recover()) }()
	f()
}

type goTimer struct {
	t       *time.Timer
	stopped atomic.Bool
}

func (t *goTimer) Stop() {
	t.stopped.Store(true)
	t.t.Stop()
}

func (s *goShard) After(d time.Duration, f func()) Timer {
	t := &goTimer{}
	call := func() {
		if !t.stopped.Load() {
			f()
		}
	}
	t.t = time.AfterFunc(d, func() { s.Post(call) })
	return t
}

// goBatch posts f unless it is posted already.
type goBatch struct {
	s      *goShard
	run    func()
	posted atomic.Bool
}

func (b *goBatch) Kick() {
	if !b.posted.Swap(true) {
		b.s.Post(b.run)
	}
}

func (s *goShard) Batch(f func()) Batch {
	b := &goBatch{s: s}
	b.run = func() {
		b.posted.Store(false)
		f()
	}
	return b
}

func (s *goShard) Dial(network, address string, deadline Instant) (Conn, error) {
	if err := checkDial(network, address); err != nil {
		return nil, err
	}
	d := net.Dialer{Deadline: deadline.wall()}
	nc, err := d.DialContext(s.rt.dialing, network, address)
	if err != nil {
		if s.rt.dialing.Err() != nil {
			err = ErrClosed
		}
		return nil, fmt.Errorf("dial %s: %w", address, plainError(err))
	}
	return s.Adopt(nc)
}

// checkDial refuses what would need DNS or is no stream.
func checkDial(network, address string) error {
	switch network {
	case "unix":
		return nil
	case "tcp":
		if _, err := netip.ParseAddrPort(address); err != nil {
			return fmt.Errorf("dial %s: not an IP address and port", address)
		}
		return nil
	}
	return fmt.Errorf("dial %s: network %q is neither tcp nor unix", address, network)
}

func (s *goShard) Adopt(nc net.Conn) (Conn, error) {
	c, err := newGoConn(s, nc, nil)
	if err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

func (s *goShard) Buffer() *Buffer {
	s.rt.buffers.Add(1)
	b, _ := s.pool.Get().(*Buffer)
	if b == nil {
		return newBuffer()
	}
	b.take()
	return b
}

func (s *goShard) Free(b *Buffer) {
	counted, keep := b.release()
	if counted {
		s.rt.buffers.Add(-1)
	}
	switch {
	case !keep:
	case len(b.B) == DatagramSize:
		s.large.Put(b)
	default:
		s.pool.Put(b)
	}
}

func (s *goShard) Datagram() *Buffer {
	s.rt.buffers.Add(1)
	b, _ := s.large.Get().(*Buffer)
	if b == nil {
		return newLarge()
	}
	b.take()
	return b
}
