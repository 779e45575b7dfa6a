package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

// TestSOCKSToAddresses: a client of SOCKS that has looked up a name by itself reaches the service of which that is an address.
func TestSOCKSToAddresses(t *testing.T) {
	p := startPair(t, http.NotFoundHandler())
	local := netip.MustParseAddrPort(p.echo)
	for what, x := range map[string]struct {
		to    netip.AddrPort
		reply byte
	}{
		"the service's own port":       {local, 0},
		"the machine of two services":  {netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 7), 4},
		"an address that is no one's":  {netip.MustParseAddrPort("127.0.0.2:7"), 4},
		"the admin port of a sidecar":  {netip.MustParseAddrPort(p.adminA), 4},
		"the outbound port of itself":  {netip.MustParseAddrPort(p.outbound), 4},
		"an address of the other kind": {netip.MustParseAddrPort("[::1]:7"), 4},
	} {
		c, err := net.Dial("tcp", p.outbound)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(30 * time.Second))
		say := []byte("\x05\x01\x00\x05\x01\x00\x01")
		if x.to.Addr().Is6() {
			say[6] = 4
		}
		say = append(say, x.to.Addr().AsSlice()...)
		if _, err := c.Write(binary.BigEndian.AppendUint16(say, x.to.Port())); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(c)
		head := make([]byte, 12)
		if _, err := io.ReadFull(r, head); err != nil || head[3] != x.reply {
			t.Errorf("%s: got %q, %v, want reply %d", what, head, err, x.reply)
			continue
		}
		if x.reply != 0 {
			continue
		}
		if line, err := r.ReadString('\n'); line != "hello\n" {
			t.Errorf("%s: got %q, %v, want the greeting of the app", what, line, err)
		}
	}
}
