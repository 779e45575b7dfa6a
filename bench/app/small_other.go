//go:build !linux

package app

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
)

// Small is an ordinary Server here.
type Small = Server

// NewSmall answers every HTTP/1.1 request that has no body with the same size bytes, at most 64 KiB.
func NewSmall(size int) (*Small, error) {
	return newSmall(size, "")
}

// NewSmallFresh is NewSmall, whose answers may be kept for an hour.
func NewSmallFresh(size int) (*Small, error) {
	return newSmall(size, fresh)
}

func newSmall(size int, more string) (*Small, error) {
	serve, err := serveSmall(size, more)
	if err != nil {
		return nil, err
	}
	return newServer(serve)
}

// NewSmallUnix is NewSmall on a Unix socket, which it makes at path.
func NewSmallUnix(path string, size int) (*Small, error) {
	serve, err := serveSmall(size, "")
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return newServerOn(ln, serve), nil
}

// serveSmall returns what answers on one connection.
func serveSmall(size int, more string) (func(net.Conn), error) {
	if size < 0 || size > 64<<10 {
		return nil, fmt.Errorf("an answer of %d bytes: want 0 to 64 KiB", size)
	}
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\n%sContent-Length: %d\r\n\r\n", more, size)
	answer = append(answer, chunk()[:size]...)
	return func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(bytes.TrimSpace(line)) > 0 {
				continue
			}
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	}, nil
}
