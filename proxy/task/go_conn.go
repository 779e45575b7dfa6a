package task

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// goConn is a Conn on goroutines, around any net.Conn. Reading is in go_conn_read.go, writing in
// go_conn_write.go, the watch for hang-ups in go_conn_watch.go.
type goConn struct {
	// Static after construction.
	s   *goShard
	nc  net.Conn
	raw *rawConn    // nil if nc offers no descriptor
	l   *goListener // nil unless accepted

	deadline atomic.Int64 // an Instant

	mu       sync.Mutex
	closed   bool
	closeErr error // what waits return once closed

	// Guarded by mu: reading.
	readers  int           // tasks in Read and WaitReadable
	readEnd  Instant       // the read deadline that nc has now
	watch    chan struct{} // closed at the end of the pending watch; nil if there is none
	stash    []byte        // the byte that a watch without descriptor has read
	readErr  error         // sticky: a reset or the end
	onHangup func(error)
	hangups  int // calls of OnHangup

	// Guarded by mu: writing.
	writers    int // tasks in Write
	writeEnd   Instant
	turn       sync.Cond // of mu: sending or queue has changed
	sending    bool      // somebody is in nc.Write
	writing    bool      // it is a Write, not the writer goroutine
	cut        bool      // the last Write has sent some of its bytes and not the rest
	queue      []byte
	queued     int // len(queue) and what the writer goroutine has in hand
	spare      []byte
	writeErr   error
	noMore     bool // CloseWrite was called
	finSent    bool
	closeUntil Instant // when a closed conn stops sending its queue
	onDrain    func()
}

func newGoConn(s *goShard, nc net.Conn, l *goListener) (*goConn, error) {
	c := &goConn{s: s, nc: nc, raw: newRawConn(nc), l: l}
	c.turn.L = &c.mu
	return c, s.rt.addConn(c)
}

func (c *goConn) LocalAddr() net.Addr  { return c.nc.LocalAddr() }
func (c *goConn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// SetDeadline stores t. Package net hears of it when a wait begins, or at once if one is under way.
func (c *goConn) SetDeadline(t Instant) {
	c.deadline.Store(int64(t))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	t = Instant(c.deadline.Load()) // not what another call has set meanwhile to something else
	if c.readers > 0 {
		c.applyReadLocked(t)
	}
	if c.writers > 0 {
		c.applyWriteLocked(t)
		c.turn.Broadcast()
	}
}

func (c *goConn) expired() bool {
	t := Instant(c.deadline.Load())
	return t != 0 && Now() >= t
}

func (c *goConn) Close() error {
	c.close(ErrClosed, c.s.rt.cfg.Linger)
	return nil
}

// close lets the queue out for at most linger.
func (c *goConn) close(reason error, linger time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	if c.cut {
		c.resetLocked() // a half-written answer is reset, never finished
		return
	}
	c.closed, c.closeErr, c.noMore, c.onHangup = true, reason, true, nil
	c.nc.SetReadDeadline(time.Unix(1, 0))
	c.turn.Broadcast()
	c.closeUntil = Now().Add(linger)
	switch {
	case c.writing:
		c.applyWriteLocked(1) // endWrite goes on from here
	case c.queued > 0:
		c.applyWriteLocked(c.closeUntil)
	default:
		c.finishLocked()
	}
}

func (c *goConn) Reset() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed || c.queued > 0 {
		c.resetLocked()
	}
	return nil
}

func (c *goConn) resetLocked() {
	c.closed, c.closeErr, c.noMore, c.onHangup = true, ErrClosed, true, nil
	c.fail(ErrClosed)
	c.abortLocked()
	c.finishLocked()
}

// abortLocked makes the close of nc that follows a reset.
func (c *goConn) abortLocked() {
	if r, ok := c.nc.(interface{ SetLinger(int) error }); ok {
		r.SetLinger(0)
	} else if r, ok := c.nc.(interface{ Reset() error }); ok {
		r.Reset()
	}
}

// finishLocked closes nc, on a goroutine if nc may wait.
func (c *goConn) finishLocked() {
	switch c.nc.(type) {
	case *net.TCPConn, *net.UnixConn:
		c.finish()
	default:
		c.s.rt.live.start(c.finish)
	}
}

func (c *goConn) finish() {
	c.nc.Close()
	c.s.rt.removeConn(c)
}

// readError makes an error of nc plain and keeps those that last. mu must be held.
func (c *goConn) readErrorLocked(err error) error {
	if c.closed {
		return c.closeErr
	}
	err = plainError(err)
	switch {
	case err == nil || err == ErrDeadline:
		return err
	case err == io.EOF && c.readErr != nil:
		return c.readErr // the kernel reports a reset once, then the end
	case c.readErr == nil:
		c.readErr = err
	}
	return c.readErr
}

// writeErrorLocked does the same for sending. A reset that the sender sees is one for the reader too.
func (c *goConn) writeErrorLocked(err error) error {
	if c.closed {
		return c.closeErr
	}
	err = plainError(err)
	if err == nil || err == ErrDeadline {
		return err
	}
	if errors.Is(err, syscall.ECONNRESET) && c.readErr == nil {
		c.readErr = err
	}
	if c.writeErr == nil {
		c.writeErr = err
	}
	return c.writeErr
}
