package proxytest

import (
	"net"
	"testing"
)

// Two processes, which two ports are here, are never given the same address, and neither is given one that is in use.
func TestPorts(t *testing.T) {
	var a, b ports
	seen := make(map[string]bool)
	for range 50 {
		for _, p := range []*ports{&a, &b} {
			addr, err := p.addr()
			if err != nil || seen[addr] {
				t.Fatalf("got %s, %v, after %d others", addr, err, len(seen))
			}
			seen[addr] = true
		}
	}
	defer a.claim.Close()
	defer b.claim.Close()
	next := loopback(a.first + 1 + a.given)
	if held, err := net.Listen("tcp", next); err == nil { // else somebody else listens there
		defer held.Close()
	}
	if addr, err := a.addr(); err != nil || addr == next {
		t.Errorf("got %s, %v, which somebody listens on", addr, err)
	}
}
