package dns

import (
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/pillion-proxy/pillion/discovery/dns/resolvconf"
)

// candidates are the full names to try for name, in order.
func candidates(rc resolvconf.Conf, name string) []string {
	if strings.HasSuffix(name, ".") {
		return []string{name}
	}
	var searched []string
	for _, domain := range rc.Search {
		if full := name + "." + domain; resolvconf.CheckName(full) == nil {
			searched = append(searched, full)
		}
	}
	if strings.Count(name, ".") >= rc.Ndots {
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
