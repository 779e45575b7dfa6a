package split

import (
	"strconv"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
)

func request(user int) *proxy.Request {
	return &proxy.Request{Service: proxy.Service{Name: "a", Port: 9}, Fields: proxy.Fields{{Name: "x-user", Value: strconv.Itoa(user)}}}
}

func TestShares(t *testing.T) {
	shares := []Share{{proxy.Service{Name: "b"}, 0.1}, {proxy.Service{Name: "c", Port: 80}, 0.3}}
	for name, s := range map[string]*Split{"by chance": {Shares: shares}, "sticky": {Shares: shares, Stick: proxy.Key{Field: "X-User"}}} {
		count := make(map[string]int)
		const n = 100_000
		for i := range n {
			count[s.Choose(request(i)).String()]++
		}
		for to, want := range map[string]int{"b:9": n / 10, "c:80": n * 3 / 10, "": n * 6 / 10} {
			// Ten standard deviations are less than 3 % of the least.
			if got := count[to]; got < want*9/10 || got > want*11/10 {
				t.Errorf("%s: %d of %d go to %q, want about %d", name, got, n, to, want)
			}
		}
	}
}

// Who has the new version keeps it while its share grows.
func TestSticks(t *testing.T) {
	stick := proxy.Key{Field: "x-user"}
	small := &Split{Shares: []Share{{proxy.Service{Name: "b"}, 0.1}}, Stick: stick}
	large := &Split{Shares: []Share{{proxy.Service{Name: "b"}, 0.4}}, Stick: stick}
	for i := range 1000 {
		first := small.Choose(request(i))
		if small.Choose(request(i)) != first {
			t.Fatalf("user %d goes elsewhere the second time", i)
		}
		if first.Name == "b" && large.Choose(request(i)).Name != "b" {
			t.Fatalf("user %d loses the new version as its share grows", i)
		}
	}
}

func TestLayer(t *testing.T) {
	var got proxy.Service
	rt := (&Split{Shares: []Share{{proxy.Service{Name: "b"}, 1}}}).Layer(proxy.RoundTripperFunc(func(req *proxy.Request, _ *proxy.Response) error {
		got = req.Backend
		return nil
	}))
	routed, chosen := request(1), request(1)
	routed.Rule = 2
	chosen.Backend.Name = "d"
	for want, req := range map[string]*proxy.Request{"b": request(1), "d": chosen} {
		if _ = rt.RoundTrip(req, new(proxy.Response)); got.Name != want {
			t.Errorf("%+v: goes to %q, want %q", req, got.Name, want)
		}
	}
	if _ = rt.RoundTrip(routed, new(proxy.Response)); got.Name != "" {
		t.Errorf("a request with a route goes to %q", got.Name)
	}
	req := request(1)
	if n := testing.AllocsPerRun(100, func() { req.Backend = proxy.Service{}; _ = rt.RoundTrip(req, nil) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
