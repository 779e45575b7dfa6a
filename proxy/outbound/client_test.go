package outbound

import (
	"net/netip"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
)

// TestTellClient: Streams and Flows say for which client they are, whatever that says; requests do not.
func TestTellClient(t *testing.T) {
	var got proxy.Fields
	rt := proxy.Before(tellClient).Layer(proxy.RoundTripperFunc(func(req *proxy.Request, _ *proxy.Response) error {
		got = req.Fields
		return nil
	}))
	for _, x := range []struct {
		method, upgrade, client, said, want string
	}{
		{"CONNECT", "", "10.0.0.9:41234", "", `for="10.0.0.9:41234"`},
		{"CONNECT", "", "[2001:db8::7]:41234", "", `for="[2001:db8::7]:41234"`},
		{"CONNECT", "", "[fe80::1%eth0]:41234", "", `for="[fe80::1]:41234"`},
		{"CONNECT", "", "10.0.0.9:41234", "for=forged", `for="10.0.0.9:41234"`},
		{"CONNECT", "", "", "for=forged", ""},
		{"GET", proxy.ConnectUDP, "10.0.0.9:41234", "", `for="10.0.0.9:41234"`},
		{"GET", "websocket", "10.0.0.9:41234", "for=me", "for=me"},
		{"GET", "", "10.0.0.9:41234", "for=me", "for=me"},
	} {
		req := &proxy.Request{Method: x.method, Upgrade: x.upgrade}
		if x.client != "" {
			req.Client = netip.MustParseAddrPort(x.client)
		}
		if x.said != "" {
			req.Fields.Add("forwarded", x.said)
		}
		if err := rt.RoundTrip(req, nil); err != nil || got.Get("Forwarded") != x.want || len(got) > 1 {
			t.Errorf("%+v: %v, fields %v, want %q", x, err, got, x.want)
		}
	}
}
