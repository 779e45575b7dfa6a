package http3

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/quic-go/quic-go"
)

// patience bounds every wait. Only a failure takes that long.
const patience = 30 * time.Second

// certificates makes the TLS configurations of a server that is localhost, and of a client that trusts it.
func certificates(t testing.TB, alpn string) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	server = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{alpn}}
	client = &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: []string{alpn}}
	return server, client
}

// udp opens a socket on loopback, closed when the test ends.
func udp(t testing.TB) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// network is two QUIC transports; closed by close.
type network struct {
	t              testing.TB
	server, client *quic.Transport
	listener       *quic.EarlyListener
	serverTLS      *tls.Config
	clientTLS      *tls.Config
}

func newNetwork(t testing.TB, server *quic.Config) *network {
	t.Helper()
	serverTLS, clientTLS := certificates(t, ALPN)
	n := &network{t: t, server: &quic.Transport{Conn: udp(t)}, client: &quic.Transport{Conn: udp(t)}, serverTLS: serverTLS, clientTLS: clientTLS}
	var err error
	if n.listener, err = n.server.ListenEarly(serverTLS, server); err != nil {
		t.Fatal(err)
	}
	return n
}

// connect makes both ends of a connection, its handshake complete.
func (n *network) connect(client *quic.Config) (server, clientEnd *quic.Conn) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	clientEnd, err := n.client.Dial(ctx, n.listener.Addr(), n.clientTLS, client)
	if err != nil {
		n.t.Fatal(err)
	}
	if server, err = n.listener.Accept(ctx); err != nil {
		n.t.Fatal(err)
	}
	select {
	case <-server.HandshakeComplete():
	case <-ctx.Done():
		n.t.Fatal("no handshake")
	}
	return server, clientEnd
}

func (n *network) close() {
	n.listener.Close()
	n.client.Close()
	n.server.Close()
	n.client.Conn.Close()
	n.server.Conn.Close()
}

// goroutines runs f on the runtime of goroutines, and checks that nothing is left over.
func goroutines(t *testing.T, f func(t *testing.T, s task.Shard)) {
	t.Helper()
	proxytest.Goroutines(t)
	rt := task.NewGoroutines(task.Config{Loops: 1, Logger: proxytest.Logger(t)})
	stop := proxytest.Start(t, rt)
	f(t, rt.Shards()[0])
	stop()
	proxytest.Eventually(t, "no tasks and buffers are left", func() bool {
		st := rt.Stats()
		return st.Tasks == 0 && st.Buffers == 0
	})
	if n := rt.Stats().Panics; n > 0 {
		t.Errorf("%d panics", n)
	}
}

// link is a client Conn and a server Conn over loopback, both served by tasks.
type link struct {
	t              testing.TB
	s              task.Shard
	net            *network
	client, server *Conn
	ended          chan error // Serve's results
}

func newLink(t testing.TB, s task.Shard, server, client Config) *link {
	t.Helper()
	l := &link{t: t, s: s, net: newNetwork(t, server.QUIC()), ended: make(chan error, 2)}
	a, b := l.net.connect(client.QUIC())
	l.server = NewServer(s, a, server)
	l.client = NewClient(s, b, client)
	s.Go(func() { l.ended <- l.server.Serve() })
	s.Go(func() { l.ended <- l.client.Serve() })
	return l
}

// close ends both and waits.
func (l *link) close() {
	l.t.Helper()
	l.client.Close()
	l.server.Close()
	for range 2 {
		select {
		case <-l.ended:
		case <-time.After(patience):
			l.t.Fatal("Serve does not return")
		}
	}
	l.net.close()
}

type handler = proxy.RoundTripperFunc

// content is a Body made of parts, each returned by one Read after an optional wait.
type parts struct {
	parts    [][]byte
	wait     func(i int)
	i        int
	err      error // after the last part, io.EOF if nil
	trailers proxy.Fields
	closed   bool
}

func (b *parts) Read(p []byte) (int, error) {
	if b.i == len(b.parts) {
		if b.err != nil {
			return 0, b.err
		}
		return 0, io.EOF
	}
	if b.wait != nil {
		b.wait(b.i)
	}
	n := copy(p, b.parts[b.i])
	if b.parts[b.i] = b.parts[b.i][n:]; len(b.parts[b.i]) == 0 {
		b.i++
	}
	return n, nil
}

func (b *parts) Buffered() int {
	if b.wait != nil {
		return 0
	}
	n := 0
	for _, p := range b.parts[b.i:] {
		n += len(p)
	}
	if n == 0 && b.err == nil {
		return -1
	}
	return n
}
func (b *parts) Trailers() proxy.Fields { return b.trailers }
func (b *parts) Close() error           { b.closed = true; return nil }

func text(s string) *parts { return &parts{parts: [][]byte{[]byte(s)}} }

// readAll reads a body to its end.
func readAll(b proxy.Body) (string, error) {
	if b == nil {
		return "", nil
	}
	var out bytes.Buffer
	p := make([]byte, 4096)
	for {
		n, err := b.Read(p)
		out.Write(p[:n])
		if err == io.EOF {
			return out.String(), nil
		}
		if err != nil {
			return out.String(), err
		}
	}
}

func get(path string) *proxy.Request {
	return &proxy.Request{Method: "GET", Scheme: "https", Authority: "orders", Path: path, Cancel: new(proxy.Cancel)}
}

func post(path string, body proxy.Body, length int64) *proxy.Request {
	r := get(path)
	r.Method, r.Body, r.Length = "POST", body, length
	return r
}

// echo answers with the content of the request.
func echo(req *proxy.Request, resp *proxy.Response) error {
	s, err := readAll(req.Body)
	if err != nil {
		return err
	}
	resp.Status, resp.Length = 200, int64(len(s))
	if s != "" {
		resp.Body = text(s)
	}
	resp.Fields.Add("Got", req.Path)
	return nil
}
