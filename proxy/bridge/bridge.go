package bridge

import (
	"sync"
	"sync/atomic"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Bridge is a RoundTripper for tasks of one shard, whose Exchanges run on another. Make it with New. It holds nothing: it ends with its last exchange.
type Bridge struct {
	// Static after construction.
	near, far task.Shard
	to        proxy.RoundTripper

	chunks    sync.Pool // of *chunk
	datagrams sync.Pool // of *[proxy.MaxDatagram]byte
	dropped   atomic.Uint64
	running   atomic.Int64
}

// New returns the way from near to to, which is used by tasks of far only.
func New(near, far task.Shard, to proxy.RoundTripper) *Bridge {
	return &Bridge{near: near, far: far, to: to}
}

// Dropped is the number of datagrams that found their queue full. It is safe for concurrent use.
func (b *Bridge) Dropped() uint64 { return b.dropped.Load() }

// Running is the number of exchanges of which either half has not ended. It is safe for concurrent use.
func (b *Bridge) Running() int { return int(b.running.Load()) }

// RoundTrip implements proxy.RoundTripper, for tasks of the near shard.
func (b *Bridge) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	x := newExchange(b, req)
	if req.Cancel != nil {
		if _, err := req.Cancel.Watch(x); err != nil {
			return &proxy.Error{Code: proxy.ClientGone, Detail: "the client left", Unsent: true, Err: err}
		}
	}
	b.running.Add(1)
	whole := false
	defer func() {
		if !whole { // the task is being unwound
			x.abort(task.ErrClosed)
			x.unwatch()
		}
	}()
	ahead := x.readAhead(req)
	task.Start(b.far, x.serve)
	task.HandOver(b.near)
	err := x.await(req)
	whole = true
	if err != nil {
		x.unwatch()
		x.restore(req, ahead)
		return err
	}
	x.fillResponse(resp)
	return nil
}
