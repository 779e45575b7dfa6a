package proxy

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/pillion-proxy/pillion/proxy/task"
)

// ErrWithdrawn is the reason of a Cancel by a listener that has asked for something ahead of its client and finds that the client wants something else: nobody
// left, and nothing failed.
var ErrWithdrawn = errors.New("the listener has withdrawn the request: its client wants something else")

// Canceled is implemented by whoever waits at the bottom of an Exchange.
type Canceled interface {
	// Canceled ends the wait and the far half of the Exchange with err. It is a callback: it must not wait. On
	// goroutines it may come shortly after Unwatch: a pooled waiter checks that its present Exchange is cancelled.
	Canceled(err error)
}

// Cancel carries one event down an Exchange: its client has left. It is used on one shard only, with or without
// the shard's lock, but for Cancel and Reset. The zero value is ready.
type Cancel struct {
	over atomic.Bool // err is set, and does not change until Reset
	solo bool        // nobody can be in the way of anybody, and mu is left alone
	mu   sync.Mutex  // never held over a call
	err  error
	wait Canceled
}

// On says of which shard c is. It is for who makes c, before its first use, and worth it where c is used often: on a loop c then needs no mutex.
func (c *Cancel) On(s task.Shard) { c.solo = task.Solo(s) }

func (c *Cancel) lock() {
	if !c.solo {
		c.mu.Lock()
	}
}

func (c *Cancel) unlock() {
	if !c.solo {
		c.mu.Unlock()
	}
}

// Err is the reason once Cancel was called, else nil.
func (c *Cancel) Err() error {
	if !c.over.Load() {
		return nil
	}
	return c.err
}

// Cancel ends the Exchange. The first reason stays; later calls do nothing. The caller must NOT hold
// the shard's lock: Canceled takes it where it needs it.
func (c *Cancel) Cancel(err error) {
	c.lock()
	if c.over.Load() {
		c.unlock()
		return
	}
	c.err = err
	c.over.Store(err != nil)
	w := c.wait
	c.wait = nil
	c.unlock()
	if w != nil {
		w.Canceled(err)
	}
}

// Watch registers who is to be told, in place of whoever was registered before, who is returned so that a
// layer can put it back; nil removes. If the Exchange is cancelled already Watch returns its reason and registers nothing.
func (c *Cancel) Watch(w Canceled) (before Canceled, err error) {
	c.lock()
	if err = c.Err(); err == nil {
		before, c.wait = c.wait, w
	}
	c.unlock()
	return before, err
}

// Unwatch removes w if it is still the one registered.
func (c *Cancel) Unwatch(w Canceled) {
	c.lock()
	if c.wait == w {
		c.wait = nil
	}
	c.unlock()
}

// Reset makes c ready for the next Exchange. Nobody uses c meanwhile.
func (c *Cancel) Reset() {
	c.lock()
	if c.over.Load() {
		c.over.Store(false)
		c.err = nil
	}
	if c.wait != nil {
		c.wait = nil
	}
	c.unlock()
}
