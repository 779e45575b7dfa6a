//go:build !race

// The race detector makes sync.Pool, which crypto/tls uses, forget at random.

package tlsconn

import (
	"runtime"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// The peer discards, so the same connection also tells what a plain Push costs: nothing on a loop.
func TestPushDoesNotAllocate(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		c, peer := pair(t, s)
		go discard(peer.NetConn())
		proxytest.Do(t, s, func() {
			d := newDrained(s, c)
			allocs := func(push func([]byte) error, size int) float64 {
				p := make([]byte, size)
				return proxytest.Allocs(100, func() {
					if err := push(p); err != nil {
						t.Errorf("push: %v", err)
					}
					d.wait()
				})
			}
			for _, size := range []int{100, 1000, 60 << 10} {
				if got, plain := allocs(c.Push, size), allocs(c.inner.Push, size); got > plain+0.5 {
					t.Errorf("%v allocations for a Push of %d bytes, %v without TLS; want no more", got, size, plain)
				}
			}
		})
	})
}

// crypto/tls itself allocates 24 bytes each time it asks for more from the network; there must be nothing else.
func TestReadAllocatesLittle(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		const runs = 200
		s := rt.Shards()[0]
		c, peer := pair(t, s)
		for range runs + 2 {
			peer.Write(make([]byte, 100))
		}
		time.Sleep(10 * time.Millisecond)
		proxytest.Do(t, s, func() {
			p := make([]byte, 100)
			var before, after runtime.MemStats
			c.Read(p)
			runtime.ReadMemStats(&before)
			for range runs {
				if n, err := c.Read(p); n != 100 || err != nil {
					t.Errorf("Read = %d, %v", n, err)
					return
				}
			}
			runtime.ReadMemStats(&after)
			if got := float64(after.TotalAlloc-before.TotalAlloc) / runs; got > 100 {
				t.Errorf("%v bytes allocated per Read, want next to nothing", got)
			}
		})
	})
}
