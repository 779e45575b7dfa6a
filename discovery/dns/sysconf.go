package dns

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// resolvConf is what resolv.conf(5) says. What it does not say has the C library's default, but that the
// search list is not derived from the host's name.
type resolvConf struct {
	servers  []netip.AddrPort
	search   []string // domains with a dot at the end
	ndots    int
	timeout  time.Duration
	attempts int
	rotate   bool
	tcp      bool
}

const (
	dnsPort    = 53
	maxServers = 3
	maxNdots   = 15
	maxTimeout = 30
	maxTries   = 5
)

// readResolvConf reads the file. One that is missing or empty means a server on this machine.
func readResolvConf(path string) resolvConf {
	data, _ := os.ReadFile(path) // an absent file is a valid configuration, see resolv.conf(5)
	return parseResolvConf(string(data))
}

func parseResolvConf(text string) resolvConf {
	rc := resolvConf{ndots: 1, timeout: 5 * time.Second, attempts: 2}
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
			if ip, err := netip.ParseAddr(f[1]); err == nil && len(rc.servers) < maxServers {
				rc.servers = append(rc.servers, netip.AddrPortFrom(ip, dnsPort))
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
	if len(rc.servers) == 0 {
		rc.servers = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dnsPort)}
	}
	return rc
}

// setSearch: the last of domain and search wins.
func (rc *resolvConf) setSearch(domains []string) {
	rc.search = nil
	for _, d := range domains {
		d = strings.TrimSuffix(d, ".") + "."
		if checkName(d) == nil {
			rc.search = append(rc.search, d)
		}
	}
}

func (rc *resolvConf) option(o string) {
	name, value, _ := strings.Cut(o, ":")
	n, err := strconv.Atoi(value)
	number := err == nil && n >= 0
	switch {
	case name == "ndots" && number:
		rc.ndots = min(n, maxNdots)
	case name == "timeout" && number:
		rc.timeout = time.Duration(min(max(n, 1), maxTimeout)) * time.Second
	case name == "attempts" && number:
		rc.attempts = min(max(n, 1), maxTries)
	case name == "rotate":
		rc.rotate = true
	case name == "use-vc", name == "usevc", name == "tcp":
		rc.tcp = true
	}
}

// order is the order in which to ask the servers.
func (rc *resolvConf) order() []netip.AddrPort {
	if !rc.rotate || len(rc.servers) < 2 {
		return rc.servers
	}
	i := rand.IntN(len(rc.servers))
	return slices.Concat(rc.servers[i:], rc.servers[:i])
}

// candidates are the full names to try, in order.
func (rc *resolvConf) candidates(name string) []string {
	if strings.HasSuffix(name, ".") {
		return []string{name}
	}
	var searched []string
	for _, domain := range rc.search {
		if full := name + "." + domain; checkName(full) == nil {
			searched = append(searched, full)
		}
	}
	if strings.Count(name, ".") >= rc.ndots {
		return append([]string{name + "."}, searched...)
	}
	return append(searched, name+".")
}

// readHosts returns the addresses that a hosts file gives a name; none if there is no file.
func readHosts(path, name string) []netip.Addr {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return parseHosts(string(data), name)
}

func parseHosts(text, name string) []netip.Addr {
	name = strings.TrimSuffix(name, ".")
	var addrs []netip.Addr
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) < 2 || !slices.ContainsFunc(f[1:], func(s string) bool { return strings.EqualFold(strings.TrimSuffix(s, "."), name) }) {
			continue
		}
		if ip, err := netip.ParseAddr(f[0]); err == nil {
			addrs = append(addrs, ip)
		}
	}
	return addrs
}
