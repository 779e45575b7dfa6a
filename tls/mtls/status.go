package mtls

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
)

// Status is what `pillion status` shows of a Source.
type Status struct {
	Identity    proxy.Identity `json:"identity"`
	TrustDomain string         `json:"trust_domain"`
	Serial      string         `json:"serial"`
	Fingerprint string         `json:"fingerprint"` // SHA-256, hex
	Issuer      string         `json:"issuer"`
	NotBefore   time.Time      `json:"not_before"`
	NotAfter    time.Time      `json:"not_after"`
	Loaded      time.Time      `json:"loaded"`
	Roots       []Root         `json:"roots"`
	// Warning is one sentence when our own certificate has expired or soon will, else "".
	Warning string `json:"warning,omitempty"`
	// Error says why the last reload or renewal failed, "" if it did not; ErrorAt is when that began.
	Error   string    `json:"error,omitempty"`
	ErrorAt time.Time `json:"error_at,omitzero"`
}

// Root is one certificate that peers' chains may lead to.
type Root struct {
	Subject     string    `json:"subject"`
	Fingerprint string    `json:"fingerprint"` // SHA-256, hex
	NotAfter    time.Time `json:"not_after"`
}

// Status is a snapshot.
func (s *Source) Status() Status {
	m := s.current.Load()
	st := Status{
		Identity:    m.identity,
		TrustDomain: m.trustDomain,
		Serial:      serial(m.leaf),
		Fingerprint: Fingerprint(m.leaf),
		Issuer:      m.leaf.Issuer.String(),
		NotBefore:   m.leaf.NotBefore,
		NotAfter:    m.leaf.NotAfter,
		Loaded:      m.loaded,
		Warning:     m.warning(s.now()),
	}
	for _, c := range m.roots {
		st.Roots = append(st.Roots, Root{Subject: c.Subject.String(), Fingerprint: Fingerprint(c), NotAfter: c.NotAfter})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lastErr != nil {
		st.Error, st.ErrorAt = s.lastErr.Error(), s.errAt
	}
	return st
}

func (m *material) warning(now time.Time) string {
	end := m.leaf.NotAfter
	switch {
	case now.After(end):
		return fmt.Sprintf("our certificate expired at %s: peers refuse us", stamp(end))
	case !now.Before(m.warnAt()):
		return fmt.Sprintf("our certificate expires at %s, in %v", stamp(end), end.Sub(now).Round(time.Second))
	}
	return ""
}

func serial(c *x509.Certificate) string { return fmt.Sprintf("%x", c.SerialNumber) }
