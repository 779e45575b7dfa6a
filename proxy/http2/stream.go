package http2

import (
	"io"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// stream is one HTTP/2 stream, in either role. Its states (RFC 9113 section 5.1) are three flags:
//
//	open                  !inEnd, !outEnd
//	half-closed (remote)   inEnd, !outEnd   the peer has sent END_STREAM
//	half-closed (local)   !inEnd,  outEnd   we have
//	closed                 over             by both, or by end with an error; no longer in Conn.streams
//
// A stream object is used again once its owner has released it: the task of a server's stream when it returns,
// Response.Close for a client's. Whoever could still hold it then (a request's Body) has a handle with
// the stream's generation.
type stream struct {
	// Static after construction: whoever is late may still look at these.

	c        *Conn
	recvGate task.Gate
	sendGate task.Gate

	use

	// Static after construction.

	run    func()
	inform func(int, proxy.Fields)
	pump   func()

	// Owned by the task of a server's stream.

	req    proxy.Request
	resp   proxy.Response
	cancel proxy.Cancel
	parent [parentLen]byte // the value of a field of req, see headDecoder.own
}

// use is what belongs to one use of a stream object. All fields are guarded by the shard's lock. What every exchange needs stands first.
type use struct {
	id uint32

	inEnd, outEnd bool
	over          bool
	headDone      bool // the final head is there; a further HEADERS frame has trailers
	noBody        bool // DATA with content would be wrong: answers to HEAD, 204, 304
	discard       bool // what still comes is not wanted
	bodyless      bool // client: the head of the answer ended the stream
	asks          bool // client: the request asks for a Stream
	upgrade       bool // client: by extended CONNECT
	pumping       bool // client: a second task sends the body
	expects       bool // client: 100 (Continue) is waited for
	goAhead       bool // client: it has come
	left          bool // server: serve has returned
	noReuse       bool // server: not even then
	headSent      bool // server
	expecting     bool // server: 100 (Continue) is owed to the client
	tunnel        bool
	called        bool // taken out of Conn.heads and woken
	pendEnd       bool // END_STREAM after pend

	gen      uint64 // counts the uses of the object
	waiting  int    // tasks in a wait; with one, the object cannot be used again
	sendWin  int64
	recvWin  int64 // what the peer may still send
	window   int64 // what it may send beyond what has been read: initial, and by how much that has grown
	initial  int64 // the initial window that recvWin started from
	inLength int64 // declared content-length, or proxy.Unknown
	inBytes  int64
	buffered int            // bytes in chunks
	chunks   []*task.Buffer // data not yet read, oldest first
	err      error          // why it is over; nil after END_STREAM both ways
	queue    *sendQueue
	pend     []byte // what a waiting writer still has to send
	sent     int64  // bytes of DATA

	// Of the answer that a client gets, and the request that it sent.

	watched  *proxy.Cancel // where this stream is registered
	deadline task.Instant
	openedAt uint64 // Conn.pushes when the head was written
	status   int
	reason   string
	names    proxy.Names
	took     time.Duration // as the peer says
	appTook  time.Duration
	fields   proxy.Fields
	informs  []informed
	body     proxy.Body // of the request, for pump
	bodyLen  int64

	// What some need.

	want     []byte // where a waiting reader wants its bytes
	wanted   int    // how many it got
	trailers proxy.Fields
	creditAt task.Instant // when window was last returned
	stalled  task.Instant // since when pend waits for sendWin; 0 while it does not
	next     *stream      // in queue
}

// informed is a 1xx answer on its way to RoundTrip.
type informed struct {
	status int
	fields proxy.Fields
}

// read waits for st's data until deadline. It is Read of all that stands for a stream. Only under the lock is it known whether st
// is still used for what the caller means.
func (c *Conn) read(st *stream, p []byte, deadline task.Instant, gen uint64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.s.Lock()
	defer c.unlock()
	if st.gen != gen {
		return 0, task.ErrClosed
	}
	for {
		if n := st.wanted; n > 0 {
			st.wanted = 0
			return n, nil
		}
		if st.buffered > 0 {
			return c.take(st, p), nil
		}
		if err := st.ended(); err != nil {
			return 0, err
		}
		if st.expecting {
			c.sayContinue(st)
		}
		st.want = p
		ok := c.wait(st, &st.recvGate, deadline)
		st.want = nil
		if !ok && st.wanted == 0 && st.buffered == 0 {
			c.end(st, errDeadline, ErrCancel, tell)
		}
	}
}

// ended returns what a reader without data gets, nil if it has to wait.
func (st *stream) ended() error {
	switch {
	case st.over && st.err != nil:
		return st.err
	case st.discard:
		return task.ErrClosed
	case st.inEnd:
		return io.EOF
	case st.over:
		return task.ErrClosed
	}
	return nil
}

// waitReadable waits until read would not wait.
func (c *Conn) waitReadable(st *stream, deadline task.Instant, gen uint64) error {
	c.s.Lock()
	defer c.unlock()
	if st.gen != gen {
		return task.ErrClosed
	}
	for st.buffered == 0 && st.wanted == 0 {
		if err := st.ended(); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		if st.expecting {
			c.sayContinue(st)
		}
		if !c.wait(st, &st.recvGate, deadline) {
			c.end(st, errDeadline, ErrCancel, tell)
		}
	}
	return nil
}

// available is Buffered of a Body. The lock is held.
func (st *stream) available() int {
	if st.buffered == 0 && st.inEnd && st.err == nil && !st.discard {
		return -1
	}
	return st.buffered
}

// tunnelStream is the proxy.Stream over a stream. It is not used again.
type tunnelStream struct {
	st    *stream
	reset ErrCode // for Reset
}

// Read waits for bytes; io.EOF after END_STREAM.
func (t *tunnelStream) Read(p []byte) (int, error) { return t.st.c.read(t.st, p, 0, t.st.gen) }

// WaitReadable waits until Read would not wait.
func (t *tunnelStream) WaitReadable() error { return t.st.c.waitReadable(t.st, 0, t.st.gen) }

// Write waits until all of p is in the connection's buffer.
func (t *tunnelStream) Write(p []byte) (int, error) { return t.st.c.send(t.st, p, false, 0) }

// CloseWrite sends END_STREAM.
func (t *tunnelStream) CloseWrite() error {
	_, err := t.st.c.send(t.st, nil, true, 0)
	return err
}

// Close releases the Stream, and resets it if a direction is still open.
func (t *tunnelStream) Close() error {
	t.end(task.ErrClosed, ErrCancel)
	return nil
}

// Reset sends RST_STREAM.
func (t *tunnelStream) Reset() error {
	t.end(task.ErrClosed, t.reset)
	return nil
}

func (t *tunnelStream) end(err error, code ErrCode) {
	c := t.st.c
	c.s.Lock()
	c.end(t.st, err, code, tell)
	c.dropChunks(t.st)
	c.topUp()
	c.unlock()
}
