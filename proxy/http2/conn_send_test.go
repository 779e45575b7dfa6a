package http2

import (
	"testing"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// TestCallHeads has 1,000 heads wait for room. As many are called as the buffer will hold, those on their way to it count, and none is called
// where there is no room.
func TestCallHeads(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		c := &Conn{headSize: 1 << 10}
		streams := make([]stream, 1000)
		called := func(want int, why string) {
			t.Helper()
			proxytest.Call(t, s, c.callHeads)
			if c.called != want {
				t.Errorf("%s: %d heads are called, want %d", why, c.called, want)
			}
		}
		for i := range streams {
			s.Gate(&streams[i].sendGate)
			c.heads.push(&streams[i])
		}
		c.blocked = true
		called(0, "the Transport has a queue")
		c.blocked = false
		called(64, "an empty buffer of 64 KiB")
		called(64, "those have not run yet")
		c.called -= 10
		c.out = make([]byte, 10<<10)
		called(54, "10 of them have run")
		c.out = c.out[:0]
		called(64, "the buffer has been pushed")
		for i := range streams {
			if want := i < 74; streams[i].called != want {
				t.Fatalf("head %d: called is %v, want %v: the oldest go first", i, !want, want)
			}
		}
		c.headsOut = 100
		c.measureHeads(100 * 5 << 10)
		if c.headSize != 2<<10 || c.headsOut != 0 {
			t.Errorf("after heads of 5 KiB a head is taken to have %d bytes, want 2 KiB, a quarter of the way", c.headSize)
		}
		c.called, c.headSize = 0, 0
		called(926, "tiny heads: all that are left")
	})
}
