package http3

import (
	"bytes"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/quic-go/quic-go"
)

var _ quic.OOBCapablePacketConn = packets{}

func TestPassing(t *testing.T) {
	for err, want := range map[error]bool{
		&net.OpError{Op: "write", Err: os.NewSyscallError("sendmsg", syscall.ENETUNREACH)}: true,
		&net.OpError{Op: "write", Err: os.NewSyscallError("sendmsg", syscall.EPERM)}:       true,
		&net.OpError{Op: "write", Err: os.NewSyscallError("sendmsg", syscall.EMSGSIZE)}:    false,
		net.ErrClosed: false,
	} {
		if got := passing(err); got != want {
			t.Errorf("passing(%v) = %v, want %v", err, got, want)
		}
	}
}

func TestPacketsAreSent(t *testing.T) {
	a, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	s := Packets(a).(packets)
	to := a.LocalAddr().(*net.UDPAddr)
	if n, _, err := s.WriteMsgUDP([]byte("packet"), nil, to); n != 6 || err != nil {
		t.Fatalf("sent %d, %v", n, err)
	}
	got := make([]byte, 100)
	if n, _, err := a.ReadFromUDP(got); err != nil || !bytes.Equal(got[:n], []byte("packet")) {
		t.Errorf("got %q, %v", got[:n], err)
	}
	if _, _, err := s.WriteMsgUDP(make([]byte, 70_000), nil, to); err == nil {
		t.Error("a packet that is too large was sent")
	}
}
