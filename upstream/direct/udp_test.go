package direct

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/datagram"
	"github.com/pillion-proxy/pillion/proxy/proxyproto"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// udpApp is a socket of the test.
func udpApp(t *testing.T, address string) (*net.UDPConn, netip.AddrPort) {
	t.Helper()
	nc, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(30 * time.Second))
	return nc.(*net.UDPConn), nc.LocalAddr().(*net.UDPAddr).AddrPort()
}

// openFlow asks for a Flow to ep.
func openFlow(t *testing.T, d *Direct, s task.Shard, ep proxy.Endpoint, o Options) (*proxy.Response, error) {
	t.Helper()
	resp := new(proxy.Response)
	var err error
	proxytest.Do(t, s, func() {
		req := datagram.NewRequest(s, proxy.Service{Name: "dns"}, netip.MustParseAddrPort("192.0.2.1:5000"))
		req.Peer = proxy.NewPeer("spiffe://t/dns", "spiffe://t/web", netip.MustParseAddrPort("192.0.2.9:15008"), "")
		err = d.To(ep, o).RoundTrip(req, resp)
	})
	return resp, err
}

func TestFlowToAnApp(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s, d := rt.Shards()[0], New(Config{Shards: rt.Shards()})
		for _, host := range []string{"127.0.0.1:0", "[::1]:0"} {
			app, addr := udpApp(t, host)
			stats := new(proxy.FlowStats)
			resp, err := openFlow(t, d, s, proxy.Endpoint{Addr: addr}, Options{Flows: stats})
			if err != nil || resp.Status != 101 || resp.Fields.Get(datagram.CapsuleField) != "?1" {
				t.Fatalf("got %+v, %v", resp, err)
			}
			buf := make([]byte, 1000)
			proxytest.Do(t, s, func() {
				if err := resp.Flow.Send([]byte("question")); err != nil {
					t.Error(err)
				}
				if err := resp.Flow.Send(make([]byte, proxy.MaxDatagram+1)); err != proxy.ErrDatagramTooLong {
					t.Errorf("too long: %v", err)
				}
				if err := resp.Flow.Send(make([]byte, proxy.MaxDatagram)); err != nil { // IPv4 takes 20 bytes less: lost, and no end
					t.Error(err)
				}
			})
			n, from, err := app.ReadFromUDPAddrPort(buf)
			if err != nil || string(buf[:n]) != "question" {
				t.Fatalf("the app got %q, %v", buf[:n], err)
			}
			app.WriteToUDPAddrPort([]byte("answer"), from)
			proxytest.Do(t, s, func() {
				if n, err := resp.Flow.Receive(buf); err != nil || string(buf[:n]) != "answer" {
					t.Errorf("got %q, %v", buf[:n], err)
				}
				resp.Close()
			})
			c := stats.Counts()
			if c.Open != 0 || c.Opened != 1 || c.Requests != 3 || c.Answers != 1 || c.Dropped["too_long"] < 1 {
				t.Errorf("counted %+v", c)
			}
		}
	})
}

// An app that is not there, and comes, is one Flow.
func TestFlowToAnAppThatRestarts(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s, d := rt.Shards()[0], New(Config{Shards: rt.Shards()})
		app, addr := udpApp(t, "127.0.0.1:0")
		app.Close()
		stats := new(proxy.FlowStats)
		resp, err := openFlow(t, d, s, proxy.Endpoint{Addr: addr}, Options{Flows: stats})
		if err != nil {
			t.Fatal(err)
		}
		flow := resp.Flow
		buf := make([]byte, 100)
		received := proxytest.Go(s, func() {
			if err := flow.(proxy.Waiter).WaitReadable(); err != nil {
				t.Error(err)
			}
			if n, err := flow.Receive(buf); err != nil || string(buf[:n]) != "answer" {
				t.Errorf("got %q, %v", buf[:n], err)
			}
		})
		proxytest.Eventually(t, "the closed port is counted", func() bool {
			proxytest.Do(t, s, func() {
				if err := flow.Send([]byte("lost")); err != nil {
					t.Error(err)
				}
			})
			return stats.Counts().Dropped["refused"] > 2
		})
		app, _ = udpApp(t, addr.String())
		proxytest.Do(t, s, func() {
			if err := flow.Send([]byte("question")); err != nil {
				t.Error(err)
			}
		})
		n, from, err := app.ReadFromUDPAddrPort(buf)
		if err != nil || string(buf[:n]) != "question" {
			t.Fatalf("the app got %q, %v; want the first that was sent when it was there", buf[:n], err)
		}
		app.WriteToUDPAddrPort([]byte("answer"), from)
		proxytest.Wait(t, received)
		proxytest.Do(t, s, resp.Close)
	})
}

func TestFlowEndsWhenClosed(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s, d := rt.Shards()[0], New(Config{Shards: rt.Shards()})
		_, addr := udpApp(t, "127.0.0.1:0")
		resp, err := openFlow(t, d, s, proxy.Endpoint{Addr: addr}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		flow := resp.Flow
		var ended error
		done := proxytest.Go(s, func() { _, ended = flow.Receive(make([]byte, 10)) })
		proxytest.Do(t, s, resp.Close)
		proxytest.Wait(t, done)
		proxytest.Do(t, s, func() {
			if err := flow.Send(nil); ended != task.ErrClosed || err != task.ErrClosed {
				t.Errorf("Receive %v, Send %v; want that it is closed", ended, err)
			}
		})
	})
}

// Each datagram says for whom it is, if the app wants it.
func TestFlowWithPROXYHeader(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s, d := rt.Shards()[0], New(Config{Shards: rt.Shards()})
		app, addr := udpApp(t, "127.0.0.1:0")
		resp, err := openFlow(t, d, s, proxy.Endpoint{Addr: addr}, Options{Header: proxyproto.V2})
		if err != nil {
			t.Fatal(err)
		}
		want := proxyproto.Append(nil, proxyproto.V2, proxyproto.Header{Src: netip.MustParseAddrPort("192.0.2.1:5000"), Dst: addr, Datagram: true, Identity: "spiffe://t/web"})
		for _, p := range []string{"a", "b"} {
			proxytest.Do(t, s, func() { resp.Flow.Send([]byte(p)) })
			buf := make([]byte, 1000)
			if n, _, err := app.ReadFromUDPAddrPort(buf); err != nil || string(buf[:n]) != string(want)+p {
				t.Errorf("the app got %q, %v; want %q", buf[:n], err, string(want)+p)
			}
		}
		proxytest.Do(t, s, resp.Close)
	})
}

func TestFlowsThatAreRefused(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		d := New(Config{Shards: rt.Shards(), Own: func(network, address string) bool { return network == "udp" && address == "127.0.0.1:53" }})
		for ep, code := range map[proxy.Endpoint]proxy.Code{
			{Unix: "/run/dns"}: proxy.Unsupported,
			{Addr: netip.MustParseAddrPort("127.0.0.1:53")}: proxy.LoopDetected,
		} {
			var e *proxy.Error
			if _, err := openFlow(t, d, s, ep, Options{}); !errors.As(err, &e) || e.Code != code || !e.Unsent {
				t.Errorf("%v: %v, want %s", ep, err, code)
			}
		}
	})
}
