package app

import (
	"io"
	"net"
)

// NewEcho sends back what it receives.
func NewEcho() (*Server, error) {
	return newServer(func(c net.Conn) { echoTo(c, c) })
}

// echoTo writes what comes from r, which reads from c.
func echoTo(c net.Conn, r io.Reader) {
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

// NewSource sends bytes without end to whoever connects.
func NewSource() (*Server, error) {
	return newServer(func(c net.Conn) {
		for {
			if _, err := c.Write(chunk()); err != nil {
				return
			}
		}
	})
}
