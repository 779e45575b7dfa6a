package demo

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

// appsHere runs the three apps in this process, without sidecars, and returns where they are.
func appsHere(t *testing.T) Targets {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, len(sockets))
	listeners := make(map[string]map[string]net.Listener)
	addr := func(app, use string) string { return listeners[app][use].Addr().String() }
	for app, uses := range sockets {
		listeners[app] = make(map[string]net.Listener)
		for _, use := range uses {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			listeners[app][use] = l
		}
	}
	datagrams, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	next := map[string]string{web: "http://" + addr(orders, "http"), orders: "http://" + addr(billing, "http")}
	for app := range sockets {
		go func() {
			ended <- RunApp(ctx, AppConfig{Name: app, Listeners: listeners[app], Next: next[app], NextHost: "any", Datagrams: datagrams})
		}()
	}
	t.Cleanup(func() {
		cancel()
		for range sockets {
			select {
			case err := <-ended:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(5 * time.Second):
				t.Fatal("a demo app did not end")
			}
		}
	})
	return Targets{
		Shop:   "http://" + addr(web, "http"),
		Orders: "http://" + addr(orders, "http"),
		Ledger: map[string]Authority{"port": {Addr: addr(orders, "grpc")}},
		Lines:  addr(billing, "lines"),
		Banner: addr(billing, "banner"),

		Datagrams: datagrams.LocalAddr().String(),
	}
}

// TestProbesDirect: every kind of traffic is right when nothing is between the driver and the apps.
func TestProbesDirect(t *testing.T) {
	d, err := newDriver(appsHere(t))
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	probes := d.probes()
	counts := newTally(probes)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	traffic(ctx, context.Background(), probes, counts)
	if err := errors.Join(counts.wrong(), counts.missing()); err != nil {
		t.Error(err)
	}
}
