//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// trustDomain is that of every test.
const trustDomain = "e2e.test"

// authority is a throw-away CA.
type authority struct {
	t      *testing.T
	dir    string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

// leaf is what a certificate says; zero fields are the usual.
type leaf struct {
	name      string
	uris      []string      // default: spiffe://e2e.test/<name>
	host      string        // the name of a server, for clients that know no SPIFFE IDs; default: localhost
	notBefore time.Duration // from now; default: a minute ago
	notAfter  time.Duration // from now; default: a day ahead
}

// files are where a certificate, its key and the roots lie.
type files struct{ cert, key, roots string }

// newAuthority makes a CA.
func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, dir: t.TempDir(), key: key, serial: 1}
	tmpl := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "e2e " + a.dir},
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: trustDomain}},
		NotBefore:             time.Now().Add(-48 * time.Hour),
		NotAfter:              time.Now().Add(48 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	writePEM(t, a.roots(), "CERTIFICATE", der)
	return a
}

// roots is the file with the CA's certificate.
func (a *authority) roots() string { return filepath.Join(a.dir, "roots.pem") }

// issue writes a certificate and its key.
func (a *authority) issue(l leaf) files {
	a.t.Helper()
	if l.uris == nil {
		l.uris = []string{"spiffe://" + trustDomain + "/" + l.name}
	}
	if l.notBefore == 0 {
		l.notBefore = -time.Minute
	}
	if l.notAfter == 0 {
		l.notAfter = 24 * time.Hour
	}
	if l.host == "" {
		l.host = "localhost"
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.serial++
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(a.serial),
		Subject:      pkix.Name{CommonName: l.name},
		DNSNames:     []string{l.host},
		NotBefore:    time.Now().Add(l.notBefore),
		NotAfter:     time.Now().Add(l.notAfter),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, s := range l.uris {
		u, err := url.Parse(s)
		if err != nil {
			a.t.Fatal(err)
		}
		tmpl.URIs = append(tmpl.URIs, u)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	base := filepath.Join(a.dir, fmt.Sprintf("%d-%s", a.serial, l.name))
	f := files{cert: base + ".crt", key: base + ".key", roots: a.roots()}
	writePEM(a.t, f.cert, "CERTIFICATE", der)
	writePEM(a.t, f.key, "PRIVATE KEY", keyDER)
	return f
}

// tls is the configuration of a client of a peer port.
func (f files) tls(t *testing.T) *tls.Config {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		Certificates:       []tls.Certificate{cert},
		InsecureSkipVerify: true, // the test is about what the peer port accepts
		NextProtos:         []string{"h2"},
		MinVersion:         tls.VersionTLS13,
	}
}

// writePEM writes a file that only its owner reads.
func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
