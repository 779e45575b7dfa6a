package proxytest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// The ports that Addr gives out lie below those that outgoing connections get. They belong to blocks, of which a process takes one for as long as
// it lives, by listening on the first port of the block: no other process that asks Addr is given one of the same.
const (
	firstPort  = 10_000
	portBlock  = 500
	portBlocks = 40
)

// ports is what Addr remembers.
type ports struct {
	mu    sync.Mutex
	claim net.Listener // on the block's first port; nil before there is a block
	first int
	given int // of the block's other ports, those in use skipped
}

var processPorts ports

// Addr returns an address of loopback on which nobody listens, by TCP or UDP, and which it has given to nobody else lately: for what is told where
// to listen before it does.
func Addr(t testing.TB) string {
	t.Helper()
	addr, err := processPorts.addr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

func (p *ports) addr() (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.takeBlock(); err != nil {
		return "", err
	}
	var last error
	for range portBlock {
		addr := loopback(p.first + 1 + p.given%(portBlock-1))
		p.given++
		if last = unused(addr); last == nil {
			return addr, nil
		}
	}
	return "", fmt.Errorf("no port is free: %w", last)
}

func (p *ports) takeBlock() error {
	if p.claim != nil {
		return nil
	}
	var last error
	for _, i := range rand.Perm(portBlocks) {
		p.first = firstPort + i*portBlock
		if p.claim, last = net.Listen("tcp", loopback(p.first)); last == nil {
			return nil
		}
	}
	p.claim = nil
	return fmt.Errorf("no block of ports is free: %w", last)
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// unused reports why addr is not free.
func unused(addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	ln.Close()
	nc, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	return nc.Close()
}
