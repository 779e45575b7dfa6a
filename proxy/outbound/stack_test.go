package outbound

import (
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/datagram"
	"github.com/pillion-proxy/pillion/proxy/hops"
)

func TestStackRoutesAndTags(t *testing.T) {
	var got proxy.Request
	stack := New(Config{
		Name:   "web",
		Routes: map[string]*Route{"billing": {Name: "billing"}},
		Upstream: proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			got = *req
			resp.Status = 204
			return nil
		}),
	})
	for authority, want := range map[string]proxy.Service{
		"billing":       {Name: "billing"},
		"Billing:9000":  {Name: "billing", Port: 9000},
		"billing.":      {Name: "billing"},
		"BILLING.:9000": {Name: "billing", Port: 9000},
	} {
		var resp proxy.Response
		req := &proxy.Request{Method: "GET", Authority: authority, Cancel: new(proxy.Cancel)}
		if err := stack.RoundTrip(req, &resp); err != nil || resp.Status != 204 {
			t.Fatalf("%s: %v, status %d", authority, err, resp.Status)
		}
		if got.Service != want || got.Fields.Get(hops.Field) != "web>" || got.Authority != authority {
			t.Errorf("%s: got service %v, path %q, authority %q; want %v", authority, got.Service, got.Fields.Get(hops.Field), got.Authority, want)
		}
	}
}

func TestUnknownNamesAreRefused(t *testing.T) {
	stack := New(Config{Name: "web", Routes: map[string]*Route{"billing": {Name: "billing"}},
		Upstream: proxy.RoundTripperFunc(func(*proxy.Request, *proxy.Response) error { panic("reached") })})
	for authority, code := range map[string]string{"example.com": "unknown_service", "127.0.0.1:15000": "unknown_service", "": "bad_request", "a:b:c": "bad_request", "x:99999": "bad_request"} {
		var resp proxy.Response
		if err := stack.RoundTrip(&proxy.Request{Method: "GET", Authority: authority, Cancel: new(proxy.Cancel)}, &resp); err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		if resp.Code != code || (code == "unknown_service" && !strings.Contains(string(body), "known: billing")) {
			t.Errorf("%q: got %s %q, want %s", authority, resp.Code, body, code)
		}
	}
}

func TestSplitAuthority(t *testing.T) {
	for in, want := range map[string]struct {
		host string
		port uint16
		ok   bool
	}{
		"a": {"a", 0, true}, "a:80": {"a", 80, true}, "[::1]:80": {"::1", 80, true}, "[::1]": {"::1", 0, true},
		"::1": {"", 0, false}, "": {"", 0, false}, ":80": {"", 80, false}, "a:": {"", 0, false}, "[::1": {"", 0, false},
	} {
		host, port, ok := SplitAuthority(in)
		if ok != want.ok || (ok && (host != want.host || port != want.port)) {
			t.Errorf("%q: got %q %d %v, want %q %d %v", in, host, port, ok, want.host, want.port, want.ok)
		}
	}
}

// TestAddresses: a Stream to an address is one to the service that is there; a request is not.
func TestAddresses(t *testing.T) {
	var got proxy.Service
	stack := New(Config{
		Name:   "web",
		Routes: map[string]*Route{"db": {Name: "db"}},
		ByAddress: func(a netip.AddrPort) (proxy.Service, bool) {
			return proxy.Service{Name: "db", Port: a.Port()}, a.Addr() == netip.MustParseAddr("10.0.0.7") || a.Addr() == netip.MustParseAddr("2001:db8::7")
		},
		Upstream: proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			got, resp.Status = req.Service, 200
			return nil
		}),
	})
	for _, x := range []struct{ method, authority, want string }{
		{"CONNECT", "10.0.0.7:5432", "db:5432"},
		{"CONNECT", "[2001:db8::7]:5432", "db:5432"},
		{"CONNECT", "[::ffff:10.0.0.7]:5432", "db:5432"},
		{"CONNECT", "10.0.0.8:5432", ""},
		{"CONNECT", "10.0.0.7", ""},
		{"GET", "10.0.0.7:5432", ""},
	} {
		got = proxy.Service{}
		var resp proxy.Response
		err := stack.RoundTrip(&proxy.Request{Method: x.method, Authority: x.authority, Cancel: new(proxy.Cancel)}, &resp)
		if err != nil || got.String() != x.want || (resp.Code == "") != (x.want != "") {
			t.Errorf("%s %s: %v, code %q, service %q, want service %q", x.method, x.authority, err, resp.Code, got, x.want)
		}
	}
}

