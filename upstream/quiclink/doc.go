// Package quiclink makes Links over QUIC: HTTP/3 inside TLS 1.3, both sides authenticated, from one UDP socket. An Exchange travels as a
// request, a Stream as classic CONNECT (RFC 9114 section 4.4), so that any HTTP/3 server of the mesh can be at the other end.
//
// QUIC runs on ordinary goroutines. A Link of a loop's shard is used through proxy/bridge; its HTTP/3 lives on a shard of the
// goroutine runtime. Nothing is opened before the first dial.
//
// # The path
//
// QUIC finds out the largest packet that the path takes, starting at 1200 bytes (RFC 8899). A Link that has sent and heard nothing for a while is suspect: it
// takes no new requests, so that they go another way, and tries another local port, and with it whatever address and route the system has by now
// (RFC 9000 section 9). If the peer is heard there, the Link goes on with every stream intact. If nothing is heard for Config.DeadAfter it ends.
//
// # Early data
//
// With Config.EarlyData a Link to a peer that it had before carries requests in its first packet (0-RTT), which an attacker may replay. So only requests without content whose
// method is safe (RFC 9110 section 9.2.1) go there, everything else waits for the handshake; and 425 (Too Early) means that the request is sent
// once more after it (RFC 8470).
package quiclink
