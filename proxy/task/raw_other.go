//go:build !unix

package task

import "net"

// rawConn does not exist here: connections are watched by reading a byte ahead.
type rawConn struct{}

func newRawConn(net.Conn) *rawConn { return nil }

func (*rawConn) awaitReadable() error { return nil }

func (*rawConn) send([]byte) (int, error) { return 0, nil }
