package mtls

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
)

// Reason names why a certificate is refused. It is stable: a label in metrics and a word in logs.
type Reason string

// The reasons.
const (
	Missing            Reason = "missing"              // the peer showed no certificate
	NoIdentity         Reason = "no_identity"          // it has no URI SAN
	DoublyNamed        Reason = "doubly_named"         // it has more than one URI SAN
	Malformed          Reason = "malformed"            // its URI SAN is not a SPIFFE ID of a workload
	ForeignTrustDomain Reason = "foreign_trust_domain" // its SPIFFE ID is of another trust domain
	WrongIdentity      Reason = "wrong_identity"       // it is valid, but another was expected
	Expired            Reason = "expired"              // it, or its issuer, is past its end
	NotYetValid        Reason = "not_yet_valid"        // it, or its issuer, is before its beginning
	SelfSigned         Reason = "self_signed"          // it vouches for itself
	Untrusted          Reason = "untrusted"            // no chain leads to one of our roots
	CALeaf             Reason = "ca_as_leaf"           // it may sign certificates, so it cannot name a workload
	WrongUsage         Reason = "wrong_usage"          // its (extended) key usage forbids this side of TLS
)

// CertificateError says why a certificate is refused. The text is one sentence, fit for a log line.
type CertificateError struct {
	Reason Reason
	// Identity is who the certificate claims to be, "" if it does not say. It is a claim and proves nothing.
	Identity proxy.Identity
	// Detail is the sentence without its subject.
	Detail string
}

// Error returns the sentence.
func (e *CertificateError) Error() string {
	if e.Reason == Missing {
		return e.Detail
	}
	if e.Identity == "" {
		return "certificate refused: " + e.Detail
	}
	return fmt.Sprintf("certificate of %s refused: %s", e.Identity, e.Detail)
}

// RefusedError is what Explain makes of a peer's alert about our own certificate.
type RefusedError struct {
	// Identity is ours.
	Identity proxy.Identity
	// Detail says what may be wrong with our certificate, as far as can be seen from here.
	Detail string
	// Err is the alert.
	Err error
}

// Error returns one sentence.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("the peer refused our certificate (%s): %s: %v", e.Identity, e.Detail, e.Err)
}

// Unwrap returns the alert.
func (e *RefusedError) Unwrap() error { return e.Err }

// Explain makes a *RefusedError of an error of a handshake, or of the first read after it, by which the peer
// said that it does not accept our certificate; it returns any other error as it is. In TLS 1.3 a client's
// handshake ends before the server has looked at its certificate, so that such an alert comes with the first read.
func (s *Source) Explain(err error) error {
	if !isCertificateAlert(err) {
		return err
	}
	m := s.current.Load()
	detail := "it is valid here until " + stamp(m.leaf.NotAfter) + "; the peer's log says why"
	if bad := m.check(s.now()); bad != nil {
		detail = bad.Detail
	}
	return &RefusedError{Identity: m.identity, Detail: detail, Err: err}
}

// isCertificateAlert knows the alerts by their text, because crypto/tls does not export their type.
func isCertificateAlert(err error) bool {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
		return false
	}
	text := op.Err.Error()
	return strings.Contains(text, "certificate") || strings.Contains(text, "access denied")
}
