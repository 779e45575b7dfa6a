package http1

import (
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// latered is a Shard whose timers the test fires.
type latered struct {
	task.Shard
	due []func()
}

func (l *latered) After(_ time.Duration, f func()) task.Timer {
	l.due = append(l.due, f)
	return nil
}

// What a burst has left is given back, what is in use stays.
func TestKeptExchangesAreTrimmed(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := &latered{Shard: rt.Shards()[0]}
		srv, err := NewServer(ServerConfig{Handler: &gateway{}})
		if err != nil {
			t.Fatal(err)
		}
		proxytest.Call(t, s, func() {
			use := func(n int) {
				var all []*exchange
				for range n {
					all = append(all, srv.take(s))
				}
				for _, x := range all {
					srv.put(x)
				}
			}
			use(2 * keptPerOne)
			kept := &srv.kept[s.Index()]
			for i, want := range []int{keptPerOne, 100, 100, 3, 3} { // after each period
				if len(s.due) == 0 && i < 4 {
					t.Errorf("period %d: no trim is due with %d kept", i, kept.n)
					return
				}
				for _, f := range s.due {
					s.due = s.due[1:]
					f()
				}
				if kept.n != want {
					t.Errorf("period %d: %d kept, want %d", i, kept.n, want)
				}
				if i < 2 {
					use(100)
				} else {
					use(3)
				}
			}
			if len(s.due) != 0 {
				t.Error("a timer runs for a few exchanges")
			}
		})
	})
}
