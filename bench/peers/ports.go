package peers

import (
	"errors"
	"fmt"
	"net"
	"os"
)

// ports hands out addresses of loopback that nobody uses, below the ports that outgoing connections get.
type ports struct{ next int }

// take returns an address free for TCP and UDP: a sidecar's peer port has both.
func (p *ports) take() (string, error) {
	if p.next == 0 {
		p.next = 21000 + os.Getpid()%8000
	}
	for ; p.next < 32000; p.next++ {
		addr := fmt.Sprintf("127.0.0.1:%d", p.next)
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		ln.Close()
		u, err := net.ListenPacket("udp", addr)
		if err != nil {
			continue
		}
		u.Close()
		p.next++
		return addr, nil
	}
	return "", errors.New("no free port")
}
