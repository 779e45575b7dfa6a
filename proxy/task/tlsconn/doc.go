// Package tlsconn puts crypto/tls on a shard. The handshake runs on an ordinary goroutine over the blocking net.Conn (Client,
// Server); then a shard adopts the descriptor (Attach) and the Conn that results reads, pushes and closes like a
// task.Conn.
//
//	h, err := tlsconn.Client(ctx, raw, config) // on an ordinary goroutine
//	s.Post(func() {
//		c, err := h.Attach(s)
//		...
//	})
//
// # How crypto/tls stays out of the way
//
// tls.Conn sits on a wire, a small net.Conn of ours. What tls.Conn writes, wire only collects; it goes to task.Conn.Push once
// tls.Conn has let go of its write lock. So sealing never waits, several records leave in one send, and whatever a read
// makes tls.Conn write (the answer to a KeyUpdate, an alert) leaves before that read waits again.
//
// What tls.Conn reads comes straight from the task.Conn into tls.Conn's own buffer, and this may park the reading task. It then holds
// tls.Conn's read lock, which is harmless: there is one reader, and nothing else here takes that lock. A passed deadline is a
// temporary net.Error, after which tls.Conn can be read again, even in the middle of a record.
//
// # What a peer can and cannot do
//
// io.EOF means that the peer said close_notify; a connection that just ends is io.ErrUnexpectedEOF. KeyUpdate and session tickets are
// dealt with unseen. There is no renegotiation.
package tlsconn
