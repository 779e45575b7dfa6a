//go:build !race

// The race detector makes sync.Pool, which goroutines' buffers come from, forget at random.

package http2

import (
	"strings"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// An exchange with fields that recur allocates nothing at either end, but for what goroutines cost.
func TestExchangeDoesNotAllocate(t *testing.T) { testAllocs(t) }

// Nor does one that is traced, although its traceparent does not recur.
func TestTracedExchangeDoesNotAllocate(t *testing.T) {
	testAllocs(t, proxy.Field{Name: traceparent, Value: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
}

func testAllocs(t *testing.T, fields ...proxy.Field) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		var l *link
		one := pingPong(t, &l, s, fields...)
		defer l.close()
		l.do(func() {
			for range 100 {
				one()
			}
			got := proxytest.Allocs(500, one)
			want := 0.0
			if strings.HasSuffix(t.Name(), "goroutines") {
				want = 14 // a task, and what net.Conn's SyscallConn costs
			}
			if got > want {
				t.Errorf("%v allocations in an exchange, want %v", got, want)
			}
		})
	})
}
