package main

import (
	"bytes"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"strings"
	"syscall"
)

// app answers every HTTP/1.1 request without a body with the same bytes, on one epoll loop.
type app struct {
	ep, ln int
	addr   netip.AddrPort
	answer []byte
	heads  map[int32][]byte // the incomplete head of each connection, if any
}

// newApp listens on a free port of loopback; its answers carry size bytes.
func newApp(size int) (*app, error) {
	ln, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if err := syscall.Bind(ln, &syscall.SockaddrInet4{Addr: loopback.As4()}); err != nil {
		return nil, fmt.Errorf("bind: %w", err)
	}
	if err := syscall.Listen(ln, 1024); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	sa, err := syscall.Getsockname(ln)
	if err != nil {
		return nil, fmt.Errorf("name of the socket: %w", err)
	}
	ep, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	a := &app{
		ep:   ep,
		ln:   ln,
		addr: netip.AddrPortFrom(loopback, uint16(sa.(*syscall.SockaddrInet4).Port)),
		answer: fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nServer: floor\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s",
			size, strings.Repeat("x", size)),
		heads: map[int32][]byte{},
	}
	return a, a.watch(ln)
}

// watch adds fd to the loop.
func (a *app) watch(fd int) error {
	return syscall.EpollCtl(a.ep, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)})
}

// run serves until the process ends.
func (a *app) run() {
	events := make([]syscall.EpollEvent, 128)
	buf := make([]byte, 64<<10)
	for {
		n, err := syscall.EpollWait(a.ep, events, -1)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			log.Fatalf("app: epoll wait: %v", err)
		}
		for _, ev := range events[:n] {
			if int(ev.Fd) == a.ln {
				a.accept()
			} else {
				a.serve(ev.Fd, buf)
			}
		}
	}
}

// accept takes what waits.
func (a *app) accept() {
	for {
		fd, _, err := syscall.Accept4(a.ln, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
		if err := a.watch(fd); err != nil {
			syscall.Close(fd)
		}
	}
}

// serve reads once and answers every request whose head is complete.
func (a *app) serve(fd int32, buf []byte) {
	n, err := syscall.Read(int(fd), buf)
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return
	}
	if err != nil || n == 0 {
		delete(a.heads, fd)
		syscall.Close(int(fd))
		return
	}
	data := buf[:n]
	if rest := a.heads[fd]; len(rest) > 0 {
		data = append(rest, data...)
	}
	for {
		end := bytes.Index(data, []byte("\r\n\r\n"))
		if end < 0 {
			break
		}
		data = data[end+4:]
		if m, err := syscall.Write(int(fd), a.answer); err != nil || m != len(a.answer) {
			syscall.Close(int(fd))
			return
		}
	}
	if len(data) > 0 || a.heads[fd] != nil {
		a.heads[fd] = append([]byte(nil), data...)
	}
}
