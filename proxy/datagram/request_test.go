package datagram

import (
	"net/netip"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
)

// RFC 9298 section 2: "all colons (':') MUST be percent-encoded"; its examples.
func TestPath(t *testing.T) {
	for _, c := range []struct {
		host string
		port uint16
		want string
	}{
		{"192.0.2.6", 443, "/.well-known/masque/udp/192.0.2.6/443/"},
		{"2001:db8::42", 443, "/.well-known/masque/udp/2001%3Adb8%3A%3A42/443/"},
		{"orders_1.shop-x", 0, "/.well-known/masque/udp/orders_1.shop-x/0/"},
	} {
		if got := Path(c.host, c.port); got != c.want {
			t.Errorf("Path(%q, %d) = %q, want %q", c.host, c.port, got, c.want)
		}
		if host, port, err := Target(c.want); err != nil || host != c.host || port != c.port {
			t.Errorf("Target(%q) = %q, %d, %v", c.want, host, port, err)
		}
	}
	for _, path := range []string{"", "/", "/.well-known/masque/udp/", "/.well-known/masque/udp/a/53", "/.well-known/masque/udp/a/53/x", "/.well-known/masque/udp//53/",
		"/.well-known/masque/udp/a/65536/", "/.well-known/masque/udp/a/-1/", "/.well-known/masque/udp/a/53/?x", "/.well-known/masque/udp/fe80%3A%3A1%25eth0/53/",
		"/.well-known/masque/udp/%5B::1%5D/53/", "/.well-known/masque/udp/%zz/53/", "/.well-known/masque/ip/a/53/", "/.well-known/masque/udp/a%0Ab/53/"} {
		if host, port, err := Target(path); err == nil {
			t.Errorf("Target(%q) = %q, %d; want an error", path, host, port)
		}
	}
}

func FuzzTarget(f *testing.F) {
	f.Fuzz(func(t *testing.T, path string) {
		host, port, err := Target(path)
		if err != nil {
			return
		}
		if h, p, err := Target(Path(host, port)); err != nil || h != host || p != port {
			t.Errorf("%q is %q, %d, which comes back as %q, %d, %v", path, host, port, h, p, err)
		}
	})
}

func TestRequest(t *testing.T) {
	client := netip.MustParseAddrPort("[2001:db8::1]:53")
	req := NewRequest(nil, proxy.Service{Name: "dns", Port: 53}, client)
	if req.Fields.Get(CapsuleField) != "?1" || req.Upgrade != proxy.ConnectUDP || req.Path != "/.well-known/masque/udp/dns/53/" || req.Client != client {
		t.Errorf("got %+v", req)
	}
}
