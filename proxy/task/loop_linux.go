package task

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// loop is a shard on epoll: one goroutine that polls and resumes coroutines. A turn is
//
//	poll -> timers -> posted callbacks -> ready tasks -> deferred callbacks -> kicked batches -> what Take took
//
// Nothing below "Owned by the loop" needs a lock, since only one coroutine of the loop, or the loop itself, runs.
type loop struct {
	// Static after construction.
	rt    *loopRuntime
	index int

	// Any goroutine.
	asleep  atomic.Bool  // the loop polls with a timeout: a Post must write to the eventfd
	pending atomic.Bool  // posts has something
	handed  atomic.Bool  // goroutines have something to do by this loop
	clock   atomic.Int64 // the Instant of the current turn
	turnNo  atomic.Uint64
	load    load
	seen    published

	mu    sync.Mutex
	posts []func()
	over  bool // no posts are taken any more

	// Owned by the loop: polling.
	epfd, eventfd int
	events        [128]unix.EpollEvent
	eventN        int // events of this poll; eventAt is the next to handle, so that a Goexit loses none
	eventAt       int
	emptyRounds   int
	mayPollRaw    bool
	handlers      handlerTable
	generation    int32
	iovecs        [maxChunks]unix.Iovec // scratch of sendChunks
	msg           unix.Msghdr
	packet        packetScratch
	now           Instant
	polled        Instant // when the last poll returned
	wheel         wheel

	// Owned by the loop: running.
	cur                  *loopTask
	tasks                []*loopTask // every coroutine, pooled or not
	pool                 []*loopTask
	poolLow              int // least len(pool) since the last trim
	readyHead, readyTail *loopTask
	yielded              []*loopTask
	calls                callQueue // deferred callbacks
	posted               callQueue
	batches, flushing    []*loopBatch
	flushAt              int
	late                 []*loopConn // with something that Take took in this turn
	lateAt               int
	buffers              []*Buffer
	buffersLow           int
	large                []*Buffer // of DatagramSize
	largeLow             int
	trimAt               Instant
	locked               bool // between Lock and Unlock: catches waits and reentrance
	count                counts
	listeners            []*loopListener

	// Owned by the loop: stopping.
	stopping bool
	graceEnd Instant
	killing  bool
	finished bool
}

// counts is what Stats sums.
type counts struct{ tasks, conns, idle, buffers int }

// callQueue is a list of callbacks that survives a Goexit in one of them.
type callQueue struct {
	list []func()
	at   int
}

func (q *callQueue) empty() bool { return q.at == len(q.list) }

func newLoop(rt *loopRuntime, index int) *loop {
	l := &loop{rt: rt, index: index, epfd: -1, eventfd: -1}
	l.setNow(Now())
	l.wheel.tick = int64(l.now) / int64(wheelGrain)
	return l
}

func (l *loop) setNow(t Instant) {
	l.now = t
	l.clock.Store(int64(t))
}

// main is the loop's goroutine. A runtime.Goexit in a task unwinds it too; another one then takes over.
func (l *loop) main() {
	id := goid()
	l.rt.watch.add(id, l)
	defer func() {
		l.rt.watch.remove(id)
		if l.finished {
			l.rt.loops.Done()
			return
		}
		l.cur, l.locked = nil, false
		l.turnNo.Store((l.turnNo.Load() + 1) &^ 1)
		go l.main()
	}()
	for !l.finished {
		l.turn()
	}
}

// maxResumes bounds the resumes of a turn before the next poll.
const maxResumes = 1024

func (l *loop) turn() {
	l.handleEvents() // what a Goexit left
	l.poll()
	l.turnNo.Store((l.turnNo.Load() + 1) | 1) // odd: something runs
	l.handleEvents()
	l.wheel.advance(l.now)
	l.takePosts()
	l.run(&l.posted)
	for resumes := 0; resumes < maxResumes && (l.readyHead != nil || !l.calls.empty()); {
		for t := l.popReady(); t != nil; t = l.popReady() {
			l.step(t)
			if resumes++; resumes >= maxResumes {
				break
			}
		}
		l.cur = nil
		l.run(&l.calls)
	}
	l.flushBatches()
	l.sendLate()
	if l.stopping {
		l.checkStop()
	}
	l.publish()
	l.turnNo.Add(1) // even
}

// step resumes t, and leaves it in cur: it is inlined.
func (l *loop) step(t *loopTask) {
	l.turnNo.Add(2)
	l.cur = t
	t.resume()
}

// run runs callbacks, those that they add included.
func (l *loop) run(q *callQueue) {
	for q.at < len(q.list) {
		f := q.list[q.at]
		q.list[q.at] = nil
		q.at++
		l.turnNo.Store(l.turnNo.Load() + 2)
		l.callback(f)
	}
	q.list, q.at = q.list[:0], 0
}

func (l *loop) callback(f func()) {
	defer func() {
		l.locked = false
		if r := recover(); r != nil {
			l.rt.logPanic(r)
		}
	}()
	f()
}

// call defers f to the end of the turn's tasks.
func (l *loop) call(f func()) { l.calls.list = append(l.calls.list, f) }

// flushBatches calls each kicked batch once. Kicks from within are for the next turn.
func (l *loop) flushBatches() {
	if l.flushAt == len(l.flushing) {
		l.flushing, l.batches, l.flushAt = l.batches, l.flushing[:0], 0
	}
	for l.flushAt < len(l.flushing) {
		b := l.flushing[l.flushAt]
		l.flushAt++
		b.kicked = false
		l.turnNo.Store(l.turnNo.Load() + 2)
		l.callback(b.f)
	}
}

// takePosts moves what foreign goroutines have posted to the loop's own queue.
func (l *loop) takePosts() {
	if !l.pending.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending.Store(false)
	if l.posted.empty() {
		l.posted.list, l.posts, l.posted.at = l.posts, l.posted.list[:0], 0
		return
	}
	l.posted.list = append(l.posted.list, l.posts...)
	clear(l.posts)
	l.posts = l.posts[:0]
}

// post reports false if the loop has ended.
func (l *loop) post(f func()) bool {
	l.mu.Lock()
	if l.over {
		l.mu.Unlock()
		return false
	}
	l.posts = append(l.posts, f)
	l.mu.Unlock()
	l.pending.Store(true)
	if l.asleep.Load() && l.asleep.CompareAndSwap(true, false) {
		l.interrupt()
	}
	return true
}

// trimEvery is how often a loop gives back coroutines and buffers that it did not need since the last time.
const trimEvery = Instant(5 * time.Second)

// trim drops what was never taken from the pools since the last one.
func (l *loop) trim() {
	if l.now < l.trimAt {
		return
	}
	l.trimAt = l.now + trimEvery
	for n := l.poolLow; n > 0 && len(l.pool) > 0; n-- {
		t := l.pool[len(l.pool)-1]
		l.pool[len(l.pool)-1] = nil
		l.pool = l.pool[:len(l.pool)-1]
		t.stop()
	}
	keep := len(l.buffers) - l.buffersLow
	clear(l.buffers[keep:])
	l.buffers = l.buffers[:keep]
	keep = len(l.large) - l.largeLow
	clear(l.large[keep:])
	l.large = l.large[:keep]
	l.poolLow, l.buffersLow, l.largeLow = len(l.pool), len(l.buffers), len(l.large)
}
