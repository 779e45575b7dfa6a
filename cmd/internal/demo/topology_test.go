package demo

import (
	"net/netip"
	"testing"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
)

// TestTopology: pillion accepts the files that the demo writes, without a warning, and all ports differ.
func TestTopology(t *testing.T) {
	top := &topology{addr: make(map[string]netip.AddrPort), dir: t.TempDir()}
	if err := top.choosePorts(); err != nil {
		t.Fatal(err)
	}
	for app, uses := range sockets {
		for i, use := range uses {
			top.addr[app+" "+use] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(40000+10*len(app)+i))
		}
	}
	top.addr[billing+" datagrams"] = netip.MustParseAddrPort("127.0.0.1:39999")
	seen := make(map[netip.AddrPort]string)
	for name, addr := range top.addr {
		if other, ok := seen[addr]; ok {
			t.Errorf("%s and %s are both %v", name, other, addr)
		}
		seen[addr] = name
	}
	files, err := top.write()
	if err != nil {
		t.Fatal(err)
	}
	for app, file := range files {
		c, err := config.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Warnings) > 0 {
			t.Errorf("%s: %v", app, c.Warnings)
		}
	}
}
