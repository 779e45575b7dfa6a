package inbound

import (
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
)

func echo(name string, seen *proxy.Request) proxy.RoundTripper {
	return proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
		*seen = *req
		seen.Fields = slices.Clone(req.Fields)
		resp.Status = 200
		resp.Reason = name
		return nil
	})
}

func call(t *testing.T, stack proxy.RoundTripper, req *proxy.Request) (*proxy.Response, string) {
	t.Helper()
	req.Cancel = new(proxy.Cancel)
	req.Peer = proxy.NewPeer("spiffe://t/orders", "spiffe://t/web", netip.MustParseAddrPort("[2001:db8::1]:999"), "ab12")
	var resp proxy.Response
	if err := stack.RoundTrip(req, &resp); err != nil {
		t.Fatal(err)
	}
	text := ""
	if resp.Body != nil {
		b, _ := io.ReadAll(resp.Body)
		text = string(b)
	}
	return &resp, text
}

func TestDispatch(t *testing.T) {
	var seen proxy.Request
	stack := New(Config{Name: "orders", Apps: []App{{Port: 8080, To: echo("first", &seen)}, {Port: 9000, To: echo("second", &seen)}}})
	for _, c := range []struct{ authority, to, want string }{
		{"orders", "", "first"},
		{"orders:8080", "", "first"},
		{"orders:9000", "", "second"},
		{"127.0.0.1:9000", "orders", "first"}, // the port of a local listener says nothing
		{"anything.example", "orders:9000", "second"},
		{"[::1]", "", "first"},
	} {
		req := &proxy.Request{Method: "GET", Authority: c.authority, Path: "/"}
		if c.to != "" {
			req.Fields.Add(proxy.ToField, c.to)
		}
		resp, _ := call(t, stack, req)
		if resp.Reason != c.want || seen.Fields.Has(proxy.ToField) || seen.Authority != c.authority {
			t.Errorf("%+v: got %q, fields %v", c, resp.Reason, seen.Fields)
		}
	}
	resp, text := call(t, stack, &proxy.Request{Method: "CONNECT", Authority: "orders:1"})
	if resp.Status != 503 || !strings.Contains(text, "it has 8080, 9000") {
		t.Errorf("unknown port: got %d %q", resp.Status, text)
	}
}

func TestCallerIsToldAndForgeriesRemoved(t *testing.T) {
	var seen proxy.Request
	stack := New(Config{Name: "orders", Apps: []App{{Port: 8080, To: echo("app", &seen)}}})
	req := &proxy.Request{Method: "GET", Authority: "orders", Path: "/", Fields: proxy.Fields{
		{Name: "Host", Value: "orders"}, {Name: "x-forwarded-for", Value: "6.6.6.6"}, {Name: "FORWARDED", Value: "for=6.6.6.6"},
		{Name: "X-Pillion-Identity", Value: "spiffe://t/admin"}, {Name: "x-forwarded-client-cert", Value: "URI=spiffe://t/admin"},
		{Name: "X_Pillion_Identity", Value: "spiffe://t/admin"}, {Name: "x-Forwarded_for", Value: "6.6.6.6"}, {Name: "Accept", Value: "*/*"}}}
	call(t, stack, req)
	want := proxy.Fields{{Name: "Host", Value: "orders"}, {Name: "Accept", Value: "*/*"}, {Name: "Pillion-Path", Value: ">orders"},
		{Name: "X-Forwarded-For", Value: "2001:db8::1"}, {Name: "Forwarded", Value: `for="[2001:db8::1]"`},
		{Name: "X-Pillion-Identity", Value: "spiffe://t/web"}, {Name: "X-Forwarded-Client-Cert", Value: "By=spiffe://t/orders;Hash=ab12;URI=spiffe://t/web"}}
	if !slices.Equal(seen.Fields, want) {
		t.Errorf("got  %v\nwant %v", seen.Fields, want)
	}
}

