package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"syscall"
	"time"
)

// load is a closed loop: every connection sends a request, waits for its whole answer, and sends the next.
type load struct {
	addr    netip.AddrPort
	conns   int
	request []byte
}

// loadResult is what a run of load saw.
type loadResult struct {
	requests int
	elapsed  time.Duration
	latency  histogram
}

// loadConn is one connection of the load.
type loadConn struct {
	fd    int
	sent  time.Time
	head  []byte // what has arrived of the head
	body  int    // bytes of the body still to come
	inTop bool   // the head is not complete yet
}

// run drives the load for d. Any answer that is not a whole 200 is an error.
func (l *load) run(d time.Duration) (*loadResult, error) {
	ep, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	defer syscall.Close(ep)
	conns := map[int32]*loadConn{}
	defer func() {
		for _, c := range conns {
			syscall.Close(c.fd)
		}
	}()
	for range l.conns {
		fd, err := dial(l.addr)
		if err != nil {
			return nil, err
		}
		conns[int32(fd)] = &loadConn{fd: fd, head: make([]byte, 0, 4096)}
		ev := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}
		if err := syscall.EpollCtl(ep, syscall.EPOLL_CTL_ADD, fd, &ev); err != nil {
			return nil, fmt.Errorf("epoll: %w", err)
		}
	}
	start := time.Now()
	for _, c := range conns {
		if err := l.send(c); err != nil {
			return nil, err
		}
	}
	res := &loadResult{}
	err = l.loop(ep, conns, start.Add(d), res)
	res.elapsed = time.Since(start)
	return res, err
}

// loop answers events until end.
func (l *load) loop(ep int, conns map[int32]*loadConn, end time.Time, res *loadResult) error {
	events := make([]syscall.EpollEvent, 128)
	buf := make([]byte, 64<<10)
	for time.Now().Before(end) {
		n, err := syscall.EpollWait(ep, events, 5000)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("epoll wait: %w", err)
		}
		if n == 0 {
			return errors.New("no answer for five seconds")
		}
		for _, ev := range events[:n] {
			c := conns[ev.Fd]
			m, err := syscall.Read(c.fd, buf)
			if err == syscall.EAGAIN || err == syscall.EINTR {
				continue
			}
			if err != nil {
				return fmt.Errorf("read answer: %w", err)
			}
			if m == 0 {
				return errors.New("connection closed before the answer was whole")
			}
			done, err := c.feed(buf[:m])
			if err != nil {
				return err
			}
			if !done {
				continue
			}
			res.requests++
			res.latency.add(time.Since(c.sent))
			if err := l.send(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// send writes the next request, which always fits the socket's buffer.
func (l *load) send(c *loadConn) error {
	c.sent, c.inTop, c.head, c.body = time.Now(), true, c.head[:0], 0
	n, err := syscall.Write(c.fd, l.request)
	if err != nil || n != len(l.request) {
		return fmt.Errorf("write request: %d of %d bytes: %w", n, len(l.request), err)
	}
	return nil
}

// feed takes bytes of the answer and reports whether it is whole.
func (c *loadConn) feed(p []byte) (bool, error) {
	if !c.inTop {
		c.body -= len(p)
	} else {
		c.head = append(c.head, p...)
		end := bytes.Index(c.head, []byte("\r\n\r\n"))
		if end < 0 {
			return false, nil
		}
		length, err := parseHead(c.head[:end+2])
		if err != nil {
			return false, err
		}
		c.inTop, c.body = false, length-(len(c.head)-end-4)
	}
	if c.body < 0 {
		return false, fmt.Errorf("%d bytes more than the answer's length", -c.body)
	}
	return c.body == 0, nil
}

// parseHead returns the Content-Length of a 200.
func parseHead(head []byte) (int, error) {
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 200")) {
		return 0, fmt.Errorf("answer is %.200q, want a 200", head)
	}
	const name = "content-length:"
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			return strconv.Atoi(string(bytes.TrimSpace(line[len(name):])))
		}
	}
	return 0, fmt.Errorf("answer %.200q has no Content-Length", head)
}

// dial connects a non-blocking socket.
func dial(addr netip.AddrPort) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	sa := &syscall.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	if err := syscall.Connect(fd, sa); err != nil {
		syscall.Close(fd)
		return 0, fmt.Errorf("dial %v: %w", addr, err)
	}
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	return fd, syscall.SetNonblock(fd, true)
}
