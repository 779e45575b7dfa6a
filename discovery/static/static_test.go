package static

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/proxy"
)

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		given := []proxy.Endpoint{{Addr: netip.MustParseAddrPort("10.0.0.2:80")}, {Addr: netip.MustParseAddrPort("10.0.0.1:80")}}
		r, err := New(given)
		if err != nil {
			t.Fatal(err)
		}
		given[0].Weight = 5 // ours is a copy
		ctx, cancel := context.WithCancel(t.Context())
		var got [][]proxy.Endpoint
		done := make(chan error, 1)
		go func() {
			done <- r.Watch(ctx, proxy.Service{Name: "orders"}, func(set []proxy.Endpoint) { got = append(got, set) })
		}()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch = %v, want the context's error", err)
		}
		if len(got) != 1 || len(got[0]) != 2 || got[0][0].String() != "10.0.0.1:80" || got[0][1].Weight != 0 {
			t.Errorf("updates = %v; want one with both endpoints in order", got)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	one := proxy.Endpoint{Addr: netip.MustParseAddrPort("10.0.0.1:80")}
	if _, err := New([]proxy.Endpoint{one, one}); err == nil {
		t.Error("New with an endpoint named twice succeeded")
	}
	if _, err := New([]proxy.Endpoint{{}}); err == nil {
		t.Error("New with an endpoint without address succeeded")
	}
	if _, err := New(nil); err != nil {
		t.Errorf("New with none = %v", err)
	}
}

// TestFixed: a Watcher knows what is given from the start, before Run and without a goroutine of its own.
func TestFixed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := New([]proxy.Endpoint{{Addr: netip.MustParseAddrPort("10.0.0.1:80")}})
		if err != nil {
			t.Fatal(err)
		}
		var changed []proxy.Endpoint
		w, err := discovery.New(discovery.Config{Resolver: r, Service: proxy.Service{Name: "orders"}, Changed: func(set []proxy.Endpoint) { changed = set }})
		if err != nil {
			t.Fatal(err)
		}
		<-w.Readied()
		if !w.Fixed() || !w.Ready() || len(w.Endpoints()) != 1 || len(w.Status().Endpoints) != 1 {
			t.Errorf("before Run: fixed %v, ready %v, endpoints %v", w.Fixed(), w.Ready(), w.Endpoints())
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil || len(changed) != 1 {
			t.Errorf("Run = %v, Changed was told of %v", err, changed)
		}
	})
}
