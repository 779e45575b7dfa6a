package task

import "time"

// The methods of Shard, save Dial, Adopt and Gate.

func (l *loop) Index() int { return l.index }

func (l *loop) solo() {}

// Now is the time of the turn; for a foreign goroutine that asks while the loop sleeps, the clock's.
func (l *loop) Now() Instant {
	if l.asleep.Load() {
		return Now()
	}
	return Instant(l.clock.Load())
}

func (l *loop) Go(f func()) { l.spawn(f, nil) }

// Lock only checks that nobody waits or locks again before Unlock.
func (l *loop) Lock() {
	if l.locked {
		panic("task: Lock is not reentrant")
	}
	l.locked = true
}

func (l *loop) Unlock() {
	if !l.locked {
		panic("task: Unlock without Lock")
	}
	l.locked = false
}

// Sleep waits for d. Once the runtime stops it unwinds the task, which has nothing else to end it.
func (l *loop) Sleep(d time.Duration) {
	t := l.current("Shard.Sleep")
	if l.stopping {
		t.killed = true
	}
	t.sleeping = true
	defer func() { t.sleeping = false }()
	if d <= 0 {
		t.yieldTurn()
		return
	}
	l.sleepTask(t, d)
}

func (l *loop) Yield() { l.current("Shard.Yield").yieldTurn() }

// offload is one call of Offload.
type offload struct {
	t      *loopTask
	f      func()
	done   bool
	panics any
}

// Offload waits for a goroutine that runs f. A panic in f is one in the task.
func (l *loop) Offload(f func()) {
	o := &offload{t: l.current("Shard.Offload"), f: f}
	go o.run()
	for !o.done {
		l.wait(o.t, 0)
	}
	if o.panics != nil {
		panic(o.panics)
	}
}

func (o *offload) run() {
	defer o.t.l.post(o.end)
	defer func() { o.panics = recover() }()
	o.f()
}

func (o *offload) end() {
	o.done = true
	o.t.l.wake(o.t)
}

func (l *loop) Post(f func()) { l.post(f) }

// loopTimer is a pending After.
type loopTimer struct {
	l    *loop
	f    func()
	node timerNode
	at   Instant
}

func (l *loop) After(d time.Duration, f func()) Timer {
	t := &loopTimer{l: l, f: f, at: l.now.Add(d)}
	t.node.owner = t
	l.wheel.arm(&t.node, t.at)
	return t
}

func (t *loopTimer) Stop() {
	t.f = nil
	t.l.wheel.remove(&t.node)
}

func (t *loopTimer) expire(now Instant) {
	if now < t.at { // further ahead than the wheel reaches
		t.l.wheel.arm(&t.node, t.at)
		return
	}
	t.l.call(t.run)
}

func (t *loopTimer) run() {
	if f := t.f; f != nil {
		t.f = nil
		f()
	}
}

// loopBatch is called once at the end of a turn in which it was kicked.
type loopBatch struct {
	l      *loop
	f      func()
	kicked bool
}

func (l *loop) Batch(f func()) Batch { return &loopBatch{l: l, f: f} }

func (b *loopBatch) Kick() {
	if !b.kicked {
		b.kicked = true
		b.l.batches = append(b.l.batches, b)
	}
}

func (l *loop) Buffer() *Buffer {
	l.count.buffers++
	return l.takeBuffer()
}

func (l *loop) Free(b *Buffer) {
	counted, keep := b.release()
	if counted {
		l.count.buffers--
	}
	switch {
	case !keep:
	case len(b.B) == DatagramSize:
		if len(l.large) < maxLarge {
			l.large = append(l.large, b)
		}
	default:
		l.keepBuffer(b)
	}
}

func (l *loop) Datagram() *Buffer {
	l.count.buffers++
	n := len(l.large)
	if n == 0 {
		return newLarge()
	}
	b := l.large[n-1]
	l.large[n-1] = nil
	l.large = l.large[:n-1]
	l.largeLow = min(l.largeLow, n-1)
	b.take()
	return b
}

// takeBuffer and giveBuffer are for the loop's own use, which Stats does not count.
func (l *loop) takeBuffer() *Buffer {
	n := len(l.buffers)
	if n == 0 {
		return newBuffer()
	}
	b := l.buffers[n-1]
	l.buffers[n-1] = nil
	l.buffers = l.buffers[:n-1]
	l.buffersLow = min(l.buffersLow, n-1)
	b.take()
	return b
}

func (l *loop) giveBuffer(b *Buffer) {
	b.release()
	l.keepBuffer(b)
}

func (l *loop) keepBuffer(b *Buffer) {
	if len(l.buffers) < maxPooled {
		l.buffers = append(l.buffers, b)
	}
}
