package task

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// loopListener is a listening socket in the poller of one loop, the acceptor, which deals connections to all.
type loopListener struct {
	// Static after construction.
	l    *loop // the acceptor
	o    ServeOptions
	addr net.Addr
	kept net.Listener // a Unix listener stays open, since closing it removes the path

	active    atomic.Int64
	closeIdle atomic.Bool
	full      atomic.Bool // the acceptor waits for a connection to leave

	mu     sync.Mutex
	closed bool
	fd     int // -1 once closed

	// Owned by the acceptor.
	reserve int // a descriptor given up when there are no more, -1 if even that is gone
	watched bool
	timer   timerNode // ends the rest after an error
}

// acceptsPerTurn bounds how many connections are accepted before other work gets its turn.
const acceptsPerTurn = 16

// Listen takes over a *net.TCPListener or *net.UnixListener.
func (rt *loopRuntime) Listen(nl net.Listener, o ServeOptions) (Listener, error) {
	sc, ok := nl.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("listen %v: a %T has no descriptor", nl.Addr(), nl)
	}
	fd, err := dupFd(sc)
	if err != nil {
		return nil, fmt.Errorf("listen %v: %w", nl.Addr(), err)
	}
	ln := &loopListener{l: rt.loops0(), o: o, addr: nl.Addr(), fd: fd, reserve: -1}
	ln.timer.owner = ln
	if _, ok := nl.(*net.UnixListener); ok {
		ln.kept = nl
	} else {
		nl.Close()
		setTCP(fd) // inherited by what it accepts
	}
	if !ln.l.post(ln.begin) {
		ln.Close()
		return nil, ErrClosed
	}
	return ln, nil
}

// dupFd returns a second descriptor, one that Go's netpoller does not know.
func dupFd(sc syscall.Conn) (int, error) {
	rc, err := sc.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	var dupErr error
	err = rc.Control(func(old uintptr) {
		fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err == nil {
		err = dupErr
	}
	if err != nil {
		return -1, plainError(err)
	}
	return fd, unix.SetNonblock(fd, true)
}

func (ln *loopListener) Addr() net.Addr { return ln.addr }
func (ln *loopListener) Active() int    { return int(ln.active.Load()) }

// Close stops the socket at once; its descriptor goes once the acceptor has let go of it.
func (ln *loopListener) Close() error {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if ln.closed {
		return nil
	}
	ln.closed = true
	unix.Shutdown(ln.fd, unix.SHUT_RDWR)
	if ln.kept != nil {
		ln.kept.Close()
	}
	if !ln.l.post(ln.end) {
		ln.closeFd()
	}
	return nil
}

func (ln *loopListener) closeFd() {
	unix.Close(ln.fd)
	ln.fd = -1
}

// CloseIdle tells every loop, which closes the idle connections of ln.
func (ln *loopListener) CloseIdle() {
	ln.closeIdle.Store(true)
	for _, l := range ln.l.rt.all {
		l.post(func() { l.closeIdleOf(ln) })
	}
}

func (l *loop) closeIdleOf(ln *loopListener) {
	l.handlers.each(func(h handler) {
		if c, ok := h.(*loopConn); ok && c.ln == ln && c.is(idle) {
			c.Close()
		}
	})
}

// begin puts ln into the acceptor's poller.
func (ln *loopListener) begin() {
	ln.reserve = openReserve()
	ln.l.listeners = append(ln.l.listeners, ln)
	if ln.l.stopping {
		ln.Close()
		return
	}
	ln.watch()
}

// end undoes begin.
func (ln *loopListener) end() {
	l := ln.l
	for i, x := range l.listeners {
		if x == ln {
			l.listeners = append(l.listeners[:i], l.listeners[i+1:]...)
			break
		}
	}
	l.wheel.remove(&ln.timer)
	ln.unwatch()
	if ln.reserve >= 0 {
		unix.Close(ln.reserve)
		ln.reserve = -1
	}
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.closeFd()
}

func (ln *loopListener) watch() {
	if ln.watched || ln.isClosed() {
		return
	}
	if err := ln.l.watch(ln.fd, ln, unix.EPOLLIN); err != nil {
		ln.l.rt.cfg.Logger.Error("listener stays unwatched", "addr", ln.addr, "err", err)
		ln.rest()
		return
	}
	ln.watched = true
}

func (ln *loopListener) unwatch() {
	if ln.watched {
		ln.watched = false
		ln.l.unwatch(ln.fd)
		unix.EpollCtl(ln.l.epfd, unix.EPOLL_CTL_DEL, ln.fd, nil)
	}
}

func (ln *loopListener) isClosed() bool {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	return ln.closed
}

// event accepts. The socket is level-triggered: what is left comes again in the next turn.
func (ln *loopListener) event(uint32) {
	for range acceptsPerTurn {
		if !ln.hasRoom() {
			ln.unwatch()
			return
		}
		fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(ln.fd), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case 0:
			ln.deal(int(fd))
		case unix.EAGAIN:
			return
		case unix.EINTR, unix.ECONNABORTED:
		case unix.EMFILE, unix.ENFILE:
			ln.shed()
			ln.rest()
			return
		default:
			if ln.isClosed() {
				ln.unwatch()
				return
			}
			ln.l.rt.cfg.Logger.Error("accept", "addr", ln.addr, "err", errno)
			ln.rest()
			return
		}
	}
}

// hasRoom reports whether another connection may be open. If not, the next that leaves calls again.
func (ln *loopListener) hasRoom() bool {
	if ln.o.Max <= 0 || ln.Active() < ln.o.Max {
		return true
	}
	ln.full.Store(true)
	return ln.Active() < ln.o.Max && ln.full.CompareAndSwap(true, false)
}

// left is called by any loop when a connection has been closed.
func (ln *loopListener) left() {
	ln.active.Add(-1)
	if ln.full.Load() && ln.full.CompareAndSwap(true, false) {
		ln.l.post(ln.watch)
	}
}

// shed gives up the reserve to accept one connection and close it.
func (ln *loopListener) shed() {
	if ln.reserve >= 0 {
		unix.Close(ln.reserve)
	}
	if fd, _, err := unix.Accept4(ln.fd, unix.SOCK_CLOEXEC); err == nil {
		unix.Close(fd)
		ln.l.rt.shed.Add(1)
	}
	ln.reserve = openReserve()
}

func openReserve() int {
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return fd
}

// rest keeps ln out of the poller for a while.
func (ln *loopListener) rest() {
	ln.unwatch()
	ln.l.wheel.arm(&ln.timer, ln.l.now.Add(acceptBackoff))
}

// expire ends the rest.
func (ln *loopListener) expire(Instant) {
	if ln.reserve < 0 {
		ln.reserve = openReserve()
	}
	ln.watch()
}

// deal gives fd to a loop.
func (ln *loopListener) deal(fd int) {
	ln.active.Add(1)
	l := ln.l.rt.pick()
	if l == ln.l {
		l.accepted(fd, ln)
	} else if !l.post(func() { l.accepted(fd, ln) }) {
		unix.Close(fd)
		ln.left()
	}
}

// accepted begins the life of an accepted connection.
func (l *loop) accepted(fd int, ln *loopListener) {
	var s connState
	if ln.o.Eager {
		s = eager
	}
	c, err := l.newConn(fd, ln, s)
	if err != nil {
		ln.left()
		return
	}
	if ln.o.Eager {
		c.startServe()
	} else {
		c.rest()
	}
}
