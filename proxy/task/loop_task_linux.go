package task

import (
	"fmt"
	"iter"
	"runtime/debug"
)

// loopTask is a coroutine and the task that it runs at the moment. When a task has ended its coroutine goes to
// the loop's pool.
//
//	pooled -> ready -> running -> parked -> ready -> ... -> running -> pooled, or gone
//
// What every resume looks at is in the first 64 bytes, one line of a cache; what timers need in the next.
type loopTask struct {
	l      *loop
	resume func() (struct{}, bool)
	yield  func(struct{}) bool // set by main

	f    func()    // what a task of Go runs
	conn *loopConn // what a task of a listener serves, else nil

	next     *loopTask // in the ready ring
	deadline Instant   // of the current wait, 0 means none
	budget   int16     // I/O calls until the next yield
	parked   bool
	busy     bool // has a task
	timedOut bool
	sleeping bool // nothing but time wakes it: unwound first at shutdown
	killed   bool // every wait ends the task
	logKill  bool // say so

	timer timerNode
	stop  func()
	index int // in loop.tasks
}

// ioBudget is how many I/O calls a task makes per resume before others get a turn.
const ioBudget = 64

// maxPooled bounds the coroutines, and the buffers, that a loop keeps for reuse: as many as it once needed at the same time, which trim takes back
// within seconds. Thousands of exchanges under way at once would otherwise make them anew all the time.
const maxPooled = 16384

// spawn takes a coroutine for a new task and makes it ready.
func (l *loop) spawn(f func(), c *loopConn) {
	var t *loopTask
	if n := len(l.pool); n > 0 {
		t = l.pool[n-1]
		l.pool[n-1] = nil
		l.pool = l.pool[:n-1]
		l.poolLow = min(l.poolLow, n-1)
	} else {
		t = l.newTask()
	}
	t.f, t.conn, t.busy = f, c, true
	l.count.tasks++
	l.pushReady(t)
}

func (l *loop) newTask() *loopTask {
	t := &loopTask{l: l, index: len(l.tasks)}
	t.timer.owner = t
	l.tasks = append(l.tasks, t)
	t.resume, t.stop = iter.Pull(t.main)
	return t
}

// main is the coroutine. It runs one task per resume from the pool, and ends with one that panics or calls Goexit.
func (t *loopTask) main(yield func(struct{}) bool) {
	t.yield = yield
	id := goid()
	t.l.rt.watch.add(id, t.l)
	defer t.gone(id)
	for {
		if t.conn != nil {
			t.conn.serve()
		} else {
			t.f()
		}
		t.ended()
		if !t.l.recycle(t) || !yield(struct{}{}) {
			return
		}
	}
}

// ended follows each task.
func (t *loopTask) ended() {
	t.l.locked = false
	t.f, t.conn, t.busy, t.killed, t.logKill = nil, nil, false, false, false
	t.l.count.tasks--
}

// gone removes a coroutine that ends: the pool was full, the loop stops, or its task did not return, which resets the connection that it serves.
func (t *loopTask) gone(id uint64) {
	l := t.l
	if r := recover(); t.busy {
		t.broken(r)
	}
	l.rt.watch.remove(id)
	l.wheel.remove(&t.timer)
	last := l.tasks[len(l.tasks)-1]
	l.tasks[t.index], last.index = last, t.index
	l.tasks[len(l.tasks)-1] = nil
	l.tasks = l.tasks[:len(l.tasks)-1]
}

// broken ends a task that has panicked, with r, or called Goexit. The stack still stands.
func (t *loopTask) broken(r any) {
	t.l.locked = false
	if _, ok := r.(unwound); ok && t.logKill {
		t.l.rt.cfg.Logger.Warn("task unwound at shutdown", "waiting in", waiter())
	}
	if r != nil {
		t.l.rt.logPanic(r)
	}
	if t.conn != nil {
		t.conn.Reset()
	}
	t.ended()
}

// logPanic counts and logs what a task or callback panicked with. It is called while the stack still stands.
func (rt *loopRuntime) logPanic(r any) {
	if _, ok := r.(unwound); ok {
		return
	}
	rt.panics.Add(1)
	rt.cfg.Logger.Error("panic in task", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
}

// recycle puts t into the pool and reports false if that is full.
func (l *loop) recycle(t *loopTask) bool {
	if len(l.pool) >= maxPooled || l.finished {
		return false
	}
	l.pool = append(l.pool, t)
	return true
}

// pushReady appends t to the ready ring. Its budget is set here, where t has been touched, and not when it runs, some tasks later.
func (l *loop) pushReady(t *loopTask) {
	t.budget = ioBudget
	if l.readyTail == nil {
		l.readyHead = t
	} else {
		l.readyTail.next = t
	}
	l.readyTail = t
}

func (l *loop) popReady() *loopTask {
	t := l.readyHead
	if t == nil {
		return nil
	}
	l.readyHead, t.next = t.next, nil
	if l.readyHead == nil {
		l.readyTail = nil
	}
	return t
}

// wake makes a parked task ready. Anything else stays as it is.
func (l *loop) wake(t *loopTask) {
	if t.parked {
		t.parked = false
		l.pushReady(t)
	}
}

// current returns the running task. method is named in the panic if there is none.
func (l *loop) current(method string) *loopTask {
	if l.cur == nil {
		panic("task: " + method + " outside a task of its shard")
	}
	if l.locked {
		panic("task: " + method + " with the shard's lock held")
	}
	return l.cur
}

// wait parks the running task t until wake, or the deadline, which sets timedOut.
//
// What tasks wait in most calls prepare and park itself: after a switch the processor has forgotten where functions return to, and each
// one between a task and its coroutine's yield costs some 5 ns, so park is inlined.
func (l *loop) wait(t *loopTask, deadline Instant) {
	t.prepare(deadline)
	t.park()
}

// prepare is called before park.
func (t *loopTask) prepare(deadline Instant) {
	t.deadline, t.timedOut, t.parked = deadline, false, true
	if deadline != 0 {
		t.l.wheel.arm(&t.timer, deadline)
	}
}

// park gives control back to the loop until the next resume.
func (t *loopTask) park() {
	if !t.killed {
		t.yield(struct{}{})
	}
	if t.killed {
		t.parked = false
		panic(unwound{})
	}
}

// setDeadline changes the deadline of the wait that t is in.
func (t *loopTask) setDeadline(d Instant) {
	t.deadline = d
	if d != 0 && t.parked {
		t.l.wheel.arm(&t.timer, d)
	}
}

// expire is called by the wheel. The timer may be left over from an earlier wait, or the deadline have moved.
func (t *loopTask) expire(now Instant) {
	switch {
	case !t.parked || t.deadline == 0:
	case now >= t.deadline:
		t.timedOut = true
		t.l.wake(t)
	default:
		t.l.wheel.arm(&t.timer, t.deadline)
	}
}

// yieldTurn lets other tasks and new events go first.
func (t *loopTask) yieldTurn() {
	l := t.l
	l.yielded = append(l.yielded, t)
	t.deadline, t.parked = 0, true
	t.park()
}
