package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/listeners/admin"
	"github.com/pillion-proxy/pillion/proxy/proxyproto"
)

// udpEcho answers every datagram, until the test ends or stop is called. With an address it listens there.
func udpEcho(t *testing.T, address string) (addr string, stop func()) {
	t.Helper()
	var nc net.PacketConn
	eventually(t, "the app's port is free", func() (err error) {
		nc, err = net.ListenPacket("udp", address)
		return err
	})
	_ = nc.(*net.UDPConn).SetReadBuffer(1 << 20)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 64<<10)
		for {
			n, from, err := nc.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = nc.WriteTo(b[:n], from)
		}
	}()
	stop = func() {
		nc.Close()
		<-done
	}
	t.Cleanup(stop)
	return nc.LocalAddr().String(), stop
}

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("not within 20 s: %s: %v", what, err)
}

// flowPair is two sidecars; the service "echo" of the first is the UDP app behind the second.
type flowPair struct {
	echo, direct, denied   string // the service's own ports
	outbound               string
	app                    string
	adminA, adminB         string
	stopApp, stopA, stopB  func()
	startB                 func()
	configA, configB, peer string
}

func startFlowPair(t *testing.T, transport, idle string) *flowPair {
	t.Helper()
	p := &flowPair{}
	p.app, p.stopApp = udpEcho(t, "127.0.0.1:0")
	free := freeAddrs(t, 7)
	p.echo, p.direct, p.denied, p.outbound, p.adminA, p.adminB, p.peer = free[0], free[1], free[2], free[3], free[4], free[5], free[6]
	ca := filepath.Join(t.TempDir(), "ca")
	p.configB = fmt.Sprintf("service: api\napp:\n  - {port: 7, to: %s, protocol: tcp}\n  - {port: 7, to: %s, protocol: udp}\n  - {port: 8, to: %s, protocol: udp, allow: [nobody]}\n"+
		"peer: {listen: %s}\noutbound: {listen: none}\nadmin: {listen: %s}\nidentity: {dev_ca: %s}\ndrain: 2s\n",
		echoApp(t), p.app, p.app, p.peer, p.adminB, ca)
	p.configA = fmt.Sprintf("service: web\npeer: {listen: none}\noutbound: {listen: %s}\nadmin: {listen: %s}\nidentity: {dev_ca: %s}\ndrain: 2s\n"+
		"services:\n  echo: {endpoints: %s, identity: api, listen: %s, protocol: tcp+udp, port: 7, flow_idle: %s, transport: "+transport+"}\n"+
		"  direct: {endpoints: %s, mesh: false, listen: %s, protocol: udp}\n  denied: {endpoints: %s, identity: api, listen: %s, port: 8, protocol: udp}\n",
		p.outbound, p.adminA, ca, p.peer, p.echo, idle, p.app, p.direct, p.peer, p.denied)
	p.startB = func() { p.stopB = startSidecar(t, p.configB) }
	p.startB()
	p.stopA = startSidecar(t, p.configA)
	return p
}

// overBoth runs f for each transport of Links.
func overBoth(t *testing.T, f func(t *testing.T, transport string)) {
	for _, transport := range []string{"tcp", "quic"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			f(t, transport)
		})
	}
}

// udpClient is connected to address, with a deadline that bounds the test.
func udpClient(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}

// ask sends text until it is answered: a datagram may be lost while something restarts.
func ask(c net.Conn, text string) error {
	b := make([]byte, 64<<10)
	for range 50 {
		if _, err := io.WriteString(c, text); err != nil && !strings.Contains(err.Error(), "refused") {
			return err
		}
		_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		for {
			n, err := c.Read(b)
			if err != nil {
				break
			}
			if string(b[:n]) == text {
				return nil
			}
		}
	}
	return fmt.Errorf("%.20q was not answered", text)
}

func flowsOf(st *admin.Status, service string) *admin.Flows {
	for _, s := range st.Services {
		if s.Name == service {
			return s.Flows
		}
	}
	return nil
}

func TestPairCarriesDatagrams(t *testing.T) { overBoth(t, pairCarriesDatagrams) }

