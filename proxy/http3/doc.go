// Package http3 is the HTTP/3 codec (RFC 9114), in both roles: streams of a QUIC connection become Exchanges and Streams
// and the other way round. It runs on quic-go's connections and on the goroutine runtime of proxy/task only.
//
// # Usage
//
// NewServer or NewClient makes a Conn over a QUIC connection, which Config.QUIC has helped to set up. One task runs Serve, until the
// connection is over. A server Conn runs its Handler in a task per request; a client Conn is a proxy.RoundTripper. Who made the
// Conn ends it, with Shutdown or Close, before the runtime stops.
//
// # Who owns what
//
// conn.go has the connection, conn_control.go the unidirectional streams and SETTINGS, conn_close.go every end: of a stream (end, the only
// place where one is torn down) and of the connection (fail, Shutdown, Close), conn_limits.go what a peer may do how often.
// stream.go is one request's stream, stream_read.go its frames in, stream_write.go its frames out, server.go and client.go the two
// roles, begin.go what a client may do on a loop, tunnel.go the Stream over a stream, qpack.go field sections. What heads may hold is checked by proxy/head.
//
// # Waiting for a stream
//
// RoundTrip never waits for a free stream: where Available is 0 it returns proxy.ErrNoStream, and the caller takes another connection or
// waits for Config.OnChange. QUIC does not say how many streams the peer would take, so Available is exact only once it is 0.
//
// # Before the handshake is complete
//
// A request that comes before the handshake is complete (RFC 8470) reaches Handler with the field Early-Data: 1. What to do
// with it is Handler's matter, as is what a client sends so early its caller's.
//
// # Between two pillions
//
// Setting 0xf1c0 with value 1 says that the sender is a pillion. Once an end has both sent and received it, it writes heads as package head
// has them "between two pillions".
//
// # Limitations
//
// No server push, no QPACK dynamic table, no priorities (RFC 9218: PRIORITY_UPDATE is ignored).
package http3
