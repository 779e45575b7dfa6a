package load

import (
	"errors"
	"fmt"
	"time"
)

// conn is one connection, or several one after the other in the same place. It belongs to its worker.
//
//	closed → dialling → opening (the wire says its preface) → open → closed
type conn struct {
	w      *worker
	wire   wire
	state  connState
	life   uint64 // counts connections of this place: what a former one left in the worker's ring is void
	useful bool   // this connection has brought an answer

	out     []byte // gathered, not yet written
	written int    // of out
	blocked bool   // the network takes no more for now
	dirty   bool   // it is in the worker's list

	sock sock // the network's
}

type connState int

const (
	closed connState = iota
	dialling
	opening
	open
)

// wire is what one protocol says on a connection: it makes requests and finds the ends of answers, which it tells
// by conn.answer, conn.lastAnswer and conn.failed.
type wire interface {
	// open begins a new connection with what is said first, and reports whether requests may follow at once; else
	// feed calls conn.ready.
	open(c *conn) bool
	// places is the number of requests that may be under way on a connection that is ready.
	places() int
	// send appends a request to c.out, or keeps it until it may be sent.
	send(c *conn, due instant)
	// feed takes bytes that arrived now. p is valid during the call only. After an error the connection is lost.
	feed(c *conn, p []byte, now instant) error
	// end is called when the connection has ended, for cause. What was under way has failed for it, unless the end was the end of an answer.
	end(c *conn, now instant, cause error)
	// unfinished calls f for each request under way.
	unfinished(f func(due instant))
}

// newWire returns the wire of a protocol, nil if there is none of that name.
func newWire(c *Config) wire {
	switch c.Protocol {
	case HTTP1, HTTPBulk, NewConn:
		return newHTTP1(c)
	case H2C, GRPC:
		return newH2(c)
	case TCPEcho, UDPEcho, UDPFlows:
		return newEcho(c)
	case WebSocket:
		return newWebSocket(c)
	case TCPBulk:
		return &bulk{}
	}
	return nil
}

var errCut = errors.New("the connection closed before the answer was whole")

// brief reports whether connections last for one request only.
func (c *conn) brief() bool { return c.w.r.cfg.Protocol == NewConn || c.w.r.cfg.Protocol == UDPFlows }

// offer makes the places of c known at the beginning of the schedule.
func (c *conn) offer() {
	if c.brief() {
		c.w.offered(c)
	} else if c.state == open {
		c.ready()
	}
}

// again makes the places of c known once more, after a pause.
func (c *conn) again() {
	if c.brief() {
		c.w.offered(c)
	} else if c.state == closed {
		c.dial()
	}
}

// dial begins to connect.
func (c *conn) dial() {
	c.state = dialling
	if err := c.w.net.dial(c); err != nil {
		c.lost(c.w.r.now(), fmt.Errorf("connect to %v: %w", c.w.r.addr, err))
	}
}

// connected is called by the network once the connection stands.
func (c *conn) connected() {
	c.state = opening
	if c.wire.open(c) {
		c.ready()
	}
	c.touch()
}

// ready is called once requests may be sent.
func (c *conn) ready() {
	c.state = open
	switch c.w.state {
	case connecting:
		c.w.opened++
	case loading, draining:
		for range c.wire.places() {
			if !c.brief() {
				c.w.offered(c)
			}
		}
	}
}

// send sends a request, or begins to.
func (c *conn) send(due instant) {
	c.w.pending++
	c.wire.send(c, due)
	if c.brief() {
		c.dial() // what was gathered goes out when the connection stands
		return
	}
	c.touch()
}

// touch has c flushed soon.
func (c *conn) touch() {
	if !c.dirty {
		c.dirty = true
		c.w.dirty = append(c.w.dirty, c)
	}
}

// flush writes what was gathered.
func (c *conn) flush() {
	if c.state < opening || c.blocked || c.written == len(c.out) {
		return
	}
	n, err := c.w.net.write(c, c.out[c.written:])
	if err != nil {
		c.lost(c.w.r.now(), err)
		return
	}
	if c.written += n; c.written < len(c.out) {
		c.blocked = true
		return
	}
	c.out, c.written = c.out[:0], 0
}

// writable is called by the network when it takes more.
func (c *conn) writable() {
	c.blocked = false
	c.flush()
}

// received is called by the network with bytes that have just arrived.
func (c *conn) received(p []byte) {
	now := c.w.r.now()
	c.w.received(len(p), now)
	if err := c.wire.feed(c, p, now); err != nil {
		c.lost(now, err)
	}
}

// answer counts the answer to the request that was due then; its place is free again.
func (c *conn) answer(due, now instant, failure error) {
	c.useful = true
	c.w.answered(due, now, failure)
	if c.brief() {
		c.drop()
	}
	c.w.offered(c)
}

// lastAnswer is answer for one after which the connection takes no more requests.
func (c *conn) lastAnswer(due, now instant, failure error) {
	if c.brief() {
		c.answer(due, now, failure)
		return
	}
	c.w.answered(due, now, failure)
	c.replace()
}

// replace closes a connection that takes no more requests and makes another.
func (c *conn) replace() {
	c.drop()
	c.w.reconnect(c, 0)
}

// failed counts a request that is lost with its connection.
func (c *conn) failed(due, now instant, cause error) { c.w.answered(due, now, cause) }

// lost is called when the connection has ended: by the network (errCut for an orderly end), or because it makes no sense any more.
func (c *conn) lost(now instant, cause error) {
	if c.w.state == connecting {
		c.w.err = cause
		if cause == errCut {
			c.w.err = fmt.Errorf("%v closed a connection before anything was sent, when %d stood", c.w.r.addr, c.w.opened)
		}
		c.drop()
		return
	}
	life := c.life
	c.wire.end(c, now, cause)
	if c.life != life {
		return // its end was an answer's
	}
	pause := retryAfter
	if c.useful {
		pause = 0
	}
	c.drop()
	c.w.reconnect(c, pause)
}

// drop closes the connection, if there is one, and forgets what belongs to it.
func (c *conn) drop() {
	if c.state != closed {
		c.w.net.close(c)
	}
	c.state, c.useful, c.blocked = closed, false, false
	c.out, c.written = c.out[:0], 0
	c.life++
}

// close ends the connection for good.
func (c *conn) close() { c.drop() }

// reconnect has c dialled again, after a pause if its connection was of no use: a target that refuses all is not to be stormed.
func (w *worker) reconnect(c *conn, pause time.Duration) {
	if w.state == loading && int64(w.r.now()) >= w.begin.Load() && !c.brief() {
		w.tally.reconnects++
	}
	w.retries = append(w.retries, retry{w.r.now() + instant(pause), c})
}