func pairCarriesDatagrams(t *testing.T, transport string) {
	p := startFlowPair(t, transport, "1h")
	for _, address := range []string{p.echo, p.direct} {
		c, got := udpClient(t, address), make([]byte, 64<<10)
		for _, size := range []int{1, 0, 1200, 9000, 65_507} {
			sent := bytes.Repeat([]byte{'d'}, size)
			if _, err := c.Write(sent); err != nil {
				t.Fatal(err)
			}
			if n, err := c.Read(got); err != nil || !bytes.Equal(got[:n], sent) {
				t.Fatalf("%s: got %d bytes, %v; want the %d sent", address, n, err, size)
			}
		}
	}
	// The same port takes connections.
	tcp, err := net.Dial("tcp", p.echo)
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	if line, err := bufio.NewReader(tcp).ReadString('\n'); line != "hello\n" {
		t.Errorf("over TCP: %q, %v", line, err)
	}
	a, b := flowsOf(statusOf(t, p.adminA), "echo"), statusOf(t, p.adminB).Apps[1].Flows
	if a == nil || a.Open != 1 || a.In != 5 || a.Out != 5 || len(a.Dropped) != 0 || b == nil || b.Open != 1 || b.In != 5 || b.Out != 5 {
		t.Errorf("status counts %+v and %+v; want 5 datagrams each way", a, b)
	}
	// A caller that is not allowed hears nothing; the operator does.
	c := udpClient(t, p.denied)
	if _, err := io.WriteString(c, "x"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the refusal is counted", func() error {
		if f := flowsOf(statusOf(t, p.adminA), "denied"); f.Dropped["unopened"] != 1 || f.Open != 0 {
			return fmt.Errorf("%+v", f)
		}
		return nil
	})
}

// Every client gets its own answers and no others.
func TestPairKeepsThousandsOfFlowsApart(t *testing.T) { overBoth(t, pairKeepsThousandsOfFlowsApart) }

func pairKeepsThousandsOfFlowsApart(t *testing.T, transport string) {
	p := startFlowPair(t, transport, "1h")
	const clients, rounds = 1000, 3
	var wrong, unanswered atomic.Int64
	var all sync.WaitGroup
	turn := make(chan struct{}, 50) // as many at a time
	conns := make([]net.Conn, clients)
	for i := range conns {
		conns[i] = udpClient(t, p.echo)
	}
	call := func(i, r int) {
		c, b, text := conns[i], make([]byte, 100), fmt.Sprintf("client %d round %d", i, r)
		for range 10 { // a busy machine may lose one: it is UDP
			if _, err := io.WriteString(c, text); err != nil {
				t.Error(err)
				return
			}
			_ = c.SetReadDeadline(time.Now().Add(3 * time.Second))
			for {
				n, err := c.Read(b)
				if err != nil {
					break
				}
				if !strings.HasPrefix(string(b[:n]), fmt.Sprintf("client %d ", i)) {
					wrong.Add(1)
				}
				if string(b[:n]) == text {
					return
				}
			}
		}
		unanswered.Add(1)
	}
	for r := range rounds {
		for i := range conns {
			turn <- struct{}{}
			all.Go(func() {
				defer func() { <-turn }()
				call(i, r)
			})
		}
		all.Wait()
	}
	st := flowsOf(statusOf(t, p.adminA), "echo")
	if wrong.Load() > 0 || unanswered.Load() > 0 || st.Open != clients || st.Total != clients {
		t.Errorf("%d answers went to others, %d questions were not answered, %+v; want %d flows", wrong.Load(), unanswered.Load(), st, clients)
	}
}

// An app that restarts is found again by Flows that were open all the time, and a sidecar that restarts by its peers.
func TestPairFlowsSurviveRestarts(t *testing.T) {
	t.Parallel()
	overBoth(t, pairFlowsSurviveRestarts)
}

