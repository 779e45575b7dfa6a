package proxy

// Canceled is implemented by whoever waits at the bottom of an Exchange.
type Canceled interface {
	// Canceled ends the wait and the far half of the Exchange with err. It is a callback: it must not wait.
	Canceled(err error)
}

// Cancel carries one event down an Exchange: its client has left. It is used on one shard only,
// under the shard's lock. The zero value is ready.
type Cancel struct {
	err  error
	wait Canceled
}

// Err is the reason once Cancel was called, else nil.
func (c *Cancel) Err() error { return c.err }

// Cancel ends the Exchange. The first reason stays; later calls do nothing. The caller must NOT hold
// the shard's lock: Canceled takes it where it needs it.
func (c *Cancel) Cancel(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	if w := c.wait; w != nil {
		c.wait = nil
		w.Canceled(err)
	}
}

// Watch registers who is to be told, in place of whoever was registered before, who is returned so that a
// layer can put it back; nil removes. If the Exchange is cancelled already Watch returns its reason and registers nothing.
func (c *Cancel) Watch(w Canceled) (before Canceled, err error) {
	if c.err != nil {
		return nil, c.err
	}
	before = c.wait
	c.wait = w
	return before, nil
}

// Unwatch removes w if it is still the one registered.
func (c *Cancel) Unwatch(w Canceled) {
	if c.wait == w {
		c.wait = nil
	}
}

// Reset makes c ready for the next Exchange.
func (c *Cancel) Reset() { *c = Cancel{} }
