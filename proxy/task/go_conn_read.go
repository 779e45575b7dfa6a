package task

import (
	"io"
	"syscall"
)

func (c *goConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := c.beginRead(); err != nil {
		return 0, err
	}
	n, err := c.stashed(p)
	if n == 0 && err == nil {
		n, err = c.nc.Read(p)
	}
	if n > 0 {
		err = nil
	}
	return n, c.endRead(err)
}

func (c *goConn) WaitReadable() error {
	if err := c.beginRead(); err != nil {
		if err == ErrClosed || err == ErrDeadline {
			return err
		}
		return nil // Read would return the error at once
	}
	err := c.endRead(c.awaitReadable())
	if err == ErrClosed || err == ErrDeadline {
		return err
	}
	return nil
}

// beginRead waits for a pending watch, so that only one goroutine reads from nc, and arms the deadline.
func (c *goConn) beginRead() error {
	if c.expired() {
		return ErrDeadline
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.closeErr
	}
	c.readers++
	c.applyReadLocked(Instant(c.deadline.Load()))
	for c.watch != nil {
		w := c.watch
		c.mu.Unlock()
		<-w
		c.mu.Lock()
		if c.closed {
			c.readers--
			return c.closeErr
		}
		if len(c.stash) == 0 && c.readErr == nil && c.expired() {
			c.endReadLocked()
			return ErrDeadline
		}
	}
	return nil
}

func (c *goConn) endRead(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.readErrorLocked(err)
	c.endReadLocked()
	return err
}

func (c *goConn) endReadLocked() {
	c.readers--
	c.watchLocked()
}

// stashed returns what a watch has found out.
func (c *goConn) stashed(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := copy(p, c.stash)
	c.stash = c.stash[n:]
	if n == 0 && (c.readErr == io.EOF || c.raw == nil) {
		return 0, c.readErr
	}
	return n, nil
}

// awaitReadable waits until a read of nc would not, reading a byte into the stash where there is no other way.
func (c *goConn) awaitReadable() error {
	c.mu.Lock()
	known := len(c.stash) > 0 || c.readErr != nil
	c.mu.Unlock()
	if known {
		return nil
	}
	if c.raw != nil {
		return c.raw.awaitReadable()
	}
	var one [1]byte
	n, err := c.nc.Read(one[:])
	if n == 0 {
		return err
	}
	c.mu.Lock()
	c.stash = append(c.stash[:0], one[0])
	c.mu.Unlock()
	return nil
}

func (c *goConn) applyReadLocked(t Instant) {
	if t != c.readEnd && !c.closed {
		c.readEnd = t
		c.nc.SetReadDeadline(t.wall())
	}
}

// unreadError is what an end that awaitReadable met means to OnHangup.
func unreadError(err error) error {
	switch {
	case err == nil, err == io.EOF:
		return err
	case isReset(err):
		return syscall.ECONNRESET
	}
	return err
}