func pairFlowsSurviveRestarts(t *testing.T, transport string) {
	p := startFlowPair(t, transport, "1h")
	c := udpClient(t, p.echo)
	if err := ask(c, "before"); err != nil {
		t.Fatal(err)
	}
	p.stopApp()
	eventually(t, "the closed port is counted", func() error {
		_, _ = io.WriteString(c, "nobody")
		if f := statusOf(t, p.adminB).Apps[1].Flows; f.Dropped["refused"] == 0 {
			return fmt.Errorf("%+v", f)
		}
		return nil
	})
	_, p.stopApp = udpEcho(t, p.app)
	if err := ask(c, "after the app's restart"); err != nil {
		t.Fatal(err)
	}
	if st := flowsOf(statusOf(t, p.adminA), "echo"); st.Total != 1 {
		t.Errorf("%+v; want that it is still the first flow", st)
	}
	p.stopB()
	p.startB()
	if err := ask(c, "after the sidecar's restart"); err != nil {
		t.Fatal(err)
	}
}

// Idle Flows end on both sides; a DNS question that has been answered needs no minute.
func TestPairForgetsIdleFlows(t *testing.T) {
	t.Parallel()
	overBoth(t, pairForgetsIdleFlows)
}

func pairForgetsIdleFlows(t *testing.T, transport string) {
	p := startFlowPair(t, transport, "1s")
	c := udpClient(t, p.echo)
	if err := ask(c, "x"); err != nil {
		t.Fatal(err)
	}
	none := func() error {
		a, b := flowsOf(statusOf(t, p.adminA), "echo"), statusOf(t, p.adminB).Apps[1].Flows
		if a.Open != 0 || b.Open != 0 || a.Total == 0 || b.Total == 0 {
			return fmt.Errorf("%+v and %+v", a, b)
		}
		return nil
	}
	eventually(t, "no flow is open", none)
	if err := ask(c, "y"); err != nil { // and the next datagram opens another
		t.Fatal(err)
	}
	eventually(t, "no flow is open again", none)
	if n := statusOf(t, p.adminB).Runtime.Buffers; n > 4 {
		t.Errorf("%d buffers are still taken", n)
	}
}

// A stop does not wait for Flows: no datagram is the last.
func TestStopDoesNotWaitForFlows(t *testing.T) {
	t.Parallel()
	overBoth(t, stopDoesNotWaitForFlows)
}

func stopDoesNotWaitForFlows(t *testing.T, transport string) {
	app, _ := udpEcho(t, "127.0.0.1:0")
	free, ca := freeAddrs(t, 4), filepath.Join(t.TempDir(), "ca")
	stopB := startSidecar(t, fmt.Sprintf("service: api\napp: [{port: 7, to: %s, protocol: udp}]\npeer: {listen: %s}\noutbound: {listen: none}\nadmin: {listen: %s}\n"+
		"identity: {dev_ca: %s}\ndrain: 5m\n", app, free[0], free[1], ca))
	stopA := startSidecar(t, fmt.Sprintf("service: web\npeer: {listen: none}\noutbound: {listen: none}\nadmin: {listen: %s}\nidentity: {dev_ca: %s}\ndrain: 5m\n"+
		"services:\n  api: {endpoints: %s, listen: %s, protocol: udp, transport: %s}\n", free[2], ca, free[0], free[3], transport))
	if err := ask(udpClient(t, free[3]), "x"); err != nil {
		t.Fatal(err)
	}
	stopB() // fails after a time that is shorter than the drain
	stopA()
}

// Where no peer is left a stop does not wait until the grace of its Flows is over.
func TestStopEndsFlowsOrNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := &config.Config{Drain: time.Hour}
		s := &sidecar{parts: parts{Present: newPresent(cfg, new(sockets)), Flows: newFlows(cfg)}}
		began := time.Now()
		s.endFlowsSoon()()
		s.running.Wait()
		if d := time.Since(began); d != 0 {
			t.Errorf("without peers a stop takes %v", d)
		}
		stop := s.endFlowsSoon()
		s.running.Wait()
		if d := time.Since(began); d != flowGrace {
			t.Errorf("Flows are ended after %v, want %v", d, flowGrace)
		}
		stop()
	})
}