func TestAllow(t *testing.T) {
	var seen proxy.Request
	stack := New(Config{Name: "orders", Apps: []App{
		{Port: 1, Allow: []proxy.Identity{"spiffe://t/other"}, To: echo("closed", &seen)},
		{Port: 2, Allow: []proxy.Identity{"spiffe://t/web"}, To: echo("open", &seen), StreamsOnly: true}}})
	resp, text := call(t, stack, &proxy.Request{Method: "CONNECT", Authority: "orders:1"})
	if resp.Status != 403 || !strings.Contains(text, "spiffe://t/web may not call port 1") {
		t.Errorf("got %d %q, want a 403 that names caller and port", resp.Status, text)
	}
	if resp, _ := call(t, stack, &proxy.Request{Method: "CONNECT", Authority: "orders:2"}); resp.Status != 200 {
		t.Errorf("allowed caller got %d", resp.Status)
	}
	if resp, _ := call(t, stack, &proxy.Request{Method: "GET", Authority: "orders:2"}); resp.Status != 400 {
		t.Errorf("an Exchange for a TCP app got %d, want 400", resp.Status)
	}
}

// An entry that refuses Streams takes requests, upgrades among them.
func TestStreamsRefused(t *testing.T) {
	var seen proxy.Request
	stack := New(Config{Name: "orders", Apps: []App{{Port: 1, NoStreams: true, To: echo("web", &seen)}}})
	for _, x := range []struct {
		method, upgrade string
		want            int
	}{{"GET", "", 200}, {"GET", "websocket", 200}, {"CONNECT", "websocket", 200}, {"CONNECT", "", 403}} {
		resp, text := call(t, stack, &proxy.Request{Method: x.method, Upgrade: x.upgrade, Authority: "orders:1"})
		if resp.Status != x.want {
			t.Errorf("%s with upgrade %q: got %d %q, want %d", x.method, x.upgrade, resp.Status, text, x.want)
		}
	}
}

// What asks the sidecar itself never reaches an app, and only the field that Links write does so.
func TestSidecarIsAsked(t *testing.T) {
	var app, own proxy.Request
	apps := []App{{Port: 1, To: echo("app", &app)}}
	ask := func() *proxy.Request {
		return &proxy.Request{Method: "GET", Authority: "x", Path: "/status", Fields: proxy.Fields{{Name: proxy.ToField, Value: proxy.SidecarName}}}
	}
	if resp, _ := call(t, New(Config{Name: "orders", Apps: apps, Sidecar: echo("sidecar", &own)}), ask()); resp.Reason != "sidecar" || own.Service.Name != proxy.SidecarName || own.Fields.Has(proxy.ToField) {
		t.Errorf("got %q, %+v", resp.Reason, own)
	}
	if resp, text := call(t, New(Config{Name: "orders", Apps: apps}), ask()); resp.Status != 403 || !strings.Contains(text, "denied") {
		t.Errorf("without an answerer: got %d %q, want 403", resp.Status, text)
	}
	if resp, _ := call(t, New(Config{Name: "orders", Sidecar: echo("sidecar", &own)}), ask()); resp.Reason != "sidecar" {
		t.Errorf("without apps: got %q", resp.Reason)
	}
	stack := New(Config{Name: "orders", Apps: apps, Sidecar: echo("sidecar", &own)})
	for _, req := range []*proxy.Request{
		{Method: "GET", Authority: proxy.SidecarName, Path: "/status"},
		{Method: "GET", Authority: "orders", Path: "/status", Fields: proxy.Fields{{Name: proxy.ToField, Value: "orders:1"}}},
		{Method: "CONNECT", Authority: proxy.SidecarName + ":0"},
	} {
		if resp, text := call(t, stack, req); resp.Reason != "app" {
			t.Errorf("%s %s: got %d %q %q, want the app", req.Method, req.Authority, resp.Status, resp.Reason, text)
		}
	}
}
