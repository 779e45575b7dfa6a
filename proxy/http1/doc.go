// Package http1 is the HTTP/1.0 and HTTP/1.1 codec (RFC 9112), both roles: Server turns the bytes of an app's
// connection into Exchanges for a proxy.RoundTripper, ClientConn carries Exchanges out over one connection to an app.
//
// It keeps the order and the case of fields, removes those that belong to one hop (RFC 9110 section 7.6.1), and
// forwards every part of a message as it comes. What it does not do: choose where a request goes, keep a pool of
// connections, repeat a request, or give up after a time of its own; callers do.
//
// # Strict reading
//
// Where two readers of one message could disagree about where it ends, the message is refused and its
// connection closed: see readHead, parseFields, framing and decoder. Each rule stands beside its sentence of the RFC.
//
// # Memory
//
// The head of a message is copied once into memory that the exchange (server) or the connection (client) keeps, and
// the strings of the message point there. A buffer of the shard's pool is held only while it has unread bytes in it or is
// being filled; an exchange that waits holds its head and no more.
//
// A shard remembers lines that recur (Memory): those are compared, not read, checked or copied again, and strings of a message point to
// what is remembered.
//
// # Tasks
//
// A Server serves a connection in one task. A ClientConn starts a second one only for a request body that
// has not wholly arrived when its head is sent.
package http1
