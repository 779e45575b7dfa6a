package mtls

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
)

// identityOf returns the identity that a leaf certificate claims, by the rules that do not depend on who issued it.
//
// "An X.509 SVID MUST contain exactly one URI SAN" (X509-SVID section 2); "leaf certificates MUST have the cA field
// set to false" (4.1); "leaf SVIDs MUST NOT set keyCertSign or cRLSign" (4.3).
func identityOf(leaf *x509.Certificate) (proxy.Identity, *CertificateError) {
	id, bad := nameOf(leaf)
	const signs = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	switch {
	case leaf.IsCA || leaf.KeyUsage&signs != 0:
		return id, &CertificateError{Reason: CALeaf, Identity: id, Detail: fmt.Sprintf("%q may sign other certificates, so it cannot name a workload", clip(leaf.Subject.String()))}
	case bad != nil:
		return "", bad
	case leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return id, &CertificateError{Reason: WrongUsage, Identity: id, Detail: "its key usage does not allow digital signatures"}
	}
	return id, nil
}

// nameOf returns the one SPIFFE ID in the certificate.
func nameOf(leaf *x509.Certificate) (proxy.Identity, *CertificateError) {
	switch len(leaf.URIs) {
	case 0:
		return "", &CertificateError{Reason: NoIdentity, Detail: fmt.Sprintf("it names no workload: it has no URI SAN (its subject is %q)", clip(leaf.Subject.String()))}
	case 1:
	default:
		return "", &CertificateError{Reason: DoublyNamed, Detail: fmt.Sprintf("it has %d URI SANs instead of one, the first %q", len(leaf.URIs), clip(leaf.URIs[0].String()))}
	}
	id, err := proxy.ParseIdentity(leaf.URIs[0].String())
	if err != nil {
		return "", &CertificateError{Reason: Malformed, Detail: clip(err.Error())}
	}
	return id, nil
}

// verify checks a chain, leaf first, for one side of TLS and returns whose it is.
func (m *material) verify(chain []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) (proxy.Identity, *CertificateError) {
	if len(chain) == 0 {
		return "", &CertificateError{Reason: Missing, Detail: "the peer showed no certificate: only members of the mesh may connect"}
	}
	leaf := chain[0]
	id, bad := identityOf(leaf)
	if bad != nil {
		return id, bad
	}
	if domain := id.TrustDomain(); domain != m.trustDomain {
		return id, &CertificateError{Reason: ForeignTrustDomain, Identity: id,
			Detail: fmt.Sprintf("its trust domain %q is not ours, %q", domain, m.trustDomain)}
	}
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots:         m.rootPool,
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{usage},
	})
	if err != nil {
		reason, detail := explainChain(leaf, err, usage, now)
		return id, &CertificateError{Reason: reason, Identity: id, Detail: detail}
	}
	return id, nil
}

// explainChain turns x509's error into a Reason and a sentence.
func explainChain(leaf *x509.Certificate, err error, usage x509.ExtKeyUsage, now time.Time) (Reason, string) {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) {
		switch invalid.Reason {
		case x509.Expired:
			return explainTime(leaf, invalid.Cert, now)
		case x509.IncompatibleUsage:
			return WrongUsage, "its extended key usage does not allow TLS " + side(usage) + " authentication"
		}
		return Untrusted, clip(err.Error())
	}
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) && bytes.Equal(leaf.RawIssuer, leaf.RawSubject) && leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature) == nil {
		return SelfSigned, "it is signed by itself and not by one of our roots"
	}
	if errors.As(err, &unknown) {
		return Untrusted, fmt.Sprintf("its issuer %q leads to none of our roots; both sides need certificates of one CA: share the folder of the development CA (identity.dev_ca), or use \"pillion ca issue\"", clip(leaf.Issuer.String()))
	}
	return Untrusted, clip(err.Error())
}

func explainTime(leaf, cert *x509.Certificate, now time.Time) (Reason, string) {
	subject := "it"
	if cert != nil && !cert.Equal(leaf) {
		subject = fmt.Sprintf("its issuer %q", clip(cert.Subject.String()))
	} else {
		cert = leaf
	}
	if now.Before(cert.NotBefore) {
		return NotYetValid, fmt.Sprintf("%s is not valid before %s, and it is %s here: compare the clocks", subject, stamp(cert.NotBefore), stamp(now))
	}
	return Expired, fmt.Sprintf("%s expired at %s, %v ago", subject, stamp(cert.NotAfter), now.Sub(cert.NotAfter).Round(time.Second))
}

func side(usage x509.ExtKeyUsage) string {
	if usage == x509.ExtKeyUsageClientAuth {
		return "client"
	}
	return "server"
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// clip bounds text that a peer chose.
func clip(s string) string {
	const most = 300 // bytes
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
