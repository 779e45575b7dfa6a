package task

import (
	"io"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// loopConn is a Conn on a loop. Reading is in loop_conn_read_linux.go, writing in loop_conn_write_linux.go, the
// life of an accepted one in loop_serve_linux.go. An idle one holds nothing but this struct, in which what events and reads need comes
// first, and then what Take needs, 64 bytes each, one line of a cache.
type loopConn struct {
	// Static after construction.
	l  *loop
	ln *loopListener // nil unless accepted
	fd int32         // -1 once closed

	state    connState
	deadline Instant
	reader   *loopTask // parked in Read or WaitReadable
	writer   *loopTask // parked in Write or Dial
	readErr  error     // sticky: a reset or the end
	writeErr error

	queue   []*Buffer // what Push and Take hold back
	queued  int
	one     [1]*Buffer // where queue begins
	onDrain func()

	onHangup   func(error)
	hangupCall func() // the method hangup, made once
	drainCall  func() // the method drain, made once

	timer  timerNode      // of an idle connection, or a closed one that still sends
	until  Instant        // when timer matters, 0 means never
	remote netip.AddrPort // of the other end, once somebody has asked
	asked  bool           // for remote
	_      [8]byte        // so that lines of caches begin where they are meant to
}

// connState is a set of facts about a connection.
type connState uint16

const (
	readable   connState = 1 << iota // recv may have something: an event since it last had nothing
	hungUp                           // epoll has reported an end or an error: readable stays set
	writable                         // send may take something
	partial                          // a Write under way has sent some of its bytes and not the rest
	cut                              // the last Write failed like that
	noMore                           // CloseWrite or Close was called
	finSent                          //
	closed                           // Close or Reset was called
	idle                             // between two calls of Serve
	eager                            // Serve is still to be called without bytes
	connecting                       // Dial waits
	checking                         // a checkHangup is due
	aborting                         // with a RST
	draining                         // a drain is due
	later                            // in loop.late
)

func (c *loopConn) is(s connState) bool { return c.state&s != 0 }

// newConn takes over fd, which must not block.
func (l *loop) newConn(fd int, ln *loopListener, s connState) (*loopConn, error) {
	c := &loopConn{l: l, ln: ln, fd: int32(fd), state: writable | s}
	c.timer.owner = c
	c.queue = c.one[:0]
	if l.stopping {
		unix.Close(fd)
		return nil, ErrClosed
	}
	if err := l.watch(fd, c, connEvents); err != nil {
		unix.Close(fd)
		return nil, err
	}
	l.count.conns++
	return c, nil
}

// event is called by the poller. Tasks are readied, and the code of others called, only later in the turn.
func (c *loopConn) event(ev uint32) {
	if ev&hangupEvents != 0 {
		c.state |= hungUp
	}
	if ev&(unix.EPOLLIN|hangupEvents) != 0 {
		c.state |= readable
		switch {
		case c.reader != nil:
			c.l.wake(c.reader)
		case c.is(idle):
			c.startServe()
		case c.onHangup != nil:
			c.checkHangup()
		}
	}
	if ev&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.state |= writable
		if c.queued > 0 && !c.is(partial) {
			c.flush()
		} else if c.writer != nil {
			c.l.wake(c.writer)
		}
	}
}

// SetDeadline stores t, and tells the waits that are under way.
func (c *loopConn) SetDeadline(t Instant) {
	c.deadline = t
	if c.reader != nil {
		c.reader.setDeadline(t)
	}
	if c.writer != nil && !c.is(connecting) {
		c.writer.setDeadline(t)
	}
}

func (c *loopConn) expired() bool { return c.deadline != 0 && c.l.now >= c.deadline }

func (c *loopConn) Close() error {
	c.close(c.l.rt.cfg.Linger)
	return nil
}

// close lets the queue out for at most linger.
func (c *loopConn) close(linger time.Duration) {
	switch {
	case c.is(closed):
	case c.is(partial | cut):
		c.Reset() // a half-written answer is reset, never finished
	default:
		c.leave()
		if c.queued == 0 {
			c.finish()
			return
		}
		c.until = c.l.now.Add(linger)
		c.arm()
	}
}

func (c *loopConn) Reset() error {
	if c.fd < 0 {
		return nil
	}
	if !c.is(closed) {
		c.leave()
	}
	c.abort()
	return nil
}

// abort discards the queue and closes with a RST.
func (c *loopConn) abort() {
	if c.queued > 0 {
		c.announceDrain()
	}
	c.dropQueue()
	c.state |= aborting
	unix.SetsockoptLinger(int(c.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	c.finish()
}

// leave is what Close and Reset do first: nobody uses c from now on, and who waits is told.
func (c *loopConn) leave() {
	if c.is(idle) {
		c.setIdle(false)
	}
	c.state |= closed | noMore
	c.onHangup = nil
	if c.reader != nil {
		c.l.wake(c.reader)
	}
	if c.writer != nil {
		c.l.wake(c.writer)
	}
}

// finish closes the descriptor. Bytes that came and were not read would turn its FIN into a RST: they are read.
func (c *loopConn) finish() {
	fd := int(c.fd)
	if c.is(readable) && c.readErr == nil && c.writeErr == nil && !c.is(aborting) {
		c.discard()
	}
	c.fd = -1
	c.l.unwatch(fd)
	c.l.wheel.remove(&c.timer)
	unix.Close(fd)
	c.l.count.conns--
	if c.ln != nil {
		c.ln.left()
	}
}

// maxDiscard bounds what finish reads, in bytes.
const maxDiscard = 256 << 10

func (c *loopConn) discard() {
	b := c.l.takeBuffer()
	for total := 0; total < maxDiscard; {
		n, errno := sysRecv(c.fd, b.B)
		if errno == unix.EINTR {
			continue
		}
		if n <= 0 {
			break
		}
		total += n
	}
	c.l.giveBuffer(b)
}

// arm makes the timer fire at until.
func (c *loopConn) arm() { c.l.wheel.arm(&c.timer, c.until) }

// expire is called by the wheel.
func (c *loopConn) expire(now Instant) {
	switch {
	case c.until == 0 || c.fd < 0:
	case now < c.until:
		c.arm()
	case c.is(closed):
		c.abort()
	case c.is(idle):
		c.Close()
	}
}

// fail turns what recv or send has met into an error. A reset lasts, and is one for both directions.
func (c *loopConn) fail(errno unix.Errno) error {
	if errno == unix.ECONNRESET && (c.readErr == nil || c.readErr == io.EOF) {
		c.readErr = errno
	}
	return errno
}