// RFC 9298 section 3.2: the HTTP/1.1 form, at the outbound port.
func TestOutboundPortOpensFlows(t *testing.T) { overBoth(t, outboundPortOpensFlows) }

func outboundPortOpensFlows(t *testing.T, transport string) {
	p := startFlowPair(t, transport, "1h")
	open := func(path string) (net.Conn, *bufio.Reader, *http.Response) {
		t.Helper()
		c, err := net.Dial("tcp", p.outbound)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: connect-udp\r\nCapsule-Protocol: ?1\r\n\r\n", path, p.outbound)
		r := bufio.NewReader(c)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c, r, resp
	}
	c, r, resp := open("/.well-known/masque/udp/echo/7/")
	if resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "connect-udp" || resp.Header.Get("Capsule-Protocol") != "?1" {
		t.Fatalf("got %d %v", resp.StatusCode, resp.Header)
	}
	want := []byte("\x00\x06\x00hello")
	if _, err := c.Write(append([]byte("\x21\x03abc"), want...)); err != nil { // an unknown capsule first
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	c.Close()
	eventually(t, "its flow ends", func() error {
		if f := statusOf(t, p.adminB).Apps[1].Flows; f.Open != 0 {
			return fmt.Errorf("%+v", f)
		}
		return nil
	})
	for path, want := range map[string]string{
		"/.well-known/masque/udp/echo/8/":      `pillion; error=http_request_denied`,
		"/.well-known/masque/udp/echo/99/":     `pillion; error=destination_unavailable`,
		"/.well-known/masque/udp/elsewhere/7/": `pillion; error=destination_not_found`,
		"/elsewhere":                           `pillion; error=http_request_error`,
	} {
		if _, _, resp := open(path); resp.StatusCode < 400 || !strings.HasPrefix(resp.Header.Get("Proxy-Status"), want) {
			t.Errorf("%s: %d %q, want %s", path, resp.StatusCode, resp.Header.Get("Proxy-Status"), want)
		}
	}
}

// dnsMessage is the beginning of a query, or of a response.
func dnsMessage(id uint16, response bool) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	flags := uint16(0x0100)
	if response {
		flags = 0x8180
	}
	b = binary.BigEndian.AppendUint16(b, flags)
	return append(b, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1)
}

// An app that wants it is told with each datagram for whom it is.
func TestPairTellsTheClientOfADatagram(t *testing.T) {
	t.Parallel()
	app, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	_ = app.SetDeadline(time.Now().Add(20 * time.Second))
	free, ca := freeAddrs(t, 4), filepath.Join(t.TempDir(), "ca")
	startSidecar(t, fmt.Sprintf("service: dns\napp:\n  - {port: 53, to: %s, protocol: udp, proxy_protocol: v2}\npeer: {listen: %s}\noutbound: {listen: none}\nadmin: {listen: %s}\n"+
		"identity: {dev_ca: %s}\ndrain: 1s\n", app.LocalAddr(), free[0], free[1], ca))
	startSidecar(t, fmt.Sprintf("service: web\npeer: {listen: none}\noutbound: {listen: none}\nadmin: {listen: %s}\nidentity: {dev_ca: %s}\ndrain: 1s\n"+
		"services:\n  dns: {endpoints: %s, listen: %s, protocol: udp}\n", free[2], ca, free[0], free[3]))
	c := udpClient(t, free[3])
	for i := range 3 {
		question := dnsMessage(uint16(i), false)
		if _, err := c.Write(question); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 2000)
		n, from, err := app.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		size := 16 + int(binary.BigEndian.Uint16(b[14:]))
		h, err := proxyproto.Parse(b[:size])
		client := c.LocalAddr().(*net.UDPAddr).AddrPort()
		if err != nil || !h.Datagram || h.Src != client || h.Identity != "spiffe://pillion.local/web" || !bytes.Equal(b[size:n], question) {
			t.Fatalf("got %+v, %v, and %d bytes; want the client %v", h, err, n-size, client)
		}
		if _, err := app.WriteTo(dnsMessage(uint16(i), true), from); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(b); err != nil || !bytes.Equal(b[:n], dnsMessage(uint16(i), true)) {
			t.Fatalf("got %q, %v; want the answer alone", b[:n], err)
		}
	}
	eventually(t, "an answered question is forgotten long before its minute is over", func() error {
		if f := flowsOf(statusOf(t, free[2]), "dns"); f.Open != 0 {
			return fmt.Errorf("%+v", f)
		}
		return nil
	})
}

