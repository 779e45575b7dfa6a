//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/discovery/discoverytest"
	"github.com/pillion-proxy/pillion/discovery/dns"
)

// TestNameServerUnderChange: what follows a name in BIND has the right set while addresses come and go ten times a second, and whatever the server does, never none.
func TestNameServerUnderChange(t *testing.T) {
	n := newNamed(t, 1, "app 1 IN A 10.0.0.1")
	r, err := dns.New(dns.Config{Name: "app.example.test.", Servers: []netip.AddrPort{netip.MustParseAddrPort(n.addr)}, Defaults: discovery.Defaults{Port: 80}, MaxTTL: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	f := discoverytest.Follow(t, r)
	there := map[int]bool{1: true}
	await := func(what string) {
		t.Helper()
		var want []string
		for i := range there {
			want = append(want, fmt.Sprintf("10.0.0.%d:80", i))
		}
		t.Logf("%s: right after %v", what, f.Await(t, want...))
	}
	change := func() {
		t.Helper()
		i := 2 + rand.N(20)
		verb := "add app 1 A"
		if there[i] {
			verb = "delete app A"
		}
		n.update(t, fmt.Sprintf("%s 10.0.0.%d", verb, i))
		if there[i] {
			delete(there, i)
		} else {
			there[i] = true
		}
	}
	await("at first")
	for range 50 {
		change()
		time.Sleep(100 * time.Millisecond)
	}
	await("ten changes a second")
	n.signal(syscall.SIGSTOP) // it answers nothing
	time.Sleep(3 * time.Second)
	n.signal(syscall.SIGCONT)
	n.await(t)
	change()
	await("a server that hung")
	n.kill()
	babble := babbler(t, n.addr)
	f.AwaitError(t, "")
	time.Sleep(3 * time.Second)
	babble.Close()
	n.start(t)
	change()
	await("a server that died, and another that talks nonsense")
	if f.Empties() != 0 {
		t.Errorf("the set was empty %d times", f.Empties())
	}
}

// babbler answers each datagram with bytes that mean nothing, under the number of the question.
func babbler(t *testing.T, addr string) net.PacketConn {
	t.Helper()
	pc, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	go func() {
		buf := make([]byte, 512)
		for {
			k, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			for i := 2; i < k; i++ {
				buf[i] ^= byte(rand.N(256))
			}
			_, _ = pc.WriteTo(buf[:k], from) // nobody may listen any more
		}
	}()
	return pc
}
