package task

import (
	"net"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The addresses that package net says of a connection are the ones that a loop says.
func TestNamesAreThoseOfNet(t *testing.T) {
	dir := t.TempDir()
	for _, to := range [][2]string{{"tcp4", "127.0.0.1:0"}, {"tcp6", "[::1]:0"}, {"unix", filepath.Join(dir, "s")}, {"unix", "@pillion-" + filepath.Base(filepath.Dir(dir))}} {
		ln, err := net.Listen(to[0], to[1])
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		nc, err := net.Dial(ln.Addr().Network(), ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		fd, err := dupFd(nc.(syscall.Conn))
		if err != nil {
			t.Fatal(err)
		}
		c := &loopConn{fd: int32(fd)}
		if got, want := c.RemoteAddr(), nc.RemoteAddr(); got.String() != want.String() || reflect.TypeOf(got) != reflect.TypeOf(want) {
			t.Errorf("%v: remote %T %v, want %T %v", to, got, got, want, want)
		}
		if got, want := c.LocalAddr(), nc.LocalAddr(); got.String() != want.String() && to[0] != "unix" {
			t.Errorf("%v: local %v, want %v", to, got, want)
		}
		if n := testing.AllocsPerRun(100, func() { addrOf(unix.SYS_GETPEERNAME, c.fd) }); n > 2 {
			t.Errorf("%v: %v allocations, want the address and its bytes", to, n)
		}
		unix.Close(fd)
		if got := (&loopConn{fd: -1}).RemoteAddr(); got == nil {
			t.Error("no address for a closed connection")
		}
	}
}
