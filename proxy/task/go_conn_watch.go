package task

// OnHangup starts a watch: a goroutine that waits until the connection is readable. It has no deadline. A
// Read that comes meanwhile waits for the same watch, so nothing need be interrupted.
func (c *goConn) OnHangup(f func(err error)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.onHangup = f
	c.hangups++
	c.watchLocked()
}

// watchLocked starts a watch if one is wanted.
func (c *goConn) watchLocked() {
	if c.onHangup == nil || c.readers > 0 || c.watch != nil || c.closed {
		return
	}
	c.applyReadLocked(0)
	c.watch = make(chan struct{})
	c.s.rt.live.start(c.runWatch)
}

func (c *goConn) runWatch() {
	err := c.awaitReadable()
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.watch)
	c.watch = nil
	if c.closed {
		return
	}
	err = c.readErrorLocked(err)
	if err == ErrDeadline {
		c.watchLocked()
		return
	}
	if err == nil {
		err = c.readErr
	}
	if c.onHangup == nil || c.readers > 0 {
		return
	}
	f := c.onHangup
	c.onHangup = nil
	err = unreadError(err)
	current := c.hangups
	c.s.Post(func() {
		if c.isCurrent(current) {
			f(err)
		}
	})
}

// isCurrent reports whether OnHangup has not been called since.
func (c *goConn) isCurrent(hangups int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.closed && c.hangups == hangups
}

func (c *goConn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}
