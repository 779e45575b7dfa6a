package load

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// epoll is the network of Linux: non-blocking sockets, edge-triggered, and a timer that is more precise than epoll's own.
type epoll struct {
	w      *worker
	fd     int
	timer  int
	conns  []*conn // by descriptor
	events []unix.EpollEvent
	buf    []byte
	sa     unix.Sockaddr
	family int
}

func newNetwork(w *worker) (network, error) {
	e := &epoll{w: w, timer: -1, events: make([]unix.EpollEvent, 256), buf: make([]byte, readSize)}
	var err error
	if e.fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	if e.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		e.shut()
		return nil, fmt.Errorf("timerfd_create: %w", err)
	}
	// Never read: each time it is set anew, an edge follows.
	if err := unix.EpollCtl(e.fd, unix.EPOLL_CTL_ADD, e.timer, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(e.timer)}); err != nil {
		e.shut()
		return nil, fmt.Errorf("epoll_ctl: %w", err)
	}
	ip := w.r.addr.ip
	switch {
	case w.r.addr.path != "":
		e.family, e.sa = unix.AF_UNIX, &unix.SockaddrUnix{Name: w.r.addr.path}
	case ip.Addr().Is4():
		e.family, e.sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(ip.Port()), Addr: ip.Addr().As4()}
	default:
		e.family, e.sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(ip.Port()), Addr: ip.Addr().As16()}
	}
	return e, nil
}

func (e *epoll) shut() {
	if e.timer >= 0 {
		unix.Close(e.timer)
	}
	unix.Close(e.fd)
}

func (e *epoll) dial(c *conn) error {
	kind := unix.SOCK_STREAM
	if e.w.r.cfg.datagrams() {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(e.family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		c.sock.fd = -1
		return fmt.Errorf("socket: %w", err)
	}
	c.sock.fd = fd
	if e.family != unix.AF_UNIX {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // else a little slower
	}
	if err := unix.Connect(fd, e.sa); err != nil && err != unix.EINPROGRESS {
		return err
	}
	for fd >= len(e.conns) {
		e.conns = append(e.conns, make([]*conn, max(64, len(e.conns)))...)
	}
	e.conns[fd] = c
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(fd)}
	return unix.EpollCtl(e.fd, unix.EPOLL_CTL_ADD, fd, &ev)
}

func (e *epoll) write(c *conn, p []byte) (int, error) {
	n, err := unix.Write(c.sock.fd, p)
	if err == unix.EAGAIN || err == unix.EINTR {
		return 0, nil
	}
	return max(n, 0), err
}

func (e *epoll) close(c *conn) {
	if fd := c.sock.fd; fd >= 0 {
		if fd < len(e.conns) {
			e.conns[fd] = nil
		}
		unix.Close(fd)
		c.sock.fd = -1
	}
}

func (e *epoll) wait(d time.Duration) error {
	n, err := e.poll(d)
	if err != nil {
		return fmt.Errorf("epoll_wait: %w", err)
	}
	for i := range e.events[:n] {
		ev := &e.events[i]
		if int(ev.Fd) >= len(e.conns) { // the timer, in a process that has many descriptors
			continue
		}
		// A descriptor appears once, and only its own event can close it: no event is of a former life.
		if c := e.conns[ev.Fd]; c != nil {
			e.handle(c, ev.Events)
			e.w.flush()
		}
	}
	return nil
}

// poll looks without waiting first, which spares the scheduler, and then waits.
func (e *epoll) poll(d time.Duration) (int, error) {
	if len(e.conns) == 0 {
		e.conns = make([]*conn, 64)
	}
	if n, err := unix.EpollWait(e.fd, e.events, 0); n > 0 || d <= 0 || err != nil && err != unix.EINTR {
		return max(n, 0), err
	}
	ms := -1
	if d >= longestWait {
		ms = int(d / time.Millisecond)
	} else {
		spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
		if err := unix.TimerfdSettime(e.timer, 0, &spec, nil); err != nil {
			return 0, fmt.Errorf("timerfd_settime: %w", err)
		}
	}
	n, err := unix.EpollWait(e.fd, e.events, ms)
	if err == unix.EINTR {
		return 0, nil
	}
	return n, err
}

// handle passes the events of one connection on.
func (e *epoll) handle(c *conn, events uint32) {
	life := c.life
	if c.state == dialling && events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		errno, err := unix.GetsockoptInt(c.sock.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && errno != 0 {
			err = unix.Errno(errno)
		}
		if err != nil {
			c.lost(e.w.r.now(), fmt.Errorf("connect to %v: %w", e.w.r.addr, err))
			return
		}
		c.connected()
		c.flush()
	} else if events&unix.EPOLLOUT != 0 && c.blocked {
		c.writable()
	}
	if events&^unix.EPOLLOUT != 0 && c.life == life {
		e.read(c, events)
	}
}

// read reads what there is. A short read means that there is no more, unless the end has been announced, or it was one of several datagrams.
func (e *epoll) read(c *conn, events uint32) {
	life := c.life
	for c.life == life {
		n, err := unix.Read(c.sock.fd, e.buf)
		switch {
		case err == unix.EAGAIN:
			return
		case err == unix.EINTR:
			continue
		case err != nil:
			c.lost(e.w.r.now(), err)
			return
		case n == 0:
			c.lost(e.w.r.now(), errCut)
			return
		}
		c.received(e.buf[:n])
		if n < len(e.buf) && !e.w.r.cfg.datagrams() && events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
			return
		}
	}
}
