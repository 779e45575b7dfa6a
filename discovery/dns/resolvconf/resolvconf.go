// Package resolvconf reads what /etc/resolv.conf says, for those who ask name servers themselves: the discovery source, and the DNS
// listener, which passes questions on. See resolv.conf(5).
package resolvconf

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Conf is what resolv.conf(5) says. What it does not say has the C library's default, but that the
// search list is not derived from the host's name.
type Conf struct {
	Servers  []netip.AddrPort // at least one, at most three
	Search   []string         // domains with a dot at the end
	Ndots    int
	Timeout  time.Duration
	Attempts int
	Rotate   bool
	TCP      bool // UDP is not to be used
}

const (
	dnsPort    = 53
	maxServers = 3
	maxNdots   = 15
	maxTimeout = 30
	maxTries   = 5
)

// Read reads the file. One that is missing or empty means a server on this machine.
func Read(path string) Conf {
	data, _ := os.ReadFile(path) // an absent file is a valid configuration, see resolv.conf(5)
	return Parse(string(data))
}

// Parse reads the text of such a file. What it does not understand it skips, as the C library does.
func Parse(text string) Conf {
	rc := Conf{Ndots: 1, Timeout: 5 * time.Second, Attempts: 2}
	for line := range strings.Lines(text) {
		if i := strings.IndexAny(line, "#;"); i >= 0 {
			line = line[:i]
		}
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if ip, err := netip.ParseAddr(f[1]); err == nil && len(rc.Servers) < maxServers {
				rc.Servers = append(rc.Servers, netip.AddrPortFrom(ip, dnsPort))
			}
		case "domain":
			rc.setSearch(f[1:2])
		case "search":
			rc.setSearch(f[1:])
		case "options":
			for _, o := range f[1:] {
				rc.option(o)
			}
		}
	}
	if len(rc.Servers) == 0 {
		rc.Servers = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dnsPort)}
	}
	return rc
}

// setSearch: the last of domain and search wins.
func (rc *Conf) setSearch(domains []string) {
	rc.Search = nil
	for _, d := range domains {
		d = strings.TrimSuffix(d, ".") + "."
		if CheckName(d) == nil {
			rc.Search = append(rc.Search, d)
		}
	}
}

func (rc *Conf) option(o string) {
	name, value, _ := strings.Cut(o, ":")
	n, err := strconv.Atoi(value)
	number := err == nil && n >= 0
	switch {
	case name == "ndots" && number:
		rc.Ndots = min(n, maxNdots)
	case name == "timeout" && number:
		rc.Timeout = time.Duration(min(max(n, 1), maxTimeout)) * time.Second
	case name == "attempts" && number:
		rc.Attempts = min(max(n, 1), maxTries)
	case name == "rotate":
		rc.Rotate = true
	case name == "use-vc", name == "usevc", name == "tcp":
		rc.TCP = true
	}
}

// Order is the order in which to ask the servers this time.
func (rc *Conf) Order() []netip.AddrPort {
	if !rc.Rotate || len(rc.Servers) < 2 {
		return rc.Servers
	}
	i := rand.IntN(len(rc.Servers))
	return slices.Concat(rc.Servers[i:], rc.Servers[:i])
}

// CheckName says why name is none that DNS can look up, or returns nil. It may end in a dot.
func CheckName(name string) error {
	bare := strings.TrimSuffix(name, ".")
	if bare == "" {
		return errors.New("the name is empty")
	}
	if len(bare) > 253 {
		return errors.New("the name is longer than 253 bytes")
	}
	for label := range strings.SplitSeq(bare, ".") {
		if label == "" || len(label) > 63 {
			return errors.New("a label of the name is empty or longer than 63 bytes")
		}
	}
	for _, c := range []byte(bare) {
		if c <= ' ' || c >= 0x7f {
			return errors.New("the name is not in ASCII; write it in its xn-- form")
		}
	}
	return nil
}
