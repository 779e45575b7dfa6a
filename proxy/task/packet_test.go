package task_test

import (
	"bytes"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// udp is a socket of the test, with a deadline that bounds it.
func udp(t testing.TB, address string) *net.UDPConn {
	t.Helper()
	nc, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(30 * time.Second))
	return nc.(*net.UDPConn)
}

func addrOf(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

func dialPacket(t testing.TB, s task.Shard, to netip.AddrPort) (c task.PacketConn) {
	t.Helper()
	var err error
	proxytest.Do(t, s, func() { c, err = s.DialPacket(to) })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// listenPacket is a socket of the shard that is bound to address.
func listenPacket(t testing.TB, s task.Shard, address string) (c task.PacketConn) {
	t.Helper()
	nc, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	proxytest.Call(t, s, func() { c, err = s.AdoptPacket(nc.(*net.UDPConn)) })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func closePacket(t testing.TB, s task.Shard, c task.PacketConn) {
	t.Helper()
	proxytest.Call(t, s, func() { c.Close() })
}

// echo answers each datagram, until the socket is closed.
func echo(s task.Shard, c task.PacketConn) <-chan struct{} {
	return proxytest.Go(s, func() {
		for {
			if c.WaitReadable() != nil {
				return
			}
			b := s.Datagram()
			n, from, err := c.Receive(b.B)
			if err == nil {
				err = c.Send(b.B[:n], from)
			}
			s.Free(b)
			if err != nil {
				return
			}
		}
	})
}

func TestPacketConnected(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		for _, host := range []string{"127.0.0.1:0", "[::1]:0"} {
			s := rt.Shards()[0]
			app := udp(t, host)
			c := dialPacket(t, s, addrOf(app))
			buf := make([]byte, task.DatagramSize)
			for _, size := range []int{5, 0, 65_507, 1} {
				p := bytes.Repeat([]byte("x"), size)
				proxytest.Do(t, s, func() {
					if err := c.Send(p, task.Route{}); err != nil {
						t.Error(err)
					}
				})
				n, from, err := app.ReadFromUDPAddrPort(buf)
				if err != nil || !bytes.Equal(buf[:n], p) {
					t.Fatalf("app got %d bytes, %v; want %d", n, err, size)
				}
				if from != c.LocalAddr() {
					t.Errorf("from %v, want %v", from, c.LocalAddr())
				}
				if _, err := app.WriteToUDPAddrPort(p, from); err != nil {
					t.Fatal(err)
				}
				proxytest.Do(t, s, func() {
					if err := c.WaitReadable(); err != nil {
						t.Error(err)
					}
					n, from, err := c.Receive(buf)
					if err != nil || !bytes.Equal(buf[:n], p) || from.Remote != addrOf(app) {
						t.Errorf("got %d bytes from %v, %v; want %d", n, from, err, size)
					}
				})
			}
			// A stranger's datagrams do not arrive.
			stranger := udp(t, host)
			stranger.WriteToUDPAddrPort([]byte("stranger"), c.LocalAddr())
			app.WriteToUDPAddrPort([]byte("longer than there is room"), c.LocalAddr())
			app.WriteToUDPAddrPort([]byte("app"), c.LocalAddr())
			proxytest.Do(t, s, func() {
				if n, _, err := c.Receive(buf[:10]); err != nil || string(buf[:n]) != "app" {
					t.Errorf("got %q, %v; want that of the app which fits", buf[:n], err)
				}
			})
			closePacket(t, s, c)
		}
	})
}

// On a socket that is bound to every address an answer comes from the address that was asked.
func TestPacketAnswersFromTheSameAddress(t *testing.T) {
	if runtime.GOOS != "linux" {
		return // loopback has one address only, and the system chooses it
	}
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		for bind, hosts := range map[string][]string{
			"0.0.0.0:0":   {"127.0.0.1", "127.0.0.2", "127.9.8.7"},
			":0":          {"127.0.0.1", "127.0.0.3", "::1"},
			"127.0.0.5:0": {"127.0.0.5"},
			"[::1]:0":     {"::1"},
		} {
			c := listenPacket(t, s, bind)
			done := echo(s, c)
			for _, host := range hosts {
				to := netip.AddrPortFrom(netip.MustParseAddr(host), c.LocalAddr().Port())
				client := udp(t, netip.AddrPortFrom(to.Addr(), 0).String())
				if to.Addr().Is4() {
					client = udp(t, "127.0.0.1:0")
				}
				if _, err := client.WriteToUDPAddrPort([]byte(host), to); err != nil {
					t.Fatal(err)
				}
				buf := make([]byte, 100)
				n, from, err := client.ReadFromUDPAddrPort(buf)
				from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
				if err != nil || string(buf[:n]) != host || from != to {
					t.Errorf("bound to %s, asked at %v: %q from %v, %v", bind, to, buf[:n], from, err)
				}
			}
			closePacket(t, s, c)
			proxytest.Wait(t, done)
		}
	})
}

