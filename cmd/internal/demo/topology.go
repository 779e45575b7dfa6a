package demo

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// trustDomain is the one of the throw-away CA.
const trustDomain = "demo.example"

// The ports that the sidecars' peers ask for. They are names: nothing listens on them.
const (
	httpPort   = 80
	ledgerPort = 50051
	linesPort  = 7
	bannerPort = 25
	dgramPort  = linesPort // the same number, over UDP
)

// topology is where everything of one demo listens, by what for: "web http", "orders peer", "billing shop".
type topology struct {
	addr map[string]netip.AddrPort
	dir  string
}

// sidecarPorts are the ports that each sidecar opens.
var sidecarPorts = map[string][]string{
	web:     {"peer", "outbound", "admin", "ledger"},
	orders:  {"peer", "outbound", "admin", "lines", "banner", "datagrams"},
	billing: {"peer", "outbound", "admin", "shop"},
}

func (t *topology) at(app, use string) string { return t.addr[app+" "+use].String() }

// choosePorts finds free ports for the sidecars. They lie below the range from which systems take the ports of
// outgoing connections, so that only another server can be faster; then the demo starts again with others.
func (t *topology) choosePorts() error {
	const low, high = 20000, 32000
	taken := make(map[uint16]bool)
	for _, app := range []string{web, orders, billing} {
		for _, use := range sidecarPorts[app] {
			port, err := freePort(func() uint16 { return uint16(low + rand.IntN(high-low)) }, taken)
			if err != nil {
				return err
			}
			t.addr[app+" "+use] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
		}
	}
	return nil
}

// freePort returns a port of 127.0.0.1 that is free for TCP and UDP.
func freePort(next func() uint16, taken map[uint16]bool) (uint16, error) {
	var last error
	for range 100 {
		port := next()
		if taken[port] {
			continue
		}
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			last = err
			continue
		}
		l.Close()
		p, err := net.ListenPacket("udp", addr)
		if err != nil {
			last = err
			continue
		}
		p.Close()
		taken[port] = true
		return port, nil
	}
	return 0, fmt.Errorf("find a free port on 127.0.0.1: %w", last)
}

// write writes the sidecars' files into dir and returns their paths by app.
func (t *topology) write() (map[string]string, error) {
	files := make(map[string]string)
	for app, text := range map[string]string{web: t.webYAML(), orders: t.ordersYAML(), billing: t.billingYAML()} {
		files[app] = filepath.Join(t.dir, app+".yaml")
		if err := os.WriteFile(files[app], []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// transports are what the links of each sidecar run over: all that there is.
var transports = map[string]string{web: "auto", orders: "quic", billing: "auto"}

// head is what the three files have in common.
func (t *topology) head(app string, ports ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "service: %s\n\napp:\n", app)
	for _, p := range ports {
		fmt.Fprintf(&b, "  - %s\n", p)
	}
	fmt.Fprintf(&b, "\npeer: {listen: %s, transport: %s}\noutbound: {listen: %s}\nadmin: {listen: %s}\nidentity: {dev_ca: ca, trust_domain: %s}\ndrain: 2s\n\nservices:\n",
		t.at(app, "peer"), transports[app], t.at(app, "outbound"), t.at(app, "admin"), trustDomain)
	return b.String()
}

func (t *topology) webYAML() string {
	return t.head(web, fmt.Sprintf("{port: %d, to: %s}", httpPort, t.at(web, "http"))) +
		fmt.Sprintf("  orders: %s\n", t.at(orders, "peer")) +
		fmt.Sprintf("  orders-hurried: {endpoints: %s, identity: orders, timeout: 150ms}\n", t.at(orders, "peer")) +
		fmt.Sprintf("  ledger: {endpoints: %s, identity: orders, port: %d, listen: %s}\n", t.at(orders, "peer"), ledgerPort, t.at(web, "ledger"))
}

func (t *topology) ordersYAML() string {
	peer := t.at(billing, "peer")
	return t.head(orders,
		fmt.Sprintf("{port: %d, to: %s}", httpPort, t.at(orders, "http")),
		fmt.Sprintf("{port: %d, to: %s, protocol: h2c, allow: [web]}", ledgerPort, t.at(orders, "grpc"))) +
		fmt.Sprintf("  billing: %s\n", peer) +
		fmt.Sprintf("  lines: {endpoints: %s, identity: billing, port: %d, listen: %s, protocol: tcp}\n", peer, linesPort, t.at(orders, "lines")) +
		fmt.Sprintf("  banner: {endpoints: %s, identity: billing, port: %d, listen: %s}\n", peer, bannerPort, t.at(orders, "banner")) +
		fmt.Sprintf("  datagrams: {endpoints: %s, identity: billing, port: %d, listen: %s, protocol: udp}\n", peer, dgramPort, t.at(orders, "datagrams"))
}

func (t *topology) billingYAML() string {
	return t.head(billing,
		fmt.Sprintf("{port: %d, to: %s}", httpPort, t.at(billing, "http")),
		fmt.Sprintf("{port: %d, to: %s, protocol: tcp}", linesPort, t.at(billing, "lines")),
		fmt.Sprintf("{port: %d, to: %s, protocol: udp}", dgramPort, t.at(billing, "datagrams")),
		fmt.Sprintf("{port: %d, to: %s}", bannerPort, t.at(billing, "banner"))) +
		fmt.Sprintf("  web: {endpoints: %s, listen: %s}\n", t.at(web, "peer"), t.at(billing, "shop")) +
		fmt.Sprintf("  orders: %s\n", t.at(orders, "peer"))
}

// targets returns where the traffic goes.
func (t *topology) targets() Targets {
	outbound := t.at(web, "outbound")
	return Targets{
		Shop:    "http://" + t.at(billing, "shop"),
		Proxy:   "http://" + outbound,
		Orders:  "http://orders",
		Hurried: "http://orders-hurried",
		Ledger: map[string]Authority{
			"port": {Addr: t.at(web, "ledger")},
			"host": {Addr: outbound, Name: fmt.Sprintf("orders:%d", ledgerPort)},
		},
		Stranger:    "http://" + t.at(billing, "outbound"),
		Lines:       t.at(orders, "lines"),
		Banner:      t.at(orders, "banner"),
		Datagrams:   t.at(orders, "datagrams"),
		TrustDomain: trustDomain,
	}
}
