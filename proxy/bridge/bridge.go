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
	beginner  Beginner // to, if it is one

	chunks    sync.Pool // of *chunk
	datagrams sync.Pool // of *[proxy.MaxDatagram]byte
	dropped   atomic.Uint64
	running   atomic.Int64
}

// Beginner is a RoundTripper that can begin an exchange without waiting, in a task of the near shard, so that those of one turn go together.
type Beginner interface {
	// Begin returns what carries out the rest of req, in a task of the far shard, or nil where only RoundTrip does.
	Begin(req *proxy.Request) (proxy.RoundTripper, error)
}

// New returns the way from near to to, which is used by tasks of far only, save that, if it is a Beginner, Begin is called by tasks of near.
func New(near, far task.Shard, to proxy.RoundTripper) *Bridge {
	b := &Bridge{near: near, far: far, to: to}
	b.beginner, _ = to.(Beginner)
	return b
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
	if b.beginner != nil && x.body == nil {
		var err error
		if x.begun, err = b.beginner.Begin(&x.req); err != nil {
			x.unwatch()
			return err
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
