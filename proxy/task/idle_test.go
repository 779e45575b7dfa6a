//go:build unix

package task_test

import (
	"net"
	"runtime"
	"syscall"
	"testing"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// TestIdleIsCheap opens up to 10,000 connections, uses each once, and looks at what they hold while idle.
func TestIdleIsCheap(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	n := min(10000, (int(limit.Cur)-200)/2)
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		if !onLoop(t) {
			n = min(n, 1000) // each holds a goroutine
		}
		l := listen(t, rt, task.ServeOptions{Serve: echoOnce})
		var before, after runtime.MemStats
		conns := make([]net.Conn, 0, n)
		defer func() {
			for _, c := range conns {
				c.(*net.TCPConn).SetLinger(0)
				c.Close()
			}
		}()
		one := make([]byte, 1)
		for range n {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
		}
		for _, c := range conns {
			c.Write(one)
		}
		for _, c := range conns {
			if _, err := c.Read(one); err != nil {
				t.Fatal(err)
			}
		}
		idle := func() bool {
			st := rt.Stats()
			return st.Idle == n && st.Tasks == 0 && st.Buffers == 0
		}
		proxytest.Eventually(t, "all idle, without task and buffer", idle)
		runtime.GC()
		runtime.ReadMemStats(&before)
		for _, c := range conns {
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
		proxytest.Eventually(t, "all gone", func() bool { return rt.Stats().Conns == 0 })
		runtime.GC()
		runtime.ReadMemStats(&after)
		heap := int64(before.HeapAlloc) - int64(after.HeapAlloc)
		stack := int64(before.StackInuse) - int64(after.StackInuse)
		t.Logf("%d idle connections: %d bytes of heap each, both ends; %d of stack", n, heap/int64(n), stack/int64(n))
	})
}
