package proxytest

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy/task"
)

// Pair returns the two ends of a TCP connection over loopback: one adopted by s, the other for the test, with a
// deadline that bounds the test. Both are closed when the test ends.
func Pair(t testing.TB, s task.Shard) (task.Conn, net.Conn) {
	t.Helper()
	return pair(t, s, "tcp", "127.0.0.1:0")
}

// UnixPair is Pair over a Unix socket.
func UnixPair(t testing.TB, s task.Shard) (task.Conn, net.Conn) {
	t.Helper()
	dir, err := os.MkdirTemp("", "pair") // the path of a socket must be short, that of t.TempDir may not be
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	return pair(t, s, "unix", filepath.Join(dir, "s"))
}

func pair(t testing.TB, s task.Shard, network, address string) (task.Conn, net.Conn) {
	t.Helper()
	a, b := NetPair(t, network, address)
	var c task.Conn
	var err error
	Call(t, s, func() { c, err = s.Adopt(a) })
	if err != nil {
		t.Fatalf("adopt: %v", err)
	}
	return c, b
}

// NetPair returns the two ends of a connection through a listener on address. The second has a deadline.
func NetPair(t testing.TB, network, address string) (net.Conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	b, err := net.Dial(network, ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	a, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	b.SetDeadline(time.Now().Add(patience))
	return a, b
}
