package tlsconn

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// patience bounds the waits of these tests.
const patience = 20 * time.Second

// configs returns a client's and a server's configuration that trust each other.
func configs(t testing.TB) (client, server *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
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
	client = &tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS13, DynamicRecordSizingDisabled: true}
	server = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		MinVersion:   tls.VersionTLS13, DynamicRecordSizingDisabled: true, SessionTicketsDisabled: true,
	}
	return client, server
}

// pair returns a server's Conn on s and a tls.Conn that is its client, whose deadline bounds the test.
func pair(t testing.TB, s task.Shard) (*Conn, *tls.Conn) {
	t.Helper()
	client, server := configs(t)
	return pairOf(t, s, client, server)
}

func pairOf(t testing.TB, s task.Shard, client, server *tls.Config) (*Conn, *tls.Conn) {
	t.Helper()
	a, b := proxytest.NetPair(t, "tcp", "127.0.0.1:0")
	b.SetDeadline(time.Now().Add(patience))
	peer := tls.Client(b, client)
	done := make(chan error, 1)
	go func() { done <- peer.Handshake() }()
	c := attach(t, s, a, server)
	if err := <-done; err != nil {
		t.Fatalf("client handshake: %v", err)
	}
	return c, peer
}

// attach runs the server's handshake over a and puts the result on s.
func attach(t testing.TB, s task.Shard, a net.Conn, server *tls.Config) *Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	h, err := Server(ctx, a, server)
	if err != nil {
		t.Fatalf("server handshake: %v", err)
	}
	var c *Conn
	proxytest.Call(t, s, func() { c, err = h.Attach(s) })
	if err != nil {
		t.Fatalf("attach: %v", err)
	}
	t.Cleanup(func() { s.Post(func() { c.Close() }) })
	return c
}
