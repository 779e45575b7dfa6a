package app

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Small answers every HTTP/1.1 request that has no body with the same bytes, on one epoll loop.
type Small struct {
	Addr   netip.AddrPort // not valid where it is a Unix socket
	ep, ln int
	wake   int // an eventfd that ends the loop
	done   chan struct{}

	// Owned by run.
	answer []byte
	heads  map[int32][]byte // of each open connection: the part of a head that has arrived
}

// NewSmall listens on a free port of loopback; its answers carry size bytes, at most 64 KiB.
func NewSmall(size int) (*Small, error) {
	return newSmall(size, "", syscall.AF_INET, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
}

// NewSmallFresh is NewSmall, whose answers may be kept for an hour.
func NewSmallFresh(size int) (*Small, error) {
	return newSmall(size, fresh, syscall.AF_INET, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
}

// NewSmallUnix is NewSmall on a Unix socket, which it makes at path and leaves there.
func NewSmallUnix(path string, size int) (*Small, error) {
	return newSmall(size, "", syscall.AF_UNIX, &syscall.SockaddrUnix{Name: path})
}

func newSmall(size int, more string, family int, at syscall.Sockaddr) (*Small, error) {
	if size < 0 || size > 64<<10 {
		return nil, fmt.Errorf("an answer of %d bytes: want 0 to 64 KiB", size)
	}
	s := &Small{ep: -1, ln: -1, wake: -1, done: make(chan struct{}), heads: map[int32][]byte{}}
	s.answer = fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\n%sContent-Length: %d\r\n\r\n", more, size)
	s.answer = append(s.answer, chunk()[:size]...)
	if err := s.open(family, at); err != nil {
		s.closeAll()
		return nil, err
	}
	go s.run()
	return s, nil
}

// open makes the sockets and the loop.
func (s *Small) open(family int, at syscall.Sockaddr) error {
	var err error
	if s.ep, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if s.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	if s.ln, err = syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0); err != nil {
		return os.NewSyscallError("socket", err)
	}
	if err := syscall.Bind(s.ln, at); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := syscall.Listen(s.ln, 8192); err != nil {
		return os.NewSyscallError("listen", err)
	}
	sa, err := syscall.Getsockname(s.ln)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	if ip, ok := sa.(*syscall.SockaddrInet4); ok {
		s.Addr = netip.AddrPortFrom(netip.AddrFrom4(ip.Addr), uint16(ip.Port))
	}
	return errors.Join(s.watch(s.ln), s.watch(s.wake))
}

// watch adds fd to the loop.
func (s *Small) watch(fd int) error {
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(s.ep, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}))
}

// Close ends the loop and every connection, and waits for it. It is called once.
func (s *Small) Close() {
	if _, err := syscall.Write(s.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err == nil {
		<-s.done
	}
	s.closeAll()
}

func (s *Small) closeAll() {
	for fd := range s.heads {
		syscall.Close(int(fd))
	}
	for _, fd := range []int{s.ln, s.wake, s.ep} {
		if fd >= 0 {
			syscall.Close(fd)
		}
	}
}

// run serves until Close.
func (s *Small) run() {
	defer close(s.done)
	events := make([]syscall.EpollEvent, 128)
	buf := make([]byte, 64<<10)
	for {
		n, err := syscall.EpollWait(s.ep, events, -1)
		if err != nil && err != syscall.EINTR {
			return
		}
		for _, ev := range events[:max(n, 0)] {
			switch int(ev.Fd) {
			case s.wake:
				return
			case s.ln:
				s.accept()
			default:
				s.serve(ev.Fd, buf)
			}
		}
	}
}

// accept takes what waits.
func (s *Small) accept() {
	for {
		fd, _, err := syscall.Accept4(s.ln, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
		if err := s.watch(fd); err != nil {
			syscall.Close(fd)
			continue
		}
		s.heads[int32(fd)] = nil
	}
}

// serve reads once and answers every request whose head is complete.
func (s *Small) serve(fd int32, buf []byte) {
	n, err := syscall.Read(int(fd), buf)
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return
	}
	if err != nil || n == 0 {
		s.close(fd)
		return
	}
	data := buf[:n]
	if rest := s.heads[fd]; len(rest) > 0 {
		data = append(rest, data...)
	}
	for {
		end := bytes.Index(data, []byte("\r\n\r\n"))
		if end < 0 {
			break
		}
		data = data[end+4:]
		if m, err := syscall.Write(int(fd), s.answer); err != nil || m != len(s.answer) {
			s.close(fd)
			return
		}
	}
	if len(data) > 0 || s.heads[fd] != nil {
		s.heads[fd] = append([]byte(nil), data...)
	}
}

func (s *Small) close(fd int32) {
	delete(s.heads, fd)
	syscall.Close(int(fd))
}
