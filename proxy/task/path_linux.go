package task

import (
	"time"

	"golang.org/x/sys/unix"
)

// pathOf asks the kernel about the socket fd.
func pathOf(fd int) Path {
	i, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil { // a Unix socket
		return Path{}
	}
	return Path{RTT: time.Duration(i.Rtt) * time.Microsecond, Resent: uint64(i.Total_retrans), Window: uint64(i.Snd_cwnd) * uint64(i.Snd_mss), MTU: int(i.Pmtu)}
}

// Path implements Measured.
func (c *loopConn) Path() Path {
	if c.fd < 0 {
		return Path{}
	}
	return pathOf(int(c.fd))
}

// Path implements Measured.
func (c *goConn) Path() (p Path) {
	if c.raw != nil {
		_ = c.raw.c.Control(func(fd uintptr) { p = pathOf(int(fd)) }) // a closed one has no path
	}
	return p
}
