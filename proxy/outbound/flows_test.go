package outbound

import (
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
)

// A client of the outbound port that asks for a Flow names the service in the path: the authority is this sidecar's.
func TestRouteOfFlows(t *testing.T) {
	var got proxy.Request
	stack := New(Config{Name: "web", Routes: map[string]*Route{"dns": {Name: "dns"}},
		Upstream: proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			got = *req
			resp.Status = 101
			return nil
		})})
	for path, want := range map[string]proxy.Service{
		"/.well-known/masque/udp/dns/53/":  {Name: "dns", Port: 53},
		"/.well-known/masque/udp/DNS./53/": {Name: "dns", Port: 53},
		"/.well-known/masque/udp/dns/0/":   {Name: "dns"},
		"/.well-known/masque/udp/other/1/": {},
		"/":                                {},
	} {
		got = proxy.Request{}
		var resp proxy.Response
		req := &proxy.Request{Method: "GET", Authority: "127.0.0.1:15001", Path: path, Upgrade: proxy.ConnectUDP, Cancel: new(proxy.Cancel)}
		if err := stack.RoundTrip(req, &resp); err != nil || got.Service != want || (want.Name == "") != (resp.Status >= 400) {
			t.Errorf("%s: %v, status %d, service %v; want %v", path, err, resp.Status, got.Service, want)
		}
	}
}
