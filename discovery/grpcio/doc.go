// Package grpcio is a gRPC client of little more than net/http, which is in the program already: calls with one answer and streams both ways, of
// messages that are bytes. What the bytes mean is the caller's matter (google.golang.org/protobuf/encoding/protowire reads and
// writes them); so are retries and the choice among servers. It costs nothing until its first call, and grpc-go, which would do
// the same, costs every sidecar megabytes.
//
// The protocol is https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md. Not done: compression, which is never
// offered; name resolution and balancing beyond what the dialer does.
package grpcio
