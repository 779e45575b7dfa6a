package http3

import (
	"sync"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/head"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/quic-go/quic-go"
)

// stream is one request's stream, in either role. Its states are three flags:
//
//	open                  !inEnd, !outEnd
//	half-closed (remote)   inEnd, !outEnd   the peer has ended its half, and all of that was read
//	half-closed (local)   !inEnd,  outEnd   we have ended ours
//	closed                 over             both, or by end with an error; no longer in Conn.streams
//
// It serves one request.
type stream struct {
	// Static after construction.

	c     *Conn
	q     *quic.Stream
	id    quic.StreamID
	early bool // server: it came before the handshake was complete

	// Owned by who reads: the task that waits for a head, then, under reading, readers of content.

	reading  sync.Mutex
	in       reader
	head     head.Decoder
	inLength int64 // declared content-length, or proxy.Unknown
	inBytes  int64
	trailing bool // the trailers are there
	whole    bool // the message has been read to its end
	trailers proxy.Fields
	noBody   bool // content would be wrong: answers to HEAD, 204, 304
	tunnel   bool // nothing but DATA comes from now on

	// Owned by who writes; on a server, where heads may come from two tasks, guarded by writing.

	writing   sync.Mutex
	headSent  bool
	expecting bool // server: 100 (Continue) is owed to the client

	// Guarded by Conn.mu.

	inEnd, outEnd bool
	unwanted      bool // server: the handler wants no more of the content; what it answers stands
	over          bool
	err           error    // why it is over; nil after both halves ended in order
	left          bool     // server: serve has returned
	flow          *flow    // nil unless the request asks for one; never changed once known is set
	known         bool     // what the request asks for
	ahead         [][]byte // datagrams that came before

	// Server.

	cancel proxy.Cancel
	req    proxy.Request
	resp   proxy.Response

	// Client.

	watched  *proxy.Cancel // where this stream is registered
	asks     bool          // the request asks for a Stream
	upgrade  bool          // by extended CONNECT
	unsent   []byte        // of a request that Begin could not send whole
	goAhead  chan struct{} // closed by 100 (Continue), the final head or the end; nil if nobody waits
	released bool          // it has been; guarded by Conn.mu
}

func (c *Conn) newStream(q *quic.Stream) *stream {
	return &stream{c: c, q: q, id: q.StreamID(), in: reader{q: q, spare: &c.heads}, inLength: proxy.Unknown}
}

// release lets a body go that waits for 100 (Continue). Conn.mu is held.
func (st *stream) release() {
	if st.goAhead != nil && !st.released {
		st.released = true
		close(st.goAhead)
	}
}

// ended returns the error of a stream that is over.
func (st *stream) ended() error {
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !st.over {
		return nil
	}
	if st.err != nil {
		return st.err
	}
	return task.ErrClosed
}
