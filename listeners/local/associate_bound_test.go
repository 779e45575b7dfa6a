package local

import (
	"net/netip"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/socks"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Datagrams to many targets that cannot be reached cost no more memory than maxQueued.
func TestWaitingDatagramsAreBounded(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		silent := proxy.RoundTripperFunc(func(req *proxy.Request, _ *proxy.Response) error {
			for req.Cancel.Err() == nil {
				req.Shard.Sleep(time.Millisecond)
			}
			return req.Cancel.Err()
		})
		srv, err := New(Config{Handler: silent, Shards: rt.Shards(), Logger: proxytest.Logger(t)})
		if err != nil {
			t.Fatal(err)
		}
		a := &association{p: &port{server: srv}, s: s, flows: make(map[socks.Addr]*associated)}
		var held, counted, left int
		proxytest.Do(t, s, func() {
			for i := range 3 * maxTargets {
				for range maxUnopened {
					a.deliver(socks.Addr{IP: netip.IPv4Unspecified(), Port: uint16(i + 1)}, make([]byte, 60_000))
				}
			}
			s.Lock()
			all := make([]*associated, 0, len(a.flows))
			for _, f := range a.flows {
				all = append(all, f)
				for _, p := range f.waiting {
					held += len(p)
				}
			}
			counted = a.queued
			s.Unlock()
			for _, f := range all {
				f.end()
			}
			a.timer.Stop()
			left = a.queued
		})
		if held > maxQueued || held == 0 || counted != held || left != 0 {
			t.Errorf("%d bytes are held, %d counted, %d at the end; want at most %d, as many, and none", held, counted, left, maxQueued)
		}
	})
}
