package discovery

import (
	"net/netip"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
)

func TestNormal(t *testing.T) {
	given := append(set(3, 1, 2), set(1)...)
	given[3].Weight = 9
	before := names(given)
	got := Normal(given)
	if names(got) != "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80" || got[0].Weight != 0 {
		t.Errorf("Normal = %s, first weight %d; want them in order, the first of the two 10.0.0.1", names(got), got[0].Weight)
	}
	if names(given) != before {
		t.Errorf("Normal changed its argument to %s", names(given))
	}
}

func TestSenderSkipsTheSame(t *testing.T) {
	var s Sender
	var got []string
	update := func(set []proxy.Endpoint) { got = append(got, names(set)) }
	for _, x := range [][]proxy.Endpoint{nil, set(), set(2, 1), set(1, 2), set(1), set(1), nil} {
		s.Send(x, update)
	}
	if len(got) != 4 || got[0] != "" || got[1] != "10.0.0.1:80 10.0.0.2:80" || got[2] != "10.0.0.1:80" || got[3] != "" {
		t.Errorf("sent %q; want none, two, one, none", got)
	}
}

func TestDefaults(t *testing.T) {
	d := Defaults{Port: 15008, Identity: "spiffe://example.org/orders", Mesh: true, Zone: "a"}
	for _, c := range []struct {
		addr string
		want string
	}{{"10.0.0.1:0", "10.0.0.1:15008"}, {"10.0.0.1:99", "10.0.0.1:99"}, {"[::ffff:10.0.0.1]:1", "10.0.0.1:1"}, {"[2001:db8::1]:0", "[2001:db8::1]:15008"}} {
		e := d.Endpoint(netip.MustParseAddrPort(c.addr))
		if e.String() != c.want || e.Identity != d.Identity || !e.Mesh || e.Zone != "a" {
			t.Errorf("Endpoint(%s) = %+v, want %s with the defaults", c.addr, e, c.want)
		}
	}
	if e := (Defaults{Identity: "spiffe://example.org/orders"}).Endpoint(netip.MustParseAddrPort("10.0.0.1:1")); e.Identity != "" {
		t.Errorf("an endpoint outside the mesh has identity %q, want none", e.Identity)
	}
}

func TestCheck(t *testing.T) {
	addr := netip.MustParseAddrPort("10.0.0.1:80")
	for _, c := range []struct {
		e  proxy.Endpoint
		ok bool
	}{
		{proxy.Endpoint{Addr: addr}, true},
		{proxy.Endpoint{Unix: "/run/x.sock"}, true},
		{proxy.Endpoint{Addr: addr, Mesh: true, Identity: "spiffe://example.org/a"}, true},
		{proxy.Endpoint{}, false},
		{proxy.Endpoint{Addr: netip.MustParseAddrPort("10.0.0.1:0")}, false},
		{proxy.Endpoint{Addr: addr, Unix: "/run/x.sock"}, false},
		{proxy.Endpoint{Addr: addr, Mesh: true}, false},
		{proxy.Endpoint{Unix: "/run/x.sock", Mesh: true, Identity: "spiffe://example.org/a"}, false},
		{proxy.Endpoint{Addr: addr, Weight: -1}, false},
	} {
		if err := Check(&c.e); (err == nil) != c.ok {
			t.Errorf("Check(%+v) = %v, want ok %v", c.e, err, c.ok)
		}
	}
}
