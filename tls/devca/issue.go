package devca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
)

// IssueOptions say how a certificate is to be. The zero value is what a sidecar issues for itself as it runs.
type IssueOptions struct {
	// For is the lifetime. If zero, DefaultLifetime; never longer than the CA's own.
	For time.Duration
	// NotBefore is its beginning. If zero, a minute ago.
	NotBefore time.Time
	// Hosts are names and addresses that the certificate is for besides, for clients that know nothing of identities. May be nil.
	Hosts []string
}

// Issue makes a key and a certificate for id, which must be of the CA's trust domain, good for both sides of TLS.
func (ca *CA) Issue(id proxy.Identity, o IssueOptions) (certPEM, keyPEM []byte, err error) {
	if _, err := proxy.ParseIdentity(string(id)); err != nil {
		return nil, nil, fmt.Errorf("issue certificate: %w", err)
	}
	if id.TrustDomain() != ca.trustDomain {
		return nil, nil, fmt.Errorf("issue certificate: %s is not of the CA's trust domain %q", id, ca.trustDomain)
	}
	if o.For < 0 {
		return nil, nil, fmt.Errorf("issue certificate: the lifetime %v is negative", o.For)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("issue certificate: %w", err)
	}
	template, err := ca.template(id, o)
	if err != nil {
		return nil, nil, fmt.Errorf("issue certificate: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return nil, nil, fmt.Errorf("issue certificate: %w", err)
	}
	if keyPEM, err = encodeKey(key); err != nil {
		return nil, nil, fmt.Errorf("issue certificate: %w", err)
	}
	return encodeCert(der), keyPEM, nil
}

func (ca *CA) template(id proxy.Identity, o IssueOptions) (*x509.Certificate, error) {
	uri, err := url.Parse(string(id))
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	if o.For == 0 {
		o.For = DefaultLifetime
	}
	now := ca.now()
	begin, end := o.NotBefore, now.Add(o.For)
	if begin.IsZero() {
		begin = now.Add(-skew)
	} else {
		end = begin.Add(o.For)
	}
	if end.After(ca.cert.NotAfter) {
		end = ca.cert.NotAfter
	}
	name := id.Name()
	if len(name) > 64 { // ub-common-name of RFC 5280
		name = name[:64]
	}
	cert := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{"pillion"}, CommonName: name},
		NotBefore:             begin.UTC().Truncate(time.Second),
		NotAfter:              end.UTC().Truncate(time.Second),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:                  []*url.URL{uri},
	}
	for _, h := range o.Hosts {
		if ip := net.ParseIP(h); ip != nil {
			cert.IPAddresses = append(cert.IPAddresses, ip)
		} else {
			cert.DNSNames = append(cert.DNSNames, h)
		}
	}
	return cert, nil
}
