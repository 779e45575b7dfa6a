package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Targets is where the traffic goes. Every address is a local one: the driver plays a visitor, and an
// app beside web's sidecar.
type Targets struct {
	// Shop is the URL of web as a visitor reaches it.
	Shop string
	// Proxy is web's outbound port as a URL, for HTTP_PROXY. If empty, Orders is called directly.
	Proxy string
	// Orders is the base URL of orders: a name where there is a Proxy.
	Orders string
	// Hurried is orders under a name whose calls have 150 ms. If empty, there is none.
	Hurried string
	// Ledger are the host:port and the :authority at which the gRPC side of orders answers, by way: "port", "host".
	Ledger map[string]Authority
	// Stranger is the outbound port of a sidecar that the ledger does not let in, as a URL. If empty, there is none.
	Stranger string
	// Lines and Banner are the host:port of billing's two TCP ports.
	Lines, Banner string
	// Datagrams is the host:port of billing's UDP port.
	Datagrams string
	// TrustDomain is whose identities must be seen by the apps. If empty, none is expected.
	TrustDomain string
}

// Authority is an address to dial and the name to ask for there.
type Authority struct{ Addr, Name string }

// The groups of the status line. Their order is its order.
var groups = []string{"http", "ws", "grpc", "sse", "tcp", "udp", "faults"}

// probe sends and checks one kind of traffic.
type probe struct {
	kind  string        // as in the final table
	group string        // as in the status line
	every time.Duration // pause between two
	// run does it once; the error says what was wrong with the answer. It is called by one goroutine.
	run func(ctx context.Context) error
}

// probeTimeout bounds one run of a probe.
const probeTimeout = 10 * time.Second

// driver holds what the probes share.
type driver struct {
	t       Targets
	visitor *http.Client // to the shop
	app     *http.Client // with HTTP_PROXY
	fresh   *http.Client // the same, a connection for each request
	outside *http.Client // with the Stranger's HTTP_PROXY
	ledgers []*rpcClient
}

// newDriver makes the clients; nothing is dialled yet.
func newDriver(t Targets) (*driver, error) {
	d := &driver{t: t}
	proxy, err := httpProxy(t.Proxy)
	if err != nil {
		return nil, err
	}
	stranger, err := httpProxy(t.Stranger)
	if err != nil {
		return nil, err
	}
	d.outside = &http.Client{Transport: &http.Transport{Proxy: stranger}}
	d.visitor = &http.Client{Transport: &http.Transport{}}
	d.app = &http.Client{Transport: &http.Transport{Proxy: proxy}}
	d.fresh = &http.Client{Transport: &http.Transport{Proxy: proxy, DisableKeepAlives: true}}
	for _, a := range t.Ledger {
		d.ledgers = append(d.ledgers, newRPCClient(a))
	}
	return d, nil
}

// httpProxy is what http.Transport wants for an HTTP_PROXY, which may be "".
func httpProxy(at string) (func(*http.Request) (*url.URL, error), error) {
	if at == "" {
		return nil, nil
	}
	u, err := url.Parse(at)
	return http.ProxyURL(u), err
}

// close ends the clients' connections.
func (d *driver) close() {
	for _, c := range []*http.Client{d.visitor, d.app, d.fresh, d.outside} {
		c.CloseIdleConnections()
	}
	for _, c := range d.ledgers {
		c.close()
	}
}

// probes returns one probe for each kind of traffic.
func (d *driver) probes() []probe {
	ms := time.Millisecond
	return []probe{
		{"http chain", "http", 50 * ms, d.chain},
		{"http echo", "http", 50 * ms, d.echo},
		{"http chunked", "http", 100 * ms, d.chunked},
		{"http trailers", "http", 100 * ms, d.trailers},
		{"http upgrade", "http", 100 * ms, d.upgrade},
		{"websocket", "ws", 100 * ms, d.webSocket},
		{"grpc unary", "grpc", 50 * ms, d.unary},
		{"grpc client stream", "grpc", 100 * ms, d.clientStream},
		{"grpc server stream", "grpc", 100 * ms, d.serverStream},
		{"grpc bidi", "grpc", 100 * ms, d.bidi},
		{"sse", "sse", 200 * ms, d.events},
		{"tcp lines", "tcp", 100 * ms, d.lines},
		{"tcp banner", "tcp", 100 * ms, d.banner},
		{"udp echo", "udp", 50 * ms, d.datagrams},
		{"slow app", "faults", 500 * ms, d.slowApp},
		{"timeout", "faults", 500 * ms, d.timeout},
		{"app closes", "faults", 500 * ms, d.appCloses},
		{"answer cut short", "faults", 500 * ms, d.answerCut},
		{"caller denied", "faults", 500 * ms, d.denied},
		{"unknown service", "faults", 500 * ms, d.unknownService},
	}
}

// identity is what an app must have been told about its caller.
func (d *driver) identity(name string) string {
	if d.t.TrustDomain == "" {
		return ""
	}
	return "spiffe://" + d.t.TrustDomain + "/" + name
}

// checkCaller compares who an app was told had called with who did.
func (d *driver) checkCaller(app, got, caller string) error {
	if want := d.identity(caller); got != want {
		return fmt.Errorf("%s was told that %q called, not %q", app, got, want)
	}
	return nil
}

// payload returns n random bytes.
func payload(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// oneLine makes s fit into a message.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	if s == "" {
		return "(nothing)"
	}
	return s
}
