package inbound

import (
	"strings"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/datagram"
)

// A request for a Flow goes by its path, to the entries that take Flows and to no others, which may have the same port.
func TestDispatchOfFlows(t *testing.T) {
	var seen proxy.Request
	stack := New(Config{Name: "dns", Apps: []App{
		{Port: 53, StreamsOnly: true, To: echo("tcp", &seen)},
		{Port: 53, Flows: true, To: echo("udp", &seen)},
		{Port: 5060, Flows: true, Allow: []proxy.Identity{"spiffe://t/other"}, To: echo("sip", &seen)},
	}})
	flow := func(path string) *proxy.Request {
		return &proxy.Request{Method: "GET", Authority: "dns:9", Path: path, Upgrade: proxy.ConnectUDP,
			Fields: proxy.Fields{{Name: proxy.ToField, Value: "dns:7"}, {Name: "Forwarded", Value: `for="192.0.2.1:5000"`}}}
	}
	for _, path := range []string{datagram.Path("dns", 53), datagram.Path("10.0.0.7", 53), datagram.Path("dns", 0)} {
		resp, text := call(t, stack, flow(path))
		if resp.Reason != "udp" || seen.Client.Port() != 5000 || seen.Fields.Has(proxy.ToField) {
			t.Errorf("%s: got %d %q %s, for the client %v", path, resp.Status, resp.Reason, text, seen.Client)
		}
	}
	for path, want := range map[string]string{
		datagram.Path("dns", 5060): "403 denied: spiffe://t/web may not call port 5060",
		datagram.Path("dns", 54):   "503 no_endpoints: the sidecar of dns has no app entry for UDP port 54; it has 53, 53 (UDP), 5060 (UDP)",
		"/":                        "400 bad_request",
	} {
		resp, text := call(t, stack, flow(path))
		if !strings.HasPrefix(text, "pillion: "+want) || !strings.HasPrefix(resp.Fields.Get("Proxy-Status"), "pillion; error=") {
			t.Errorf("%s: got %q, %q; want %s", path, text, resp.Fields.Get("Proxy-Status"), want)
		}
	}
	if resp, _ := call(t, stack, &proxy.Request{Method: "CONNECT", Authority: "dns:53"}); resp.Reason != "tcp" {
		t.Errorf("CONNECT: got %q, want the entry for streams", resp.Reason)
	}
}
