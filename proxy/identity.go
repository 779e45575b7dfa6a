package proxy

import (
	"errors"
	"fmt"
	"strings"
)

// NewIdentity returns spiffe://trustDomain/name. It does not check its parts; ParseIdentity does.
func NewIdentity(trustDomain, name string) Identity {
	return Identity(identityScheme + trustDomain + "/" + name)
}

// ParseIdentity checks s by the rules of a workload's SPIFFE ID: the scheme spiffe, a trust domain, and a
// path that is not empty.
// https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md#2-spiffe-identity
func ParseIdentity(s string) (Identity, error) {
	err := checkIdentity(s)
	if err != nil {
		return "", fmt.Errorf("%q is not a SPIFFE ID: %w", s, err)
	}
	return Identity(s), nil
}

// TrustDomain returns "example.org" of spiffe://example.org/orders, or "".
func (i Identity) TrustDomain() string {
	domain, _, _ := strings.Cut(strings.TrimPrefix(string(i), identityScheme), "/")
	return domain
}

// Name returns "orders" of spiffe://example.org/orders, and "ns/shop/sa/orders" of a longer path.
func (i Identity) Name() string {
	_, name, _ := strings.Cut(strings.TrimPrefix(string(i), identityScheme), "/")
	return name
}

// IdentityPattern is an Identity, or the beginning of some and a star, as in "spiffe://example.org/ops/*".
type IdentityPattern string

// Matches reports whether id is one of those that are meant. Nobody, who has no Identity, never is.
func (p IdentityPattern) Matches(id Identity) bool {
	begin, open := strings.CutSuffix(string(p), "*")
	if open {
		return id != "" && strings.HasPrefix(string(id), begin)
	}
	return id != "" && string(id) == begin
}

// CheckTrustDomain says what is wrong with the name of a trust domain, or returns nil.
func CheckTrustDomain(domain string) error {
	switch {
	case domain == "":
		return errors.New("the trust domain is empty")
	case len(domain) > maxTrustDomain:
		return fmt.Errorf("the trust domain is longer than %d bytes", maxTrustDomain)
	}
	for _, c := range []byte(domain) {
		if !isLower(c) && !isDigit(c) && c != '.' && c != '-' && c != '_' {
			return errors.New("a trust domain may hold only a-z, 0-9, '.', '-' and '_'")
		}
	}
	return nil
}

const (
	identityScheme = "spiffe://"
	maxIdentity    = 2048 // bytes
	maxTrustDomain = 255  // bytes
)

func checkIdentity(s string) error {
	rest, ok := strings.CutPrefix(s, identityScheme)
	if !ok {
		return errors.New("it does not begin with spiffe://")
	}
	if len(s) > maxIdentity {
		return fmt.Errorf("it is longer than %d bytes", maxIdentity)
	}
	domain, path, ok := strings.Cut(rest, "/")
	if err := CheckTrustDomain(domain); err != nil {
		return err
	}
	if !ok || path == "" {
		return errors.New("it has no path")
	}
	for segment := range strings.SplitSeq(path, "/") {
		if err := checkSegment(segment); err != nil {
			return err
		}
	}
	return nil
}

func checkSegment(s string) error {
	switch s {
	case "":
		return errors.New("its path has an empty segment")
	case ".", "..":
		return errors.New("its path has a relative segment")
	}
	for _, c := range []byte(s) {
		if !isLower(c) && !isDigit(c) && (c < 'A' || c > 'Z') && c != '.' && c != '-' && c != '_' {
			return errors.New("its path may hold only letters, digits, '.', '-', '_' and '/'")
		}
	}
	return nil
}

func isLower(c byte) bool { return c >= 'a' && c <= 'z' }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }
