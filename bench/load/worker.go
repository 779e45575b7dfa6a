package load

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

// instant is a time on the clock of a run, in nanoseconds.
type instant int64

// worker owns some of the connections and every Threads-th arrival of the schedule. It is one goroutine, bound to a thread.
type worker struct {
	// Static after construction.
	r       *run
	index   int
	net     network
	conns   []*conn
	gap     float64 // nanoseconds between arrivals of this worker; 0 for a closed loop
	begun   chan instant
	done    chan struct{} // closed when the worker has ended
	drained chan struct{} // closed when it waits for no more answers
	release chan struct{} // closed when it may close its connections

	// Owned by the worker.
	state   phase
	zero    instant // of the schedule
	seen    uint64  // arrivals that have been noticed to be due
	sent    uint64  // arrivals that have got a place
	free    ring    // places
	dirty   []*conn // have bytes to write
	retries []retry
	opened  int // connections that stand or have failed, while connecting
	pending int // requests under way
	cpuFrom time.Duration
	tally   tally
	err     error // valid once done is closed

	// Read and written by the worker and the run.
	begin   atomic.Int64 // of the window: an instant; a very late one while it is not known
	end     atomic.Int64 // of the window, likewise
	hurry   atomic.Bool  // do not wait long for answers after the window
	quit    atomic.Bool
	answers atomic.Uint64
	bytes   atomic.Uint64
}

// phase is where a worker is: connecting → waiting → loading → draining.
type phase int

const (
	connecting phase = iota
	waiting          // for the other workers
	loading          // sending: warm-up and window
	draining         // the window is over, answers may still come
)

// tally is what a worker counts in the window.
type tally struct {
	requests, errors, unfinished, reconnects uint64
	failures                                 map[string]uint64
	latency, late                            *Latency
	cells                                    []cell
	cpu                                      time.Duration
	cpuShare                                 float64
}

// retry is a connection that is to be dialled again.
type retry struct {
	at instant
	c  *conn
}

const (
	retryAfter   = 50 * time.Millisecond
	dialTogether = 128                    // connections that are dialled at a time, so that they fit the target's backlog
	longestWait  = 20 * time.Millisecond  // a worker looks around at least so often
	never        = 1 << 62                // an instant
	hurryGrace   = 250 * time.Millisecond // for answers, after an interruption
)

func newWorker(r *run, index int) *worker {
	w := &worker{r: r, index: index, begun: make(chan instant, 1), done: make(chan struct{}), drained: make(chan struct{}), release: make(chan struct{})}
	w.tally = tally{failures: map[string]uint64{}, latency: NewLatency(), late: NewLatency()}
	w.begin.Store(never)
	w.end.Store(never)
	if r.cfg.Rate > 0 {
		w.gap = 1e9 / r.cfg.Rate * float64(r.cfg.Threads)
	}
	for i := index; i < r.cfg.Conns; i += r.cfg.Threads {
		w.conns = append(w.conns, &conn{w: w, wire: newWire(&r.cfg)})
	}
	return w
}

// run is the whole life of a worker. It reports on connected once its connections stand.
func (w *worker) run(connected chan<- error) {
	runtime.LockOSThread() // the accounting of processor time is per thread
	defer runtime.UnlockOSThread()
	defer close(w.done)
	open := newNetwork
	if w.r.cfg.network != nil {
		open = w.r.cfg.network
	}
	var err error
	if w.net, err = open(w); err != nil {
		connected <- err
		return
	}
	defer w.net.shut()
	err = w.connect()
	connected <- err
	if err != nil {
		return
	}
	if w.await() {
		w.err = w.load()
	}
	close(w.drained)
	<-w.release
	for _, c := range w.conns {
		c.close()
	}
}

