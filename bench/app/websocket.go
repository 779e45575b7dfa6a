package app

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/pillion-proxy/pillion/bench/load"
)

// NewWebSocket agrees to every WebSocket, and sends back what comes then, frame headers and masks included.
func NewWebSocket() (*Server, error) {
	return newServer(func(c net.Conn) {
		r := bufio.NewReader(c)
		key := ""
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "Sec-WebSocket-Key") {
				key = strings.TrimSpace(value)
			}
			if line == "\r\n" {
				break
			}
		}
		if key == "" {
			_, _ = io.WriteString(c, "HTTP/1.1 426 Upgrade Required\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			return
		}
		_, err := fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n", load.WebSocketAccept(key))
		if err != nil {
			return
		}
		echoTo(c, r)
	})
}
