package datagram

import (
	"errors"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Layer is for codecs that know no Flows: an answer with a Flow gets a Stream that stands for it, and that Tunnel knows.
func Layer(next proxy.RoundTripper) proxy.RoundTripper { return &layer{next} }

type layer struct{ next proxy.RoundTripper }

// RoundTrip implements proxy.RoundTripper.
func (l *layer) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	err := l.next.RoundTrip(req, resp)
	if err == nil && resp.Flow != nil {
		resp.Stream = &carried{resp.Flow, resp.Stream}
	}
	return err
}

// Tunnel returns the function that codecs want: it relays two Streams with streams, and a Stream and the Flow that Layer has hidden with flows.
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
