package main

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestClippedBuffers: the kernel says twice what there is; less than what was asked for is worth one warning, with the command that helps.
func TestClippedBuffers(t *testing.T) {
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const size = 64 << 10 // every kernel grants that
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var says int
	receive, send := setBuffers(c, size)
	if err := raw.Control(func(fd uintptr) { says, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF) }); err != nil {
		t.Fatal(err)
	}
	if err != nil || receive != says/2 || receive < size || send < size {
		t.Errorf("asked for %d: got %d and %d, the kernel says %d, %v", size, receive, send, says, err)
	}

	var log bytes.Buffer
	u := newUDP(slog.New(slog.NewTextHandler(&log, nil)))
	if u.judge(udpBuffer, udpBuffer); log.Len() != 0 {
		t.Errorf("large enough: %s", &log)
	}
	u.judge(udpBuffer-1, udpBuffer)
	u.judge(udpBuffer, udpBuffer/2)
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "sysctl -w net.core.rmem_max=7340032 net.core.wmem_max=7340032") {
		t.Errorf("got %q, want one line with the command", got)
	}
}
