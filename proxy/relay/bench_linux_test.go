package relay

import (
	"io"
	"net"
	"testing"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// roundTrip sends p into one connection and reads as much from the other; the allocations of the test itself are none.
func roundTrip(t testing.TB, from, to net.Conn, p, q []byte) {
	if _, err := from.Write(p); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(to, q); err != nil {
		t.Fatal(err)
	}
}

// loops starts the runtime of event loops.
func loops(t testing.TB) task.Runtime {
	rt, err := task.New(task.Config{})
	if err != nil {
		t.Fatal(err)
	}
	proxytest.Start(t, rt)
	return rt
}

// TestAllocatesNothing: on the loops, bytes that come and go in the steady state cost no memory.
func TestAllocatesNothing(t *testing.T) {
	a, b, _, done := start(t, loops(t))
	p, q := make([]byte, 64), make([]byte, 64)
	n := testing.AllocsPerRun(200, func() {
		roundTrip(t, a.Conn, b.Conn, p, q)
		roundTrip(t, b.Conn, a.Conn, p, q)
	})
	if n != 0 {
		t.Errorf("%v allocations there and back, want 0", n)
	}
	a.FinishSending()
	b.FinishSending()
	proxytest.Wait(t, done)
}

// BenchmarkRoundTrip sends 64 bytes there and back: through a relay, and between two sockets without one.
func BenchmarkRoundTrip(b *testing.B) {
	measure := func(b *testing.B, x, y net.Conn) {
		p, q := make([]byte, 64), make([]byte, 64)
		b.SetBytes(2 * int64(len(p)))
		b.ReportAllocs()
		for b.Loop() {
			roundTrip(b, x, y, p, q)
			roundTrip(b, y, x, p, q)
		}
	}
	b.Run("relay", func(b *testing.B) {
		s := loops(b).Shards()[0]
		ca, pa := proxytest.Pair(b, s)
		cb, pb := proxytest.Pair(b, s)
		done := proxytest.Go(s, func() { Copy(s, ca, cb) })
		measure(b, pa, pb)
		pa.Close()
		pb.Close()
		proxytest.Wait(b, done)
	})
	b.Run("none", func(b *testing.B) {
		x, y := proxytest.NetPair(b, "tcp", "127.0.0.1:0")
		measure(b, x, y)
	})
}
