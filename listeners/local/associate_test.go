package local

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/datagram"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/socks"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// flows is a stack that opens Flows to an app, and refuses the service "nobody".
type flows struct {
	app    netip.AddrPort
	opened atomic.Int32
	open   atomic.Int32
	mu     sync.Mutex
	asked  []string
}

func (f *flows) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	host, port, err := datagram.Target(req.Path)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.asked = append(f.asked, fmt.Sprintf("%s %d local=%v client=%v", host, port, req.Local, req.Client.IsValid()))
	f.mu.Unlock()
	if req.Upgrade != proxy.ConnectUDP || host == "nobody" || req.Service.Name != "" {
		return &proxy.Error{Code: proxy.UnknownService, Detail: "no " + host, Unsent: true}
	}
	req.Service.Name = host
	c, err := req.Shard.DialPacket(f.app)
	if err != nil {
		return err
	}
	f.opened.Add(1)
	f.open.Add(1)
	resp.Status, resp.Flow = 101, &packets{c: c, open: &f.open}
	resp.OnClose(resp.Flow.(*packets))
	return nil
}

type packets struct {
	c    task.PacketConn
	open *atomic.Int32
	once sync.Once
}

func (p *packets) WaitReadable() error { return p.c.WaitReadable() }
func (p *packets) Receive(b []byte) (int, error) {
	n, _, err := p.c.Receive(b)
	return n, err
}
func (p *packets) Send(b []byte) error { return p.c.Send(b, task.Route{}) }
func (p *packets) Close() error {
	p.once.Do(func() { p.open.Add(-1) })
	return p.c.Close()
}
func (p *packets) CloseResponse(*proxy.Response) { _ = p.Close() }

// udpApp answers each datagram with the same in capitals.
func udpApp(t *testing.T) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1<<16)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			_, _ = c.WriteToUDPAddrPort(bytes.ToUpper(b[:n]), from)
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// associate asks for an association, and returns where it takes datagrams.
func associate(t *testing.T, addr string, from netip.AddrPort) (*proxytest.Peer, *net.UDPAddr) {
	t.Helper()
	c := dial(t, addr)
	say := append([]byte("\x05\x01\x00\x05\x03\x00\x01"), from.Addr().AsSlice()...)
	c.Send(string(binary.BigEndian.AppendUint16(say, from.Port())))
	c.Expect("\x05\x00\x05\x00\x00\x01\x7f\x00\x00\x01")
	port := make([]byte, 2)
	if _, err := io.ReadFull(c, port); err != nil {
		t.Fatal(err)
	}
	return c, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(binary.BigEndian.Uint16(port))}
}

func udpSocket(t *testing.T, ip string) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(ip)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func to(name string, port uint16, payload string) []byte {
	return append(socks.AppendHeader(nil, socks.Addr{Name: name, Port: port}), payload...)
}

// converse sends until the answer comes: datagrams may be lost.
func converse(t *testing.T, c *net.UDPConn, relay *net.UDPAddr, say, want []byte) {
	t.Helper()
	b := make([]byte, 1<<16)
	for range 300 {
		if _, err := c.WriteTo(say, relay); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		for {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				break
			}
			if bytes.Equal(b[:n], want) {
				return
			}
		}
	}
	t.Fatalf("no answer %.40q to %.40q", want, say)
}

var anywhere = netip.MustParseAddrPort("0.0.0.0:0")

func TestAssociate(t *testing.T) {
	app := udpApp(t)
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		f := &flows{app: app}
		_, addr := serve(t, rt, f, Port{})
		control, relay := associate(t, addr, anywhere)
		c := udpSocket(t, "127.0.0.1")
		converse(t, c, relay, to("db", 53, "hello"), to("db", 53, "HELLO"))
		converse(t, c, relay, to("db", 54, ""), to("db", 54, ""))
		long := strings.Repeat("x", 60_000)
		converse(t, c, relay, to("db", 53, long), to("db", 53, strings.ToUpper(long)))
		six := socks.Addr{IP: netip.MustParseAddr("2001:db8::7"), Port: 53}
		converse(t, c, relay, append(socks.AppendHeader(nil, six), "v6"...), append(socks.AppendHeader(nil, six), "V6"...))
		if n := f.opened.Load(); n != 3 {
			t.Errorf("%d flows for three targets", n)
		}
		f.mu.Lock()
		if got, want := f.asked[0], "db 53 local=true client=true"; got != want {
			t.Errorf("asked for %q, want %q", got, want)
		}
		f.mu.Unlock()
		proxytest.Eventually(t, "nothing is held while all is idle", func() bool { return rt.Stats().Buffers == 0 })
		control.Close()
		proxytest.Eventually(t, "the association ends with its connection", func() bool { return f.open.Load() == 0 && rt.Stats().Tasks == 0 })
	})
}