// A closed port is an error of one datagram; the socket serves on once somebody listens there.
func TestPacketRefusedAndBack(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		app := udp(t, "127.0.0.1:0")
		to := addrOf(app)
		app.Close()
		c := dialPacket(t, s, to)
		buf := make([]byte, 100)
		proxytest.Do(t, s, func() {
			if err := c.Send([]byte("x"), task.Route{}); err != nil {
				t.Error(err)
			}
			if err := c.WaitReadable(); !task.Unreachable(err) {
				t.Errorf("WaitReadable: %v; want that nobody is there", err)
			}
			if err := c.Send([]byte("x"), task.Route{}); err != nil {
				t.Error(err)
			}
			if n, _, err := c.Receive(buf); !task.Unreachable(err) {
				t.Errorf("Receive: %d bytes, %v; want that nobody is there", n, err)
			}
		})
		app = udp(t, to.String())
		proxytest.Do(t, s, func() {
			if err := c.Send([]byte("y"), task.Route{}); err != nil {
				t.Error(err)
			}
		})
		n, from, err := app.ReadFromUDPAddrPort(buf)
		if err != nil || string(buf[:n]) != "y" {
			t.Fatalf("app got %q, %v", buf[:n], err)
		}
		app.WriteToUDPAddrPort([]byte("z"), from)
		proxytest.Do(t, s, func() {
			if n, _, err := c.Receive(buf); err != nil || string(buf[:n]) != "z" {
				t.Errorf("got %q, %v", buf[:n], err)
			}
		})
		closePacket(t, s, c)
	})
}

func TestPacketCloseAndDeadline(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		c := listenPacket(t, s, "127.0.0.1:0")
		buf := make([]byte, 10)
		proxytest.Do(t, s, func() {
			c.SetDeadline(s.Now().Add(20 * time.Millisecond))
			if _, _, err := c.Receive(buf); err != task.ErrDeadline {
				t.Errorf("Receive: %v, want the deadline", err)
			}
			if err := c.WaitReadable(); err != task.ErrDeadline {
				t.Errorf("WaitReadable: %v, want the deadline", err)
			}
			c.SetDeadline(0)
		})
		for _, wait := range []func(c task.PacketConn) error{
			func(c task.PacketConn) error { return c.WaitReadable() },
			func(c task.PacketConn) error { _, _, err := c.Receive(buf); return err },
		} {
			c := listenPacket(t, s, "127.0.0.1:0")
			var err error
			done := proxytest.Go(s, func() { err = wait(c) })
			proxytest.Eventually(t, "it waits", func() bool { return rt.Stats().Tasks == 1 })
			closePacket(t, s, c)
			proxytest.Wait(t, done)
			if err != task.ErrClosed {
				t.Errorf("a wait that Close ended: %v", err)
			}
		}
		proxytest.Do(t, s, func() {
			c.Close()
			if err := c.Send(buf, task.Route{Remote: c.LocalAddr()}); err != task.ErrClosed {
				t.Errorf("Send after Close: %v", err)
			}
			if _, _, err := c.Receive(buf); err != task.ErrClosed {
				t.Errorf("Receive after Close: %v", err)
			}
		})
		// What is still open when the runtime stops is closed, and whoever waits there ends.
		left := listenPacket(t, s, "127.0.0.1:0")
		echo(s, left)
	})
}

// A socket into which somebody pours without end leaves others their turns.
func TestPacketFairness(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		flooded, polite := listenPacket(t, s, "127.0.0.1:0"), listenPacket(t, s, "127.0.0.1:0")
		var got atomic.Int64
		sink := proxytest.Go(s, func() {
			p := make([]byte, 2000)
			for {
				if _, _, err := flooded.Receive(p); err != nil {
					return
				}
				got.Add(1)
			}
		})
		echoes := echo(s, polite)
		from, stop := udp(t, "127.0.0.1:0"), make(chan struct{})
		pouring := make(chan struct{})
		go func() {
			defer close(pouring)
			for {
				select {
				case <-stop:
					return
				default:
					from.WriteToUDPAddrPort(make([]byte, 100), flooded.LocalAddr())
				}
			}
		}()
		client, buf := udp(t, "127.0.0.1:0"), make([]byte, 10)
		for range 200 {
			client.WriteToUDPAddrPort([]byte("x"), polite.LocalAddr())
			if _, _, err := client.ReadFromUDPAddrPort(buf); err != nil {
				t.Fatal(err)
			}
		}
		proxytest.Eventually(t, "the flood is served as well", func() bool { return got.Load() > 1000 })
		close(stop)
		<-pouring
		closePacket(t, s, flooded)
		closePacket(t, s, polite)
		proxytest.Wait(t, sink)
		proxytest.Wait(t, echoes)
	})
}

func TestPacketCountsWhatTheKernelLost(t *testing.T) {
	if runtime.GOOS != "linux" {
		return
	}
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		c := listenPacket(t, s, "127.0.0.1:0")
		from := udp(t, "127.0.0.1:0")
		proxytest.Eventually(t, "the queue has run over", func() bool {
			for range 1000 {
				from.WriteToUDPAddrPort(make([]byte, 1000), c.LocalAddr())
			}
			var lost uint64
			proxytest.Call(t, s, func() { lost = c.Lost() })
			return lost > 0
		})
		proxytest.Call(t, s, func() {
			before := c.Lost()
			c.Close()
			if c.Lost() < before {
				t.Errorf("lost %d after Close, %d before", c.Lost(), before)
			}
		})
	})
}
