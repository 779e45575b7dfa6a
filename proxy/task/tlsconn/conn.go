package tlsconn

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"github.com/pillion-proxy/pillion/proxy/task"
)

// Conn is a TLS connection on a shard. What task.Conn says about its methods holds, but where a method says otherwise. One task may read
// while others push.
type Conn struct {
	// Static after construction.
	tls   *tls.Conn
	wire  *wire
	inner task.Conn

	closed atomic.Bool

	// Owned by the reader.
	peeked bool // peek holds a byte that was read and not given out
	rest   bool // tls.Conn may hold the rest of an opened record
	peek   [1]byte

	// push makes each Push a contiguous piece of the stream. It is never held over a wait.
	push sync.Mutex
}

// Read waits for at least one byte, and then takes as many whole records as have arrived and fit. io.EOF
// means that the peer said close_notify; that the connection just ended is io.ErrUnexpectedEOF.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if c.closed.Load() {
		return 0, task.ErrClosed
	}
	var n int
	if c.peeked {
		p[0], c.peeked, n = c.peek[0], false, 1
	} else {
		var err error
		if n, err = c.open(p); n == 0 {
			return 0, c.fault(err)
		}
	}
	c.wire.noWait = true
	for n < len(p) && (c.rest || c.wire.frames.whole > 0) {
		m, err := c.open(p[n:])
		n += m
		if err != nil {
			break // it lasts, and the next Read returns it; or it is errEmpty
		}
	}
	c.wire.noWait = false
	return n, nil
}

// WaitReadable waits until Read would not. It holds no buffer meanwhile.
func (c *Conn) WaitReadable() error {
	if c.closed.Load() {
		return task.ErrClosed
	}
	if c.peeked {
		return nil
	}
	n, err := c.open(c.peek[:])
	if n == 1 {
		c.peeked = true
		return nil
	}
	err = c.fault(err)
	if err == task.ErrClosed || errors.Is(err, task.ErrDeadline) {
		return err
	}
	return nil // Read returns the error at once
}

// open reads from tls.Conn and keeps account of what that still holds.
func (c *Conn) open(p []byte) (int, error) {
	n, err := c.tls.Read(p)
	f := &c.wire.frames
	switch {
	case n > 0:
		if !c.rest && f.whole > 0 {
			f.whole--
		}
		c.rest = n == len(p)
		return n, nil
	case err == errEmpty:
		// Records that carry no data (a KeyUpdate, a ticket) are opened on the way and not counted.
		f.whole, c.rest = 0, false
	}
	c.wire.flush() // an alert, perhaps
	return 0, err
}

// fault makes the errors of tls.Conn those of a task.Conn.
func (c *Conn) fault(err error) error {
	switch {
	case c.closed.Load():
		return task.ErrClosed
	case err == io.EOF && c.wire.ended:
		return io.ErrUnexpectedEOF
	}
	return err
}

// Push seals p and sends it without waiting. p may be reused at once.
func (c *Conn) Push(p []byte) error {
	const most = 64 << 10 // bytes sealed before they are sent: four records
	c.push.Lock()
	defer c.push.Unlock()
	for len(p) > 0 {
		if c.closed.Load() {
			return task.ErrClosed
		}
		n := min(len(p), most)
		if _, err := c.tls.Write(p[:n]); err != nil {
			return c.fault(err)
		}
		if err := c.wire.flush(); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// Queued is the number of bytes, sealed, that Push holds back.
func (c *Conn) Queued() int { return c.inner.Queued() }

// OnDrain sets f to be called, as a callback, each time Queued falls back to zero.
func (c *Conn) OnDrain(f func()) { c.inner.OnDrain(f) }

// OnHangup sets f to be called, as a callback, once, when something arrives while no task reads. f gets nil
// for whatever can be read, be it the peer's close_notify; io.EOF if the connection ended; or the reset.
func (c *Conn) OnHangup(f func(err error)) { c.inner.OnHangup(f) }

// SetDeadline bounds the waits in Read and WaitReadable; 0 means none.
func (c *Conn) SetDeadline(t task.Instant) { c.inner.SetDeadline(t) }

// CloseWrite says close_notify and ends our direction, behind what is queued. Reading goes on.
func (c *Conn) CloseWrite() error {
	if c.closed.Load() {
		return task.ErrClosed
	}
	if err := c.sayGoodbye(); err != nil {
		return err
	}
	return c.inner.CloseWrite()
}

// Close says close_notify and closes the connection in order. It never waits, is idempotent, and wakes the reader with task.ErrClosed.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	c.sayGoodbye() // its error is that of a connection that is broken anyway
	return c.inner.Close()
}

func (c *Conn) sayGoodbye() error {
	err := c.tls.CloseWrite()
	return errors.Join(err, c.wire.flush())
}

// Reset ends both directions at once, without close_notify, so that the peer sees an error. Like Close otherwise.
func (c *Conn) Reset() error {
	c.closed.Store(true)
	return c.inner.Reset()
}

// State describes the connection, as tls.Conn does.
func (c *Conn) State() tls.ConnectionState { return c.tls.ConnectionState() }

// LocalAddr is our address.
func (c *Conn) LocalAddr() net.Addr { return c.inner.LocalAddr() }

// Path implements task.Measured.
func (c *Conn) Path() task.Path { return task.PathOf(c.inner) }

// RemoteAddr is the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.inner.RemoteAddr() }
