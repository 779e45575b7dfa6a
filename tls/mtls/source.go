package mtls

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
)

// Config says where the certificate comes from.
type Config struct {
	// Cert, Key and Roots are the paths of PEM files: the leaf and its intermediates, the leaf's
	// private key, and the roots that every peer's chain must lead to.
	Cert, Key, Roots string
	// TrustDomain is ours. If empty, that of the certificate.
	TrustDomain string
	// Logger receives reloads, failures and warnings of expiry. If nil, nothing is logged.
	Logger *slog.Logger
	// Poll is how often Run looks at the files. If zero, 2 s.
	Poll time.Duration
	// Now is the time by which certificates are judged. If nil, time.Now.
	Now func() time.Time
}

// Issue makes a fresh certificate, its key and the roots. It may block until ctx ends.
type Issue func(ctx context.Context) (Material, error)

// Source is this process' certificate and its view of everybody else's. All methods are safe for concurrent use.
type Source struct {
	// Static after construction.
	conf  Config
	issue Issue // nil: from files, or fixed
	files bool

	current atomic.Pointer[material]

	mu      sync.Mutex // guards what follows
	lastErr error      // why the last reload or renewal failed, nil after one that succeeded
	errAt   time.Time
}

// New reads the files. It fails if they are not consistent, or if a peer would refuse the certificate.
func New(c Config) (*Source, error) {
	s := newSource(c)
	s.files = true
	p, err := s.read()
	if err != nil {
		return nil, err
	}
	m, err := parse(p, c.TrustDomain, s.now())
	if err != nil {
		return nil, fmt.Errorf("load identity from %s, %s and %s: %w", c.Cert, c.Key, c.Roots, err)
	}
	s.current.Store(m)
	return s, nil
}

// NewFromMemory holds p for ever; the paths in c are not looked at.
func NewFromMemory(p Material, c Config) (*Source, error) {
	s := newSource(c)
	m, err := parse(p, c.TrustDomain, s.now())
	if err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	s.current.Store(m)
	return s, nil
}

// NewIssued asks issue for the first certificate, and again while Run runs, at two thirds of each one's lifetime.
func NewIssued(ctx context.Context, issue Issue, c Config) (*Source, error) {
	s := newSource(c)
	s.issue = issue
	p, err := issue(ctx)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	m, err := parse(p, c.TrustDomain, s.now())
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	s.current.Store(m)
	return s, nil
}

func newSource(c Config) *Source {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Poll <= 0 {
		c.Poll = 2 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Source{conf: c}
}

// ClientConfig is for dialling one peer, which must prove to be exactly expect. Nobody satisfies an empty expect.
func (s *Source) ClientConfig(expect proxy.Identity) *tls.Config {
	c := s.config()
	// The chain is verified below, by SPIFFE's rules instead of those for host names. It happens on every
	// connection, for there is no resumption.
	c.InsecureSkipVerify = true
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &s.current.Load().cert, nil
	}
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		id, bad := s.current.Load().verify(cs.PeerCertificates, x509.ExtKeyUsageServerAuth, s.now())
		if bad != nil {
			return bad
		}
		if expect == "" || id != expect {
			return &CertificateError{Reason: WrongIdentity, Identity: id, Detail: fmt.Sprintf("expected %q at this address", expect)}
		}
		return nil
	}
	return c
}

// ServerConfig is for accepting peers: any of our trust domain; who it was, Identity says.
func (s *Source) ServerConfig() *tls.Config {
	c := s.config()
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return &s.current.Load().cert, nil
	}
	// RequestClientCert and not RequireAnyClientCert, so that a missing certificate is reported like every other
	// fault: VerifyConnection runs for each connection and refuses it.
	c.ClientAuth = tls.RequestClientCert
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		if _, bad := s.current.Load().verify(cs.PeerCertificates, x509.ExtKeyUsageClientAuth, s.now()); bad != nil {
			return bad
		}
		return nil
	}
	return c
}

// config holds what both sides share. The key exchange is Go's default, which is hybrid and post-quantum.
func (s *Source) config() *tls.Config {
	return &tls.Config{
		MinVersion:                  tls.VersionTLS13,
		NextProtos:                  []string{"h2"},
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
		Time:                        s.conf.Now,
	}
}

// Identity says who the other side of a connection made with one of our configs is. The chain was verified
// during the handshake, by the roots of that moment; only the name is read here.
func (s *Source) Identity(cs tls.ConnectionState) (proxy.Identity, error) {
	if !cs.HandshakeComplete || len(cs.PeerCertificates) == 0 {
		return "", &CertificateError{Reason: Missing, Detail: "the peer showed no certificate"}
	}
	id, bad := identityOf(cs.PeerCertificates[0])
	if bad != nil {
		return "", bad
	}
	return id, nil
}

// Self is our own identity. It never changes: a reload that would change it is refused.
func (s *Source) Self() proxy.Identity { return s.current.Load().identity }

// Derive makes a secret of our private key, another one for each label. It is the same as long as the key is.
func (s *Source) Derive(label string) ([32]byte, error) {
	var secret [32]byte
	key, err := x509.MarshalPKCS8PrivateKey(s.current.Load().cert.PrivateKey)
	if err != nil {
		return secret, fmt.Errorf("derive a secret: %w", err)
	}
	h := hmac.New(sha256.New, key)
	h.Write([]byte(label))
	h.Sum(secret[:0])
	return secret, nil
}

// TrustDomain is ours.
func (s *Source) TrustDomain() string { return s.current.Load().trustDomain }

func (s *Source) now() time.Time { return s.conf.Now() }

func (s *Source) read() (Material, error) {
	var p Material
	for _, f := range []struct {
		what, path string
		to         *[]byte
	}{
		{"certificate", s.conf.Cert, &p.Cert},
		{"key", s.conf.Key, &p.Key},
		{"roots", s.conf.Roots, &p.Roots},
	} {
		if f.path == "" {
			return p, fmt.Errorf("load identity: the path of the %s is empty", f.what)
		}
		data, err := os.ReadFile(f.path)
		if err != nil {
			return p, fmt.Errorf("load %s: %w", f.what, err)
		}
		*f.to = data
	}
	return p, nil
}

var errChangedIdentity = errors.New("the new certificate is another identity's: restart to become somebody else")