// TestAddressesOfFlows: the path of a Flow to an address becomes one to the service, of which the peer knows the ports.
func TestAddressesOfFlows(t *testing.T) {
	var got proxy.Request
	stack := New(Config{
		Name:      "web",
		ByAddress: func(netip.AddrPort) (proxy.Service, bool) { return proxy.Service{Name: "db", Port: 53}, true },
		Upstream: proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			got, resp.Status = *req, 200
			return nil
		}),
	})
	var resp proxy.Response
	req := &proxy.Request{Method: "GET", Upgrade: proxy.ConnectUDP, Path: datagram.Path("127.0.0.2", 9053), Cancel: new(proxy.Cancel)}
	if err := stack.RoundTrip(req, &resp); err != nil || got.Service.String() != "db:53" || got.Path != datagram.Path("db", 53) {
		t.Errorf("%v: service %v, path %s, want db:53", err, got.Service, got.Path)
	}
}

// TestCopiesAreSentOnce: copies for another service pass by what repeats requests, whose budget and latencies are those of the service itself.
func TestCopiesAreSentOnce(t *testing.T) {
	var above, sent []string
	layer := func(name string) proxy.Layer {
		return func(next proxy.RoundTripper) proxy.RoundTripper {
			return proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
				above = append(above, name+" "+req.Method)
				return next.RoundTrip(req, resp)
			})
		}
	}
	mirror := func(copies proxy.RoundTripper) proxy.Layer {
		return func(next proxy.RoundTripper) proxy.RoundTripper {
			return proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
				shadow := *req
				shadow.Method = "COPY"
				if err := copies.RoundTrip(&shadow, new(proxy.Response)); err != nil {
					t.Error(err)
				}
				return next.RoundTrip(req, resp)
			})
		}
	}
	stack := New(Config{
		Name: "web", Routes: map[string]*Route{"billing": {Name: "billing"}}, Layers: func(string) Layers { return Layers{Retry: layer("retry"), Hedge: layer("hedge"), Mirror: mirror} },
		Upstream: proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			sent = append(sent, req.Method)
			resp.Status = 204
			return nil
		}),
	})
	var resp proxy.Response
	if err := stack.RoundTrip(&proxy.Request{Method: "GET", Authority: "billing", Cancel: new(proxy.Cancel)}, &resp); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(above, ", "); got != "hedge GET, retry GET" {
		t.Errorf("hedge and retry saw %q, want the request alone", got)
	}
	if got := strings.Join(sent, ", "); got != "COPY, GET" {
		t.Errorf("upstream got %q, want the copy and the request", got)
	}
}

// TestLayersOfAService: a request meets the layers of the service that it is for, whoever has said which that is, and of no other.
func TestLayersOfAService(t *testing.T) {
	var met []string
	stack := New(Config{
		Name: "web", Routes: map[string]*Route{"a": {Name: "a"}, "b": {Name: "b"}},
		Layers: func(service string) Layers {
			if service == "b" {
				return Layers{}
			}
			return Layers{Retry: func(next proxy.RoundTripper) proxy.RoundTripper {
				return proxy.Before(func(req *proxy.Request) error {
					met = append(met, service+" for "+req.Service.String())
					return nil
				}).Layer(next)
			}}
		},
		Upstream: proxy.RoundTripperFunc(passed),
	})
	for _, c := range []struct {
		authority string
		service   proxy.Service
		want      string
	}{
		{"a", proxy.Service{}, "a for a"}, {"b:80", proxy.Service{}, ""}, {"A:80", proxy.Service{}, "a for a:80"},
		{"x", proxy.Service{Name: "a", Port: 8}, "a for a:8"}, {"a", proxy.Service{Name: "b"}, ""}, {"a", proxy.Service{Name: "gone"}, ""},
	} {
		met = nil
		var resp proxy.Response
		req := &proxy.Request{Method: "GET", Authority: c.authority, Service: c.service, Cancel: new(proxy.Cancel)}
		if err := stack.RoundTrip(req, &resp); err != nil || resp.Status != 204 || strings.Join(met, ", ") != c.want {
			t.Errorf("%s, %v: met %q, status %d, %v; want %q", c.authority, c.service, met, resp.Status, err, c.want)
		}
	}
}
