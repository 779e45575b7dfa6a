package datagram

import (
	"errors"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Carry is for codecs that know no Flows: it gives an answer with a Flow a Stream that stands for it, and that Tunnel knows.
func Carry(resp *proxy.Response) { resp.Stream = &carried{resp.Flow, resp.Stream} }

// Tunnel returns the function that codecs want: it relays two Streams with streams, and a Stream and the Flow that Carry has hidden with flows.
func Tunnel(streams func(s task.Shard, client, upstream proxy.Stream), flows func(s task.Shard, client, upstream proxy.Flow)) func(s task.Shard, client, upstream proxy.Stream) {
	return func(s task.Shard, client, upstream proxy.Stream) {
		c, ok := upstream.(*carried)
		if !ok {
			streams(s, client, upstream)
			return
		}
		var stats *proxy.FlowStats
		if counter, ok := c.flow.(proxy.FlowCounter); ok {
			stats = counter.FlowStats()
		}
		flows(s, New(s, client, stats), c.flow)
	}
}

var errFlow = errors.New("this is a Flow: it has no bytes")

// carried stands for a Flow.
type carried struct {
	flow   proxy.Flow
	beside proxy.Stream // that the Flow lives as long as; may be nil
}

func (c *carried) Read([]byte) (int, error)  { return 0, errFlow }
func (c *carried) Write([]byte) (int, error) { return 0, errFlow }
func (c *carried) CloseWrite() error         { return c.flow.Close() }
func (c *carried) Close() error              { return c.flow.Close() }

func (c *carried) Reset() error {
	err := c.flow.Close()
	if c.beside != nil {
		err = c.beside.Reset()
	}
	return err
}