// connect opens all connections, and fails if one cannot be opened: the target is not there.
func (w *worker) connect() error {
	if w.r.cfg.Protocol == NewConn {
		w.state = waiting
		return nil
	}
	deadline := w.r.now() + instant(dialTimeout)
	for dialled := 0; w.opened < len(w.conns); {
		for dialled < len(w.conns) && dialled-w.opened < dialTogether {
			w.conns[dialled].dial()
			dialled++
		}
		if err := w.turn(longestWait); err != nil {
			return err
		}
		if w.err != nil {
			return w.err
		}
		if w.r.now() > deadline {
			return fmt.Errorf("connect to %v: %d of %d connections stand after %v", w.r.addr, w.opened, len(w.conns), dialTimeout)
		}
		if w.quit.Load() {
			return errors.New("interrupted while connecting")
		}
	}
	w.state = waiting
	return nil
}

// await waits for the beginning of the schedule; it returns false if there will be none.
func (w *worker) await() bool {
	for {
		select {
		case zero, ok := <-w.begun:
			w.zero = zero
			return ok
		default:
			if err := w.turn(time.Millisecond); err != nil {
				w.err = err
				return false
			}
		}
	}
}

// load runs the schedule, the window and the grace.
func (w *worker) load() error {
	for w.r.now() < w.zero {
		if err := w.turn(time.Duration(w.zero - w.r.now())); err != nil {
			return err
		}
	}
	w.state = loading
	for _, c := range w.conns {
		c.offer()
	}
	began := false
	for {
		now := w.r.now()
		if w.quit.Load() {
			return nil
		}
		begin := instant(w.begin.Load())
		if !began && now >= begin {
			began, w.cpuFrom = true, threadCPU()
		}
		end := instant(w.end.Load())
		if now >= end {
			break
		}
		w.arrive(now, end)
		next := end
		if !began {
			next = begin
		}
		if w.gap > 0 {
			next = min(next, w.due(w.seen))
		}
		if err := w.turn(time.Duration(next - w.r.now())); err != nil {
			return err
		}
	}
	w.account()
	return w.drain()
}

// account takes down the worker's own processor time.
func (w *worker) account() {
	w.tally.cpu = threadCPU() - w.cpuFrom
	if length := w.r.now() - instant(w.begin.Load()); length > 0 {
		w.tally.cpuShare = float64(w.tally.cpu) / float64(length)
	}
}

// drain waits for the answers that are still to come, sends what was due in the window and had no place, and counts what stays unanswered.
func (w *worker) drain() error {
	w.state = draining
	end := instant(w.end.Load())
	late := end + instant(w.r.cfg.Grace)
	if w.hurry.Load() {
		late = min(late, w.r.now()+instant(hurryGrace))
	}
	if w.gap > 0 {
		w.arrive(end-1, end) // notices what was due at the very end
	}
	for !w.quit.Load() && (w.pending > 0 || w.sent < w.seen) {
		now := w.r.now()
		if now >= late {
			break
		}
		w.place()
		if err := w.turn(time.Duration(late - now)); err != nil {
			return err
		}
	}
	now := w.r.now()
	for _, c := range w.conns {
		c.wire.unfinished(func(due instant) { w.abandon(due, now) })
	}
	for ; w.sent < w.seen; w.sent++ {
		w.abandon(w.due(w.sent), now)
	}
	return nil
}

// turn writes what is to be written and handles what the network has, for which it waits up to d.
func (w *worker) turn(d time.Duration) error {
	now := w.r.now()
	d = min(d, w.retry(now))
	w.flush()
	err := w.net.wait(max(min(d, longestWait), 0))
	w.flush()
	return err
}

// retry dials again whose pause is over, and returns how long the shortest other pause lasts.
func (w *worker) retry(now instant) time.Duration {
	if len(w.retries) == 0 {
		return longestWait
	}
	due, rest, next := []*conn(nil), w.retries[:0], now+instant(longestWait)
	for _, r := range w.retries {
		if r.at <= now {
			due = append(due, r.c)
			continue
		}
		rest, next = append(rest, r), min(next, r.at)
	}
	w.retries = rest
	for _, c := range due { // which may add to retries
		c.again()
	}
	return time.Duration(next - now)
}

// flush writes what connections have gathered.
func (w *worker) flush() {
	for i := 0; i < len(w.dirty); i++ { // a failure may add to it
		c := w.dirty[i]
		c.dirty = false
		c.flush()
	}
	w.dirty = w.dirty[:0]
}

