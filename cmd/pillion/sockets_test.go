package main

import (
	"net"
	"path/filepath"
	"strconv"
	"testing"
)

func TestOwnIsSeenInEveryForm(t *testing.T) {
	listen := func(network, address string) net.Listener {
		ln, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		return ln
	}
	port := func(ln net.Listener) string { return strconv.Itoa(ln.Addr().(*net.TCPAddr).Port) }
	admin, peer := listen("tcp", "127.0.0.1:0"), listen("tcp", "0.0.0.0:0")
	path := filepath.Join(t.TempDir(), "s")
	s := &sockets{admin: admin, peer: peer, services: map[string]net.Listener{"x": listen("unix", path)}}
	own := s.own()
	one, all := port(admin), port(peer)
	for _, c := range []struct {
		network, address string
		want             bool
	}{
		{"tcp", "127.0.0.1:" + one, true},
		{"tcp", "[::ffff:127.0.0.1]:" + one, true},
		{"tcp", "0.0.0.0:" + one, true},
		{"tcp", "[::]:" + one, true},
		{"tcp", "[::ffff:0.0.0.0]:" + one, true},
		{"tcp", "127.0.0.2:" + one, false},
		{"tcp", "192.0.2.1:" + one, false},
		{"tcp", "127.0.0.1:" + all, true},
		{"tcp", "127.8.8.8:" + all, true},
		{"tcp", "[::1]:" + all, true},
		{"tcp", "[::]:" + all, true},
		{"tcp", "192.0.2.1:" + all, false},
		{"tcp", "127.0.0.1:1", false},
		{"unix", path, true},
		{"unix", path + "2", false},
		{"tcp", "nonsense", false},
	} {
		if got := own(c.network, c.address); got != c.want {
			t.Errorf("own(%s, %s) = %v, want %v", c.network, c.address, got, c.want)
		}
	}
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !own("tcp", net.JoinHostPort(n.IP.String(), all)) {
			t.Errorf("%v is an address of this machine", n.IP)
		}
	}
}
