package inbound

import (
	"net/netip"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
)

// TestNameClient: what the caller's sidecar says about the client of a Stream, and what of it is believed.
func TestNameClient(t *testing.T) {
	var got proxy.Request
	rt := proxy.Before(nameClient).Layer(proxy.RoundTripperFunc(func(req *proxy.Request, _ *proxy.Response) error {
		got = *req
		return nil
	}))
	const link = "10.0.0.7:50000"
	for _, x := range []struct{ method, said, want string }{
		{"CONNECT", `for="10.0.0.9:41234"`, "10.0.0.9:41234"},
		{"CONNECT", `for="10.0.0.9:41234";host=svc.ns.svc.cluster.local`, "10.0.0.9:41234"}, // ztunnel
		{"CONNECT", `proto=http; For=10.0.0.9:41234, for="10.0.0.8:1"`, "10.0.0.9:41234"},
		{"CONNECT", `for="[2001:db8::7]:41234"`, "[2001:db8::7]:41234"},
		{"CONNECT", `for="127.0.0.1:41234"`, "10.0.0.7:41234"}, // an address of the sidecar's own machine
		{"CONNECT", `for="[::1]:41234"`, "10.0.0.7:41234"},
		{"CONNECT", `for="0.0.0.0:41234"`, "10.0.0.7:41234"},
		{"CONNECT", `for="[fe80::1%25eth0]:41234"`, link},
		{"CONNECT", "for=unknown", link},
		{"CONNECT", "for=10.0.0.9", link},
		{"CONNECT", `for="`, link},
		{"CONNECT", "by=10.0.0.9:1", link},
		{"CONNECT", "", link},
		{"GET", `for="10.0.0.9:41234"`, link},
	} {
		req := &proxy.Request{Method: x.method, Client: netip.MustParseAddrPort(link), Fields: proxy.Fields{{Name: "Forwarded", Value: x.said}}}
		if err := rt.RoundTrip(req, nil); err != nil || got.Client.String() != x.want || got.Fields.Has("Forwarded") != (x.method == "GET") {
			t.Errorf("%s %s: %v, client %v, fields %v, want client %s", x.method, x.said, err, got.Client, got.Fields, x.want)
		}
	}
}
