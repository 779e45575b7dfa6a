package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
)

const (
	maxName  = 253 // bytes of a service's name or a host name
	maxLabel = 63  // bytes of a host name between two dots
)

// CheckServiceName says why name cannot be the name of a service.
func CheckServiceName(name string) error {
	lower := strings.ToLower(name)
	switch {
	case name == "":
		return errors.New("a service needs a name, as in orders")
	case len(name) > maxName:
		return fmt.Errorf("a name may have %d bytes at most", maxName)
	case name == "localhost":
		return errors.New("localhost is this machine; choose another name")
	case name != lower && CheckServiceName(lower) == nil:
		return fmt.Errorf("names are in lower case; write %s", lower)
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return fmt.Errorf("%s is an address; write a name here, as in orders, and the address under endpoints", name)
	}
	if host, port, ok := strings.Cut(name, ":"); ok && isDigits(port) {
		return fmt.Errorf("a name has no port; write %s here, and port: %s beside endpoints if local connections are to use it", clip(host), clip(port))
	}
	for i := range len(name) {
		if !nameByte(name[i]) {
			return fmt.Errorf("%q is no name; it may hold lower-case letters, digits, dots, dashes and underscores", clip(name))
		}
	}
	if strings.Trim(name, "-.") != name || strings.Contains(name, "..") {
		return fmt.Errorf("%q is no name; dots and dashes stand between letters and digits", clip(name))
	}
	if isDigits(name) {
		return fmt.Errorf("%s is a number; write a name with a letter in it", clip(name))
	}
	return nil
}

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
}

// checkTrustDomain says why name cannot be a trust domain.
func checkTrustDomain(name string) error {
	if rest, ok := strings.CutPrefix(name, "spiffe://"); ok {
		return fmt.Errorf("write the domain alone: %s", clip(strings.TrimRight(rest, "/")))
	}
	if err := proxy.CheckTrustDomain(name); err != nil {
		return fmt.Errorf("%q: %w; write one like example.org", clip(name), err)
	}
	return nil
}

// parseIdentity reads a SPIFFE ID, or the name of a service, which stays as it is until the trust domain is known.
func parseIdentity(s string) (proxy.Identity, error) {
	if strings.Contains(s, "/") {
		id, err := proxy.ParseIdentity(s)
		if err != nil {
			return "", fmt.Errorf("%w; write spiffe://<trust domain>/<name>, or the name of a service", err)
		}
		return id, nil
	}
	return proxy.Identity(s), CheckServiceName(s)
}

// checkPattern wants a SPIFFE ID or the name of a service, or the beginning of one before a star. A name stays as it is until the trust domain is known.
func checkPattern(s string) error {
	begin, open := strings.CutSuffix(s, "*")
	switch {
	case strings.Contains(begin, "*"):
		return fmt.Errorf("%q has a star before its end; write it last, as in spiffe://example.org/ops/*", clip(s))
	case begin == "" && open:
		return nil
	case open: // what follows is anything: the rest is judged with an x for it
		begin += "x"
	}
	if _, err := parseIdentity(begin); err != nil {
		return fmt.Errorf("%q means nobody: %w", clip(s), err)
	}
	return nil
}

// checkHostName says why name cannot be resolved with DNS.
func checkHostName(name string) error {
	trimmed := strings.TrimSuffix(name, ".")
	if trimmed == "" || len(trimmed) > maxName {
		return fmt.Errorf("%q is no host name; write one, as in dns:billing.internal", clip(name))
	}
	for _, label := range strings.Split(strings.ToLower(trimmed), ".") {
		if label == "" || len(label) > maxLabel || strings.Trim(label, "-") != label {
			return fmt.Errorf("%q is no host name; write one, as in dns:billing.internal", clip(name))
		}
		for i := range len(label) {
			if !nameByte(label[i]) {
				return fmt.Errorf("%q is no host name; it may hold letters, digits, dots and dashes", clip(name))
			}
		}
	}
	return nil
}
