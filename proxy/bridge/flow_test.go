package bridge

import (
	"sync/atomic"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// deaf is a Flow that gives nothing until it is closed, takes nothing, and knows where it counts.
type deaf struct {
	gate  task.Gate
	stats atomic.Pointer[proxy.FlowStats]
	over  atomic.Bool
}

func (d *deaf) FlowStats() *proxy.FlowStats    { return d.stats.Load() }
func (d *deaf) CountIn(stats *proxy.FlowStats) { d.stats.Store(stats) }
func (d *deaf) Send([]byte) error              { return proxy.ErrDatagramTooLong }

func (d *deaf) Receive([]byte) (int, error) {
	for !d.over.Load() {
		d.gate.Wait(0)
	}
	return 0, task.ErrClosed
}

func (d *deaf) Close() error {
	d.over.Store(true)
	d.gate.Wake()
	return nil
}

// A Flow counts what it loses on either side where its user counts.
func TestFlowsCountInOnePlace(t *testing.T) {
	both(t, func(t *testing.T, near, far task.Shard) {
		d, stats := new(deaf), new(proxy.FlowStats)
		far.Gate(&d.gate)
		b := New(near, far, proxy.RoundTripperFunc(func(_ *proxy.Request, resp *proxy.Response) error {
			resp.Status, resp.Flow = 101, d
			return nil
		}))
		resp := open(t, b, near)
		proxytest.Do(t, near, func() {
			flow := resp.Flow.(proxy.FlowCounter)
			flow.CountIn(stats)
			if flow.FlowStats() != stats {
				t.Error("the near side counts elsewhere")
			}
			if err := resp.Flow.Send(make([]byte, proxy.MaxDatagram+1)); err != proxy.ErrDatagramTooLong {
				t.Errorf("got %v", err)
			}
		})
		proxytest.Eventually(t, "the far side counts there", func() bool { return d.stats.Load() == stats })
		if n := stats.Counts().Dropped["too_long"]; n != 1 {
			t.Errorf("%d are counted as too long, want 1", n)
		}
		proxytest.Do(t, near, resp.Close)
		proxytest.Eventually(t, "the exchange is over", func() bool { return b.Running() == 0 })
	})
}