// TestAssociateStrangers: only the client's datagrams are taken, none in fragments, and none that is malformed.
func TestAssociateStrangers(t *testing.T) {
	app := udpApp(t)
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		f := &flows{app: app}
		_, addr := serve(t, rt, f, Port{})
		mine := udpSocket(t, "127.0.0.1")
		control, relay := associate(t, addr, mine.LocalAddr().(*net.UDPAddr).AddrPort())
		fragment := to("stranger", 1, "x")
		fragment[2] = 1
		for _, from := range []*net.UDPConn{udpSocket(t, "127.0.0.1"), udpSocket(t, "127.0.0.2")} {
			if _, err := from.WriteTo(to("stranger", 1, "x"), relay); err != nil {
				t.Fatal(err)
			}
		}
		for _, bad := range [][]byte{fragment, {}, []byte("\x00\x00\x00\x03\x10short"), to("stran/ger", 1, "x")} {
			if _, err := mine.WriteTo(bad, relay); err != nil {
				t.Fatal(err)
			}
		}
		converse(t, mine, relay, to("db", 53, "hello"), to("db", 53, "HELLO"))
		f.mu.Lock()
		for _, asked := range f.asked {
			if !strings.HasPrefix(asked, "db ") {
				t.Errorf("a flow was asked for: %s", asked)
			}
		}
		f.mu.Unlock()
		control.Close()
	})
}

// TestAssociateIdle: a Flow on which nothing comes ends before its association, and is counted as those of the service's own port are.
func TestAssociateIdle(t *testing.T) {
	app := udpApp(t)
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		f := &flows{app: app}
		brief, long := new(proxy.FlowStats), new(proxy.FlowStats)
		_, addr := serveSet(t, rt, f, Port{}, func(l *Server) {
			l.tick = 5 * time.Millisecond
			l.Replace(nil, map[string]Flows{"brief": {Idle: 100 * time.Millisecond, Stats: brief}, "long": {Idle: time.Hour, Stats: long}})
		})
		control, relay := associate(t, addr, anywhere)
		c := udpSocket(t, "127.0.0.1")
		converse(t, c, relay, to("long", 1, "x"), to("long", 1, "X"))
		converse(t, c, relay, to("other", 1, "x"), to("other", 1, "X"))
		for range 2 {
			converse(t, c, relay, to("brief", 1, "x"), to("brief", 1, "X"))
			proxytest.Eventually(t, "the idle flow ends", func() bool { return brief.Counts().Open == 0 && f.open.Load() == 2 })
		}
		if got := brief.Counts(); got.Opened < 2 || got.Requests < 2 || got.Answers < 2 || got.Answers > got.Requests || len(got.Dropped) > 0 {
			t.Errorf("the brief service: %+v, want two flows and what they carried", got)
		}
		if got := long.Counts(); got.Open != 1 || got.Opened != 1 || got.Requests == 0 || got.Answers == 0 {
			t.Errorf("the long service: %+v, want one flow, open", got)
		}
		control.Close()
		proxytest.Eventually(t, "all has ended", func() bool { return f.open.Load() == 0 && long.Counts().Open == 0 && rt.Stats().Tasks == 0 })
	})
}

// TestAssociateBounds: more targets than are kept, targets that are refused, and a Shutdown.
func TestAssociateBounds(t *testing.T) {
	app := udpApp(t)
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		f := &flows{app: app}
		stats := new(proxy.FlowStats)
		l, addr := serveSet(t, rt, f, Port{}, func(l *Server) { l.Replace(nil, map[string]Flows{"db": {Stats: stats}}) })
		control, relay := associate(t, addr, anywhere)
		c := udpSocket(t, "127.0.0.1")
		for range 10 {
			if _, err := c.WriteTo(to("nobody", 53, "x"), relay); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 2 * maxTargets {
			converse(t, c, relay, to("db", uint16(i+1), "x"), to("db", uint16(i+1), "X"))
		}
		proxytest.Eventually(t, "no more flows are open than are kept", func() bool { return f.open.Load() <= maxTargets })
		if got := stats.Counts(); got.Evicted != maxTargets {
			t.Errorf("%+v, want %d flows evicted", got, maxTargets)
		}
		converse(t, c, relay, to("db", 1, "again"), to("db", 1, "AGAIN"))
		f.mu.Lock()
		refused := 0
		for _, asked := range f.asked {
			if strings.HasPrefix(asked, "nobody ") {
				refused++
			}
		}
		f.mu.Unlock()
		if refused == 0 || refused > 9 {
			t.Errorf("a target that is refused was asked for %d times for ten datagrams", refused)
		}
		l.Shutdown()
		control.ExpectEOF()
		proxytest.Eventually(t, "all has ended", func() bool { return f.open.Load() == 0 && rt.Stats().Tasks == 0 })
	})
}
