package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy/proxyproto"
	"github.com/pillion-proxy/pillion/proxy/socks"
)

// TestSOCKSToAddresses: a client of SOCKS that has looked up a name by itself reaches the service of which that is an address.
func TestSOCKSToAddresses(t *testing.T) {
	p := startPair(t, "auto", http.NotFoundHandler())
	local := netip.MustParseAddrPort(p.echo)
	for what, x := range map[string]struct {
		to    netip.AddrPort
		reply byte
	}{
		"the service's own port":       {local, 0},
		"the machine of two services":  {netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 7), 4},
		"an address that is no one's":  {netip.MustParseAddrPort("127.0.0.2:7"), 4},
		"the admin port of a sidecar":  {netip.MustParseAddrPort(p.adminA), 4},
		"the outbound port of itself":  {netip.MustParseAddrPort(p.outbound), 4},
		"an address of the other kind": {netip.MustParseAddrPort("[::1]:7"), 4},
	} {
		c, err := net.Dial("tcp", p.outbound)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(30 * time.Second))
		say := []byte("\x05\x01\x00\x05\x01\x00\x01")
		if x.to.Addr().Is6() {
			say[6] = 4
		}
		say = append(say, x.to.Addr().AsSlice()...)
		if _, err := c.Write(binary.BigEndian.AppendUint16(say, x.to.Port())); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(c)
		head := make([]byte, 12)
		if _, err := io.ReadFull(r, head); err != nil || head[3] != x.reply {
			t.Errorf("%s: got %q, %v, want reply %d", what, head, err, x.reply)
			continue
		}
		if x.reply != 0 {
			continue
		}
		if line, err := r.ReadString('\n'); line != "hello\n" {
			t.Errorf("%s: got %q, %v, want the greeting of the app", what, line, err)
		}
	}
}

// proxiedApp tells what the header says with which each of its connections begins, and echoes.
func proxiedApp(t *testing.T) string {
	t.Helper()
	return listenEach(t, func(c net.Conn) {
		var b []byte
		for {
			n, err := proxyproto.Need(b)
			if err != nil {
				fmt.Fprintln(c, err)
				return
			}
			if n == 0 {
				break
			}
			b = append(b, make([]byte, n)...)
			if _, err := io.ReadFull(c, b[len(b)-n:]); err != nil {
				return
			}
		}
		h, err := proxyproto.Parse(b)
		fmt.Fprintln(c, h.Src, h.Identity, err)
		_, _ = io.Copy(c, c)
	})
}

