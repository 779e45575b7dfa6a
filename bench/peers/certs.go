package peers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// writeCerts makes a throw-away CA and, for each name, a workload's certificate of it: dir/roots.pem, dir/NAME.crt,
// dir/NAME.key, and dir/NAME.pem with both, as HAProxy wants them. The SPIFFE IDs are spiffe://bench.test/NAME.
func writeCerts(dir string, names ...string) error {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ca := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "bench"},
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: "bench.test"}},
		NotBefore:             time.Now().Add(-time.Minute),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, "roots.pem"), block{"CERTIFICATE", der}); err != nil {
		return err
	}
	for i, name := range names {
		if err := writeLeaf(dir, name, int64(i+2), ca, caKey); err != nil {
			return fmt.Errorf("certificate of %s: %w", name, err)
		}
	}
	return nil
}

// writeLeaf writes the certificate and key of name.
func writeLeaf(dir, name string, serial int64, ca *x509.Certificate, caKey *ecdsa.PrivateKey) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		URIs:         []*url.URL{{Scheme: "spiffe", Host: "bench.test", Path: "/" + name}},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:     []string{name}, // for the peers that compare no SPIFFE ID
		NotBefore:    ca.NotBefore,
		NotAfter:     ca.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	cert, priv := block{"CERTIFICATE", der}, block{"PRIVATE KEY", keyDER}
	path := filepath.Join(dir, name)
	if err := writePEM(path+".crt", cert); err != nil {
		return err
	}
	if err := writePEM(path+".key", priv); err != nil {
		return err
	}
	return writePEM(path+".pem", cert, priv)
}

// block is one PEM block.
type block struct {
	kind string
	der  []byte
}

// writePEM writes blocks to a file that only its owner reads.
func writePEM(path string, blocks ...block) error {
	var out []byte
	for _, b := range blocks {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: b.kind, Bytes: b.der})...)
	}
	return os.WriteFile(path, out, 0o600)
}
