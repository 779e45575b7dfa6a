package datagram

import (
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// counted is a Flow that counts.
type counted struct {
	proxy.Flow
	stats  *proxy.FlowStats
	closed bool
}

func (c *counted) FlowStats() *proxy.FlowStats    { return c.stats }
func (c *counted) CountIn(stats *proxy.FlowStats) { c.stats = stats }
func (c *counted) Close() error                   { c.closed = true; return nil }

// Through a codec that only knows Streams a Flow comes out as the Flow that went in, and Streams stay what they are.
func TestCarryAndTunnel(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		c, peer := proxytest.Pair(t, s)
		flow := &counted{stats: new(proxy.FlowStats)}
		resp := proxy.Response{Flow: flow}
		Carry(&resp)
		if _, err := resp.Stream.Read(nil); err == nil {
			t.Error("a Flow has bytes")
		}
		streams, flows := 0, 0
		tunnel := Tunnel(func(task.Shard, proxy.Stream, proxy.Stream) { streams++ }, func(_ task.Shard, client, upstream proxy.Flow) {
			flows++
			if upstream != flow || client.(*Flow).stats != flow.stats {
				t.Errorf("relays %v and %v", client, upstream)
			}
		})
		proxytest.Do(t, s, func() {
			tunnel(s, c, resp.Stream)
			tunnel(s, c, c)
			resp.Stream.Reset()
			c.Close()
		})
		if streams != 1 || flows != 1 || !flow.closed {
			t.Errorf("%d Streams, %d Flows, closed %v", streams, flows, flow.closed)
		}
		peer.Close()
	})
}

// An answer's own Flow counts where its user counts.
func TestOf(t *testing.T) {
	stats, flow := new(proxy.FlowStats), new(counted)
	if got := Of(nil, &proxy.Response{Flow: flow}, stats); got != flow || flow.stats != stats {
		t.Errorf("got %v, which counts in %p, want %p", got, flow.stats, stats)
	}
	if got := Of(nil, new(proxy.Response), stats); got != nil {
		t.Errorf("an answer without anything has the Flow %v", got)
	}
}