// TestProxyProtocol: the client that a load balancer names before A reaches the app behind B in B's header, through SOCKS and through a port of
// the service's own; one without a name is known by its sidecar's address.
func TestProxyProtocol(t *testing.T) {
	app, free := proxiedApp(t), freeAddrs(t, 6)
	outbound, port, adminA, adminB, peer, bare := free[0], free[1], free[2], free[3], free[4], free[5]
	socket := filepath.Join(t.TempDir(), "s")
	ca := filepath.Join(t.TempDir(), "ca")
	startSidecar(t, fmt.Sprintf("service: mail\napp: {port: 25, to: %s, protocol: tcp, proxy_protocol: v2}\n"+
		"peer: {listen: %s}\noutbound: {listen: none}\nadmin: {listen: %s}\nidentity: {dev_ca: %s}\n", app, peer, adminB, ca))
	startSidecar(t, fmt.Sprintf("service: edge\npeer: {listen: none}\nadmin: {listen: %s}\nidentity: {dev_ca: %s}\n"+
		"outbound: {listen: %s, proxy_protocol: {from: 127.0.0.1}}\nservices:\n"+
		"  mail: {endpoints: %s, listen: %s, proxy_protocol: {from: [127.0.0.0/8]}}\n"+
		"  post: {endpoints: %s, identity: mail, listen: %s}\n"+
		"  sock: {endpoints: %s, identity: mail, listen: 'unix:%s', proxy_protocol: {from: unix}}\n", adminA, ca, outbound, peer, port, peer, bare, peer, socket))
	const line = "PROXY TCP4 192.0.2.9 198.51.100.1 41234 25\r\n"
	for what, x := range map[string]struct{ network, address, say, skip, want string }{
		"a port":        {"tcp", port, line, "", "192.0.2.9:41234 spiffe://pillion.local/edge <nil>"},
		"SOCKS":         {"tcp", outbound, line + "\x05\x01\x00\x05\x01\x00\x03\x04mail\x00\x19", "\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00", "192.0.2.9:41234 spiffe://pillion.local/edge <nil>"},
		"CONNECT":       {"tcp", outbound, line + "CONNECT mail:25 HTTP/1.1\r\nHost: mail:25\r\nForwarded: for=\"1.2.3.4:5\"\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "192.0.2.9:41234 spiffe://pillion.local/edge <nil>"},
		"a socket":      {"unix", socket, line, "", "192.0.2.9:41234 spiffe://pillion.local/edge <nil>"},
		"no client":     {"tcp", port, "PROXY UNKNOWN\r\n", "", "127.0.0.1:"},
		"without wants": {"tcp", bare, "", "", "127.0.0.1:"},
	} {
		c, err := net.Dial(x.network, x.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := io.WriteString(c, x.say); err != nil {
			t.Fatal(err)
		}
		skipped := make([]byte, len(x.skip))
		if _, err := io.ReadFull(c, skipped); err != nil || string(skipped) != x.skip {
			t.Errorf("%s: got %q, %v, want %q", what, skipped, err, x.skip)
			continue
		}
		if got, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.HasPrefix(got, x.want) {
			t.Errorf("%s: the app was told %q, %v, want %q", what, got, err, x.want)
		}
	}
}

// TestSOCKSDatagrams: UDP ASSOCIATE reaches services by name, by the address of their own ports, with a sidecar and without, for as long as its connection lives.
func TestSOCKSDatagrams(t *testing.T) {
	p := startFlowPair(t, "auto", "60s")
	control, err := net.Dial("tcp", p.outbound)
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	control.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(control, "\x05\x01\x00\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00"); err != nil {
		t.Fatal(err)
	}
	reply := make([]byte, 12)
	if _, err := io.ReadFull(control, reply); err != nil || string(reply[:10]) != "\x05\x00\x05\x00\x00\x01\x7f\x00\x00\x01" {
		t.Fatalf("got %q, %v, want an association at 127.0.0.1", reply, err)
	}
	c := udpClient(t, fmt.Sprintf("127.0.0.1:%d", binary.BigEndian.Uint16(reply[10:])))
	at := func(s string) socks.Addr {
		a := netip.MustParseAddrPort(s)
		return socks.Addr{IP: a.Addr(), Port: a.Port()}
	}
	for _, to := range []socks.Addr{{Name: "echo", Port: 7}, {Name: "direct", Port: 7}, at(p.echo), at(p.direct), at(p.app)} {
		for _, text := range []string{"hello", "", strings.Repeat("long", 10_000)} {
			if err := ask(c, string(socks.AppendHeader(nil, to))+text); err != nil {
				t.Errorf("%v: %v", to, err)
			}
		}
	}
	for _, name := range []string{"echo", "direct"} {
		if f := flowsOf(statusOf(t, p.adminA), name); f == nil || f.Open < 2 || f.In < 6 || f.Out < 6 {
			t.Errorf("status counts %+v for %s, want the flows of SOCKS", f, name)
		}
	}
	control.Close()
	eventually(t, "status says that they have ended", func() error {
		for _, name := range []string{"echo", "direct"} {
			if f := flowsOf(statusOf(t, p.adminA), name); f.Open != 0 {
				return fmt.Errorf("%s: %+v", name, f)
			}
		}
		return nil
	})
	if _, err := c.Write(socks.AppendHeader(nil, socks.Addr{Name: "echo", Port: 7})); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the association ends with its connection", func() error {
		if _, err := c.Write([]byte("anybody?")); err == nil {
			return errors.New("the port is still open")
		}
		return nil
	})
}
