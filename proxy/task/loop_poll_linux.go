package task

import (
	"fmt"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// handler is what a descriptor in the poller belongs to.
type handler interface {
	// event says what epoll has reported. It must not wait and must not run anybody's code.
	event(events uint32)
}

// handlerSlot guards against events of a descriptor's former life: the generation travels in the epoll data.
type handlerSlot struct {
	h          handler
	generation int32
}

// handlerTable holds the slots by descriptor, in chunks, so that it grows with the connections without being copied.
type handlerTable struct{ chunks []*[handlerChunk]handlerSlot }

const handlerChunk = 128 // slots: 3 KiB

// slot returns the place of fd, which watch has made.
func (t *handlerTable) slot(fd int) *handlerSlot { return &t.chunks[fd/handlerChunk][fd%handlerChunk] }

func (t *handlerTable) set(fd int, s handlerSlot) {
	for fd/handlerChunk >= len(t.chunks) {
		t.chunks = append(t.chunks, nil)
	}
	c := &t.chunks[fd/handlerChunk]
	if *c == nil {
		*c = new([handlerChunk]handlerSlot)
	}
	(*c)[fd%handlerChunk] = s
}

// each calls f for every handler.
func (t *handlerTable) each(f func(handler)) {
	for _, c := range t.chunks {
		if c == nil {
			continue
		}
		for i := range c {
			if h := c[i].h; h != nil {
				f(h)
			}
		}
	}
}

const (
	rawTimeout   = 4 * time.Millisecond // a raw poll holds its P this long at most
	rawRounds    = 3                    // empty ones, after which the loop sleeps in an ordinary system call
	connEvents   = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET
	hangupEvents = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
)

// openPoller makes the epoll and the eventfd by which Post wakes the loop. The eventfd is edge-triggered and never read.
func (l *loop) openPoller() error {
	l.setNow(Now())
	l.polled, l.load.start = l.now, l.now
	var err error
	if l.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll_create1: %w", err)
	}
	if l.eventfd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(l.eventfd), Pad: -1}
	if err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, l.eventfd, &ev); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

func (l *loop) closePoller() {
	if l.epfd >= 0 {
		unix.Close(l.epfd)
	}
	if l.eventfd >= 0 {
		unix.Close(l.eventfd)
	}
}

// interrupt ends the poll that the loop sleeps in.
func (l *loop) interrupt() {
	one := uint64(1)
	unix.RawSyscall(unix.SYS_WRITE, uintptr(l.eventfd), uintptr(unsafe.Pointer(&one)), 8)
}

// watch registers fd, once, for its whole life on this loop.
func (l *loop) watch(fd int, h handler, events uint32) error {
	l.generation++
	if l.generation < 0 {
		l.generation = 1
	}
	ev := unix.EpollEvent{Events: events, Fd: int32(fd), Pad: l.generation}
	if err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	l.handlers.set(fd, handlerSlot{h, l.generation})
	return nil
}

// unwatch forgets fd, which the caller closes, or keeps out of the poller until watch.
func (l *loop) unwatch(fd int) { *l.handlers.slot(fd) = handlerSlot{} }

// idle reports whether there is nothing to run before the next event.
func (l *loop) idle() bool {
	return l.readyHead == nil && len(l.yielded) == 0 && l.calls.empty() && l.posted.empty() &&
		len(l.batches) == 0 && l.flushAt == len(l.flushing) && len(l.late) == 0 && !l.pending.Load()
}

// poll waits for events, for as long as there is nothing else to do, and readies the tasks that have yielded.
func (l *loop) poll() {
	var timeout time.Duration
	if l.handed.Load() && l.idle() {
		l.letGoroutinesGo()
	}
	if l.idle() {
		if timeout = l.timeout(); timeout != 0 {
			l.asleep.Store(true)
			if l.pending.Load() {
				l.asleep.Store(false)
				timeout = 0
			}
		}
	}
	if timeout == 0 {
		l.eventN = l.epollWait(0, true)
		l.setNow(Now())
		l.worked(l.now.Sub(l.polled))
		l.polled = l.now
		l.endWindow(l.now)
	} else {
		l.sleep(timeout)
	}
	l.eventAt = 0
	for i, t := range l.yielded {
		l.yielded[i] = nil
		l.wake(t)
	}
	l.yielded = l.yielded[:0]
}

func (l *loop) handOver() { l.handed.Store(true) }

// letGoroutinesGo gives up the processor once.
func (l *loop) letGoroutinesGo() {
	l.handed.Store(false)
	l.worked(Now().Sub(l.polled))
	runtime.Gosched()
	l.setNow(Now())
	l.polled = l.now
}

// timeout is how long the loop may sleep: until the next timer, or the next trim if there is something to trim.
func (l *loop) timeout() time.Duration {
	l.trim()
	timeout := l.wheel.until(l.now)
	if len(l.pool)+len(l.buffers)+len(l.large) > 0 {
		if d := l.trimAt.Sub(l.now) + wheelGrain; timeout < 0 || d < timeout {
			timeout = d
		}
	}
	return timeout
}

// sleep polls with a timeout, which is negative for none.
func (l *loop) sleep(timeout time.Duration) {
	start := Now()
	l.worked(start.Sub(l.polled))
	raw := l.emptyRounds < rawRounds && l.mayPollRaw
	if raw && (timeout < 0 || timeout > rawTimeout) {
		timeout = rawTimeout
	}
	if !raw {
		l.endWindow(start)
	}
	l.eventN = l.epollWait(timeout, raw)
	l.asleep.Store(false)
	if l.eventN > 0 {
		l.emptyRounds = 0
	} else {
		l.emptyRounds = min(l.emptyRounds+1, rawRounds)
	}
	l.setNow(Now())
	l.polled = l.now
	l.endWindow(l.now)
	if !raw {
		l.rt.watch.rouse()
	}
}

// worked accounts for a turn.
func (l *loop) worked(d time.Duration) {
	l.load.busy(d)
	l.rt.watch.took(d)
}

// endWindow publishes the load now and then. It also looks whether somebody has lowered GOMAXPROCS since Run: a raw
// poll would then keep goroutines from running.
func (l *loop) endWindow(now Instant) {
	if l.load.publish(now) {
		l.mayPollRaw = runtime.GOMAXPROCS(0) > len(l.rt.all)
	}
}

// epollWait returns the number of events. raw spares the scheduler, which then believes that the loop computes.
func (l *loop) epollWait(timeout time.Duration, raw bool) int {
	ms := -1
	if timeout >= 0 {
		ms = int((timeout + time.Millisecond - 1) / time.Millisecond)
	}
	ev := unsafe.Pointer(&l.events[0])
	var n uintptr
	var errno unix.Errno
	if raw {
		n, _, errno = syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epfd), uintptr(ev), uintptr(len(l.events)), uintptr(ms), 0, 0)
	} else {
		n, _, errno = syscall.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epfd), uintptr(ev), uintptr(len(l.events)), uintptr(ms), 0, 0)
	}
	if errno != 0 {
		return 0 // EINTR
	}
	return int(n)
}

// handleEvents passes the events on.
func (l *loop) handleEvents() {
	for l.eventAt < l.eventN {
		ev := &l.events[l.eventAt]
		l.eventAt++
		if ev.Pad < 0 {
			continue // the eventfd
		}
		if s := l.handlers.slot(int(ev.Fd)); s.h != nil && s.generation == ev.Pad {
			s.h.event(ev.Events)
		}
	}
}
