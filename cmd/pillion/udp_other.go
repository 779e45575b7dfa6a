//go:build !linux

package main

import "net"

// setBuffers asks for buffers of size bytes, and believes that they are.
func setBuffers(c *net.UDPConn, size int) (receive, send int) {
	if c.SetReadBuffer(size) != nil || c.SetWriteBuffer(size) != nil {
		return 0, 0
	}
	return size, size
}
