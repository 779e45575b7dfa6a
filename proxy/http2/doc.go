// Package http2 is the HTTP/2 codec (RFC 9113), in both roles: bytes of a connection become Exchanges and Streams
// and the other way round. It runs on proxy/task; of header compression, Huffman coding is x/net's hpack.
//
// # Usage
//
// NewServer or NewClient makes a Conn over a Transport (a task.Conn for h2c, or a TLS connection). One task
// runs Serve, which reads until the connection is over. A server Conn runs its Handler in a task per
// stream; a client Conn is a proxy.RoundTripper. A Conn lives on one shard for life, its state under the shard's lock.
//
// # Who owns what
//
// conn.go has the connection and its reader loop, conn_frames.go what each frame means, conn_send.go the order in
// which streams send, conn_recv.go buffered data, conn_window.go how much the peer may send, conn_close.go every end: of a stream (end, the only
// place where a stream is torn down) and of the connection (fail, Shutdown, Close), conn_limits.go what a
// peer may do how often, conn_alive.go PING and idleness. stream.go is one stream's memory, server.go and client.go
// the two roles. head_encode.go, head_decode.go and head_check.go turn messages into header blocks and back, hpack_decode.go and hpack_table.go are the decoder of RFC 7541.
//
// # Sending
//
// All frames of a turn are appended to one buffer that one Batch pushes at the end of the turn, or at 64 KiB. A Write that
// fits the windows goes there at once. What does not waits in its writer's own memory: the flush takes
// turns of 16 KiB between waiting streams, small answers first, and stops while the Transport has a queue. Control
// frames go to the buffer at once, whatever waits.
//
// # Receiving
//
// Received data stays in pooled chunks until it is read. A stream's window is returned as it is read, the connection's as data arrives
// while no more than a quarter of Config.ConnWindow is unread, and beyond that as data is read. A window that is used up by half within one
// round trip, while the reader keeps up, is doubled (conn_window.go). Where more than half of ConnWindow is unread, because readers
// stall, SETTINGS make all streams' windows small, so that a stream whose reader stalls holds back nobody but itself, however many there are. A Conn
// holds at most twice ConnWindow while no window has grown, and never more than Config.MaxHeld.
//
// # Waiting for a stream
//
// RoundTrip never waits for a free stream: where Available is 0 it returns proxy.ErrNoStream, and the caller
// takes another Link or waits for Config.OnChange.
//
// # Between two pillions
//
// SETTINGS 0xf1c0 (from the range for experiments, RFC 9113 section 11.3) with value 1 says that the sender is a pillion.
// Once an end has both sent and received it, it writes field names in the case and order in which it got them, keeps the Host
// line in its place beside :authority, and carries an HTTP/1 reason phrase that is not customary as a field named
// ":reason" after :status. A 2xx to extended CONNECT or CONNECT that is an ordinary answer and no agreement, as of an app that passed over
// an Upgrade, carries ":declined"; for any other client it becomes 501. A client does so only after it saw the server's SETTINGS. From any
// other peer an upper-case name makes the message malformed.
//
// # Limitations
//
// No server push, no priorities (RFC 9113 section 5.3.1: PRIORITY is parsed and ignored). Sec-WebSocket-Key and -Accept pass
// through extended CONNECT between pillions, and are left out otherwise.
package http2
