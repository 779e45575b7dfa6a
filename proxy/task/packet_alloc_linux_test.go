package task_test

import (
	"net/netip"
	"testing"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// TestPacketAllocatesNothing: on a loop a datagram there and back costs no memory, also where its local address is told.
func TestPacketAllocatesNothing(t *testing.T) {
	rt, err := task.New(task.Config{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer proxytest.Start(t, rt)()
	s := rt.Shards()[0]
	for _, bind := range []string{"127.0.0.1:0", ":0"} {
		server := listenPacket(t, s, bind)
		done := echo(s, server)
		client := dialPacket(t, s, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), server.LocalAddr().Port()))
		p, q := make([]byte, 1200), make([]byte, 1500)
		proxytest.Do(t, s, func() {
			n := proxytest.Allocs(200, func() {
				if err := client.Send(p, task.Route{}); err != nil {
					t.Error(err)
				}
				if n, _, err := client.Receive(q); n != len(p) || err != nil {
					t.Error(n, err)
				}
			})
			if n != 0 {
				t.Errorf("bound to %s: %v allocations there and back, want 0", bind, n)
			}
			client.Close()
			server.Close()
		})
		proxytest.Wait(t, done)
	}
}
