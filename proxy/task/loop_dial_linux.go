package task

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func (l *loop) Dial(network, address string, deadline Instant) (Conn, error) {
	t := l.current("Shard.Dial")
	if err := checkDial(network, address); err != nil {
		return nil, err
	}
	c, err := l.dial(t, network, address, deadline)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	return c, nil
}

func (l *loop) dial(t *loopTask, network, address string, deadline Instant) (*loopConn, error) {
	sa, family, err := sockaddr(network, address)
	if err != nil {
		return nil, err
	}
	if deadline != 0 && l.now >= deadline {
		return nil, ErrDeadline
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if family != unix.AF_UNIX {
		setTCP(fd)
	}
	if err := l.connect(t, fd, sa, deadline); err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return nil, err
	}
	c, err := l.newConn(fd, nil, connecting)
	if err != nil {
		return nil, err
	}
	if err := c.awaitConnected(t, deadline); err != nil {
		c.Reset()
		return nil, err
	}
	return c, nil
}

// connect begins to connect. A Unix socket whose backlog is full is asked again.
func (l *loop) connect(t *loopTask, fd int, sa unix.Sockaddr, deadline Instant) error {
	for {
		err := unix.Connect(fd, sa)
		switch err {
		case unix.EINTR:
		case unix.EAGAIN:
			if deadline != 0 && l.now >= deadline {
				return ErrDeadline
			}
			if l.stopping {
				return ErrClosed
			}
			l.sleepTask(t, wheelGrain)
		default:
			return err
		}
	}
}

// awaitConnected waits for the first event, which says that the connection is made or refused.
func (c *loopConn) awaitConnected(t *loopTask, deadline Instant) error {
	c.state &^= writable
	for !c.is(writable | closed) {
		if deadline != 0 && c.l.now >= deadline {
			return ErrDeadline
		}
		c.writer = t
		t.awaitIO(deadline)
		c.writer = nil
	}
	if c.is(closed) {
		return ErrClosed
	}
	c.state &^= connecting
	if errno, err := unix.GetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_ERROR); err != nil {
		return err
	} else if errno != 0 {
		return syscall.Errno(errno)
	}
	return nil
}

// sockaddr converts a literal address.
func sockaddr(network, address string) (unix.Sockaddr, int, error) {
	if network == "unix" {
		return &unix.SockaddrUnix{Name: address}, unix.AF_UNIX, nil
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, 0, err
	}
	if a := ap.Addr().Unmap(); a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4(), Port: int(ap.Port())}, unix.AF_INET, nil
	}
	zone, err := zoneID(ap.Addr().Zone())
	return &unix.SockaddrInet6{Addr: ap.Addr().As16(), Port: int(ap.Port()), ZoneId: zone}, unix.AF_INET6, err
}

// zoneID returns the index of an interface that is named, or numbered, by zone.
func zoneID(zone string) (uint32, error) {
	if zone == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n), nil
	}
	i, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, err
	}
	return uint32(i.Index), nil
}

// Adopt takes the descriptor of a *net.TCPConn or *net.UnixConn out of Go's netpoller.
func (l *loop) Adopt(nc net.Conn) (Conn, error) {
	defer nc.Close()
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return nil, fmt.Errorf("adopt: a %T has no descriptor", nc)
	}
	fd, err := dupFd(nc.(syscall.Conn))
	if err != nil {
		return nil, fmt.Errorf("adopt: %w", err)
	}
	c, err := l.newConn(fd, nil, 0)
	if err != nil {
		return nil, fmt.Errorf("adopt: %w", err)
	}
	return c, nil
}

// sleepTask parks t for d, however often it is woken.
func (l *loop) sleepTask(t *loopTask, d time.Duration) {
	for end := l.now.Add(d); l.now < end; {
		l.wait(t, end)
	}
}