// lossy is a network between two sockets that loses what it is told to.
type lossy struct {
	front *net.UDPConn // to the client
	back  net.Conn     // to the server
	lose  atomic.Int64 // so many of the large packets from the client are still to be lost
	lost  atomic.Int64
}

// Between these sizes, in bytes, are packets with the test's datagrams: those of control are smaller, those that look for the path's MTU are larger.
const largePacket, largestPacket = 1000, 1190

// newLossy leads to server, for one client.
func newLossy(t *testing.T, server string) *lossy {
	t.Helper()
	front, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	back, err := net.Dial("udp", server)
	if err != nil {
		t.Fatal(err)
	}
	l := &lossy{front: front.(*net.UDPConn), back: back}
	var running sync.WaitGroup
	var client atomic.Value
	running.Go(func() {
		b := make([]byte, 64<<10)
		for {
			n, from, err := front.ReadFrom(b)
			if err != nil {
				return
			}
			client.Store(from)
			if n > largePacket && n < largestPacket && l.lose.Add(-1) >= 0 {
				l.lost.Add(1)
				continue
			}
			_, _ = back.Write(b[:n])
		}
	})
	running.Go(func() {
		b := make([]byte, 64<<10)
		for {
			n, err := back.Read(b)
			if err != nil && strings.Contains(err.Error(), "closed") {
				return
			}
			if to, ok := client.Load().(net.Addr); ok && n > 0 {
				_, _ = front.WriteTo(b[:n], to)
			}
		}
	})
	t.Cleanup(func() {
		front.Close()
		back.Close()
		running.Wait()
	})
	return l
}

// Over QUIC a datagram that is lost stays lost, and delays nothing: what is sent after it arrives without it.
func TestLostDatagramDelaysNothing(t *testing.T) {
	app, _ := udpEcho(t, "127.0.0.1:0")
	free, ca := freeAddrs(t, 4), filepath.Join(t.TempDir(), "ca")
	startSidecar(t, fmt.Sprintf("service: api\napp: [{port: 7, to: %s, protocol: udp}]\npeer: {listen: %s}\noutbound: {listen: none}\nadmin: {listen: %s}\n"+
		"identity: {dev_ca: %s}\ndrain: 1s\n", app, free[0], free[1], ca))
	network := newLossy(t, free[0])
	startSidecar(t, fmt.Sprintf("service: web\npeer: {listen: none}\noutbound: {listen: none}\nadmin: {listen: %s}\nidentity: {dev_ca: %s}\ndrain: 1s\n"+
		"services:\n  api: {endpoints: %s, listen: %s, protocol: udp, transport: quic}\n", free[2], ca, network.front.LocalAddr(), free[3]))
	c := udpClient(t, free[3])
	text := func(what string) string { return what + strings.Repeat(".", largePacket+50) }
	if err := ask(c, text("first")); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		network.lose.Store(1)
		if _, err := io.WriteString(c, text(fmt.Sprint("lost ", i))); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is lost", func() error {
			if network.lost.Load() != int64(i+1) {
				return fmt.Errorf("%d are lost", network.lost.Load())
			}
			return nil
		})
		next := text(fmt.Sprint("next ", i))
		if _, err := io.WriteString(c, next); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		b := make([]byte, 64<<10)
		for {
			n, err := c.Read(b)
			if err != nil {
				t.Fatalf("%.6s: %v", next, err)
			}
			if strings.HasPrefix(string(b[:n]), "lost") {
				t.Fatalf("%.6s was sent again", b[:n])
			}
			if string(b[:n]) == next {
				break // anything else is a late echo of the first
			}
		}
	}
}