// due is when an arrival of the open loop falls due. The schedules of the workers interlock.
func (w *worker) due(i uint64) instant {
	return w.zero + instant(w.gap*(float64(i)+float64(w.index)/float64(w.r.cfg.Threads)))
}

// arrive notices the arrivals that have fallen due before end, and finds places for them and for those that still wait.
func (w *worker) arrive(now, end instant) {
	if w.gap == 0 {
		return
	}
	for due := w.due(w.seen); due <= now && due < end; due = w.due(w.seen) {
		if w.counts(due) {
			w.tally.late.Record(time.Duration(now - due))
		}
		w.seen++
	}
	w.place()
}

// place sends what is due, oldest first, as far as there are places. The schedule does not care: what has none is as old as it is.
func (w *worker) place() {
	for w.sent < w.seen {
		c := w.free.pop()
		if c == nil {
			return
		}
		w.sent++
		c.send(w.due(w.sent - 1))
	}
}

// offered is told that a place of c is free.
func (w *worker) offered(c *conn) {
	switch {
	case w.gap > 0:
		w.free.push(c)
	case w.state == loading:
		c.send(w.r.now())
	}
}

// counts reports whether a request that was due then belongs to the window.
func (w *worker) counts(due instant) bool {
	return int64(due) >= w.begin.Load() && int64(due) < w.end.Load()
}

// answered counts an answer that became whole now, or a failure.
func (w *worker) answered(due, now instant, failure error) {
	w.answers.Add(1)
	w.pending--
	if cell := w.cell(now); cell != nil {
		if failure != nil {
			cell.errors++
		} else {
			cell.answers++
			cell.latency.Record(time.Duration(now - due))
		}
	}
	if !w.counts(due) {
		return
	}
	if failure != nil {
		w.tally.errors++
		w.reason(failure)
		return
	}
	w.tally.requests++
	w.tally.latency.Record(time.Duration(now - due))
}

// abandon counts a request of the window that stays without an answer.
func (w *worker) abandon(due, now instant) {
	if w.counts(due) {
		w.tally.unfinished++
		w.tally.latency.Record(time.Duration(now - due))
	}
}

// reason counts a failure by what it says.
func (w *worker) reason(failure error) {
	why := failure.Error()
	if _, ok := w.tally.failures[why]; !ok && len(w.tally.failures) >= maxReasons {
		why = "other"
	}
	w.tally.failures[why]++
}

// received counts bytes.
func (w *worker) received(n int, now instant) {
	w.bytes.Add(uint64(n))
	if cell := w.cell(now); cell != nil {
		cell.bytes += uint64(n)
	}
}

// cell returns the interval of the series that now is in, nil if it is not in the window.
func (w *worker) cell(now instant) *cell {
	begin := instant(w.begin.Load())
	if w.state != loading || now < begin {
		return nil
	}
	i := min(int(now-begin)/int(w.r.cfg.Interval), maxPoints-1)
	for len(w.tally.cells) <= i {
		w.tally.cells = append(w.tally.cells, cell{latency: newLatency(seriesDigit)})
	}
	return &w.tally.cells[i]
}

// ring is a queue of free places. A connection is in it once for each of them.
type ring struct {
	places []place // as many as a power of two
	head   int
	n      int
}

// place is void if the connection has been replaced since.
type place struct {
	c    *conn
	life uint64
}

func (r *ring) push(c *conn) {
	if r.n == len(r.places) {
		grown := make([]place, max(16, 2*r.n))
		for i := range r.n {
			grown[i] = r.places[(r.head+i)&(len(r.places)-1)]
		}
		r.places, r.head = grown, 0
	}
	r.places[(r.head+r.n)&(len(r.places)-1)] = place{c, c.life}
	r.n++
}

// pop returns nil if there is none.
func (r *ring) pop() *conn {
	for r.n > 0 {
		p := r.places[r.head]
		r.head = (r.head + 1) & (len(r.places) - 1)
		r.n--
		if p.life == p.c.life {
			return p.c
		}
	}
	return nil
}
