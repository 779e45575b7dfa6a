package mtls

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
)

// Material is what a Source holds, as PEM. Cert is the leaf, then its intermediates.
type Material struct{ Cert, Key, Roots []byte }

func (m Material) equal(o Material) bool {
	return bytes.Equal(m.Cert, o.Cert) && bytes.Equal(m.Key, o.Key) && bytes.Equal(m.Roots, o.Roots)
}

// material is one consistent set of certificate, key and roots. It never changes.
type material struct {
	pem         Material
	cert        tls.Certificate
	leaf        *x509.Certificate
	chain       []*x509.Certificate
	identity    proxy.Identity
	trustDomain string
	roots       []*x509.Certificate
	rootPool    *x509.CertPool
	loaded      time.Time
}

// parse makes material of PEM and checks that it is consistent and usable now, on both sides of TLS.
// trustDomain "" means that of the certificate.
func parse(p Material, trustDomain string, now time.Time) (*material, error) {
	m := &material{pem: p, loaded: now, rootPool: x509.NewCertPool()}
	var err error
	if m.roots, err = certificates(p.Roots); err != nil {
		return nil, fmt.Errorf("roots: %w", err)
	}
	for _, c := range m.roots {
		m.rootPool.AddCert(c)
	}
	if m.chain, err = certificates(p.Cert); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	if m.cert, err = tls.X509KeyPair(p.Cert, p.Key); err != nil {
		return nil, fmt.Errorf("certificate and key: %w", err)
	}
	m.leaf = m.chain[0]
	id, bad := identityOf(m.leaf)
	if bad != nil {
		return nil, bad
	}
	m.identity, m.trustDomain = id, trustDomain
	if trustDomain == "" {
		m.trustDomain = id.TrustDomain()
	}
	if bad := m.check(now); bad != nil {
		return nil, bad
	}
	return m, nil
}

// check says what a peer with the same roots would hold against our own certificate.
func (m *material) check(now time.Time) *CertificateError {
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, bad := m.verify(m.chain, usage, now); bad != nil {
			return bad
		}
	}
	return nil
}

// warnAt is when to begin warning of the end: one fifth of the lifetime before it, or seven days if that is less.
func (m *material) warnAt() time.Time {
	lifetime := m.leaf.NotAfter.Sub(m.leaf.NotBefore)
	return m.leaf.NotAfter.Add(-min(lifetime/5, 7*24*time.Hour))
}

// certificates parses every certificate of a PEM file, which must hold at least one.
func certificates(data []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse certificate %d: %w", len(all)+1, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("no CERTIFICATE block in the PEM")
	}
	return all, nil
}

// Fingerprint is the SHA-256 of a certificate in lower-case hex.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}
