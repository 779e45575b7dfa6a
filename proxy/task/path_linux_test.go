package task_test

import (
	"testing"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// TestPath: the kernel tells of a TCP connection, and of nothing else.
func TestPath(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		c, peer := proxytest.Pair(t, s)
		defer peer.Close()
		u, end := proxytest.UnixPair(t, s)
		defer end.Close()
		proxytest.Do(t, s, func() {
			if p := task.PathOf(c); p.Window == 0 || p.MTU < 500 {
				t.Errorf("TCP: %+v", p)
			}
			if p := task.PathOf(u); p != (task.Path{}) {
				t.Errorf("a Unix socket: %+v", p)
			}
			c.Close()
			u.Close()
			if p := task.PathOf(c); p != (task.Path{}) {
				t.Errorf("a closed one: %+v", p)
			}
		})
	})
	if p := task.PathOf("anything else"); p != (task.Path{}) {
		t.Errorf("%+v", p)
	}
}
