package config

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// parseDuration reads "250ms". An error is the sentence that the user reads.
func parseDuration(s string) (time.Duration, error) {
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return 0, fmt.Errorf("%s has no unit; write %sms or %ss", s, s, s)
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is no duration; write a number with a unit, as in 250ms, 2s, 5m or 1h", clip(s))
	}
	return d, nil
}

// formatDuration writes what parseDuration reads, in the short form: 5m, not 5m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// units are the suffixes of sizes, largest first.
func units() []struct {
	name string
	n    int64
} {
	return []struct {
		name string
		n    int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}
}

// parseSize reads "64KiB".
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "BKMGikmgb ")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is no size; write a whole number with a unit, as in 64KiB or 1MiB", clip(s))
	}
	unit := s[len(digits):]
	for _, u := range units() {
		if u.name != unit {
			continue
		}
		if n > (1<<62)/u.n {
			return 0, fmt.Errorf("%s is too large", clip(s))
		}
		return n * u.n, nil
	}
	switch letter := strings.ToUpper(strings.TrimSpace(unit)); {
	case letter == "":
		return 0, fmt.Errorf("%s has no unit; write %sB or %sKiB", digits, digits, digits)
	case letter[0] == 'B':
		return 0, fmt.Errorf("%q is no size; write %sB", clip(s), digits)
	default:
		return 0, fmt.Errorf("%q is no size; write %s%ciB", clip(s), digits, letter[0])
	}
}

// formatSize writes what parseSize reads.
func formatSize(n int64) string {
	for _, u := range units() {
		if n >= u.n && n%u.n == 0 {
			return strconv.FormatInt(n/u.n, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

// parsePort reads 1 to 65535.
func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no port; write a number from 1 to 65535", clip(s))
	}
	return uint16(n), nil
}

// parseMode reads permission bits, which are octal with or without a 0 (or 0o) in front.
func parseMode(s string) (FileMode, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "0o"), 8, 32)
	if err != nil || n > 0o777 {
		return 0, fmt.Errorf("%q is no mode of a file; write its permissions in octal, as in 0660", clip(s))
	}
	return FileMode(n), nil
}

// String returns the bits as they are written in YAML.
func (m FileMode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

// parsePercent reads "20%".
func parsePercent(s string) (Percent, error) {
	digits, ok := strings.CutSuffix(s, "%")
	n, err := strconv.ParseFloat(digits, 64)
	switch {
	case strings.Trim(digits, "0123456789.") != "" || err != nil:
		return 0, fmt.Errorf("%q is no share; write a number with a percent sign, as in 20%% or 0.5%%", clip(s))
	case !ok:
		return 0, fmt.Errorf("%s has no percent sign; write %s%%", clip(s), clip(s))
	}
	return Percent(n), nil
}

// String returns the share as it is written in YAML.
func (p Percent) String() string { return strconv.FormatFloat(float64(p), 'f', -1, 64) + "%" }

// parseSource adds a network, an address, or unix to out.
func parseSource(s string, out *Sources) error {
	if s == "unix" {
		out.Unix = true
		return nil
	}
	if !strings.Contains(s, "/") {
		ip, err := parseIP(s)
		if err != nil {
			return fmt.Errorf("%w; write a network or an address, as in 10.0.0.0/8, or unix", err)
		}
		out.Nets = append(out.Nets, netip.PrefixFrom(ip.WithZone(""), ip.BitLen()))
		return nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return fmt.Errorf("%q is no network; write one, as in 10.0.0.0/8", clip(s))
	}
	if m := p.Masked(); m != p {
		return fmt.Errorf("%s is an address within %s; write %s, or the address alone", p, m, m)
	}
	if p.Addr().Is4In6() {
		return fmt.Errorf("%s is an IPv4 network in disguise; write it as in 10.0.0.0/8", p)
	}
	out.Nets = append(out.Nets, p)
	return nil
}

// words are the sources as they are written in YAML.
func (s Sources) words() []string {
	var words []string
	for _, p := range s.Nets {
		words = append(words, p.String())
	}
	if s.Unix {
		words = append(words, "unix")
	}
	return words
}

// parseListen reads an address to listen on. dir is where relative socket paths begin.
func parseListen(s, dir string, f field) (Listen, error) {
	example := f.deflt
	if example == "" {
		example = "127.0.0.1:9001"
	}
	if s == "none" && f.none {
		return Listen{}, nil
	}
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if !f.unix {
			return Listen{}, fmt.Errorf("a socket path cannot be used here; write an address and port, as in %s", example)
		}
		path, err := socketPath(path, dir)
		return Listen{Unix: path, On: true}, err
	}
	if isDigits(s) {
		port, err := listenPort(s)
		l := Listen{Port: port, On: true}
		if !f.any {
			l.IP = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		return l, err
	}
	host, port, err := splitHostPort(s, example)
	if err != nil {
		return Listen{}, err
	}
	n, err := listenPort(port)
	if err != nil {
		return Listen{}, err
	}
	if host == "" {
		return Listen{Port: n, On: true}, nil
	}
	if host == "*" {
		return Listen{}, fmt.Errorf("write %q for every address of this machine", ":"+port)
	}
	ip, err := parseIP(host)
	if err != nil {
		return Listen{}, fmt.Errorf("%w; write an address of this machine, as in %s", err, example)
	}
	return Listen{IP: ip, Port: n, On: true}, nil
}

// listenPort is parsePort, with 0 for a port that the system chooses.
func listenPort(s string) (uint16, error) {
	if s == "0" {
		return 0, nil
	}
	return parsePort(s)
}

// parseTarget reads an address to connect to. needPort false allows the port to be missing: it is 0 then.
func parseTarget(s, dir string, needPort bool) (Target, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		path, err := socketPath(path, dir)
		return Target{Unix: path}, err
	}
	if isDigits(s) {
		port, err := parsePort(s)
		return Target{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)}, err
	}
	host, port := s, ""
	if needPort || !isBareHost(s) {
		var err error
		host, port, err = splitHostPort(s, "127.0.0.1:8080")
		if err != nil {
			return Target{}, err
		}
	}
	if host == "" {
		return Target{}, fmt.Errorf("%q has no address; write 127.0.0.1%s", clip(s), s)
	}
	ip, err := parseIP(strings.Trim(host, "[]"))
	if err != nil {
		return Target{}, fmt.Errorf("%w; write one, as in 127.0.0.1", err)
	}
	if ip.WithZone("").IsUnspecified() {
		return Target{}, fmt.Errorf("%s means every address and nothing can be reached there; write the one that listens, as in 127.0.0.1", ip)
	}
	t := Target{Addr: netip.AddrPortFrom(ip, 0)}
	if port != "" {
		n, err := parsePort(port)
		if err != nil {
			return Target{}, err
		}
		t.Addr = netip.AddrPortFrom(ip, n)
	}
	return t, nil
}

// isBareHost reports whether s is a host without a port: an IPv6 address has many colons or brackets.
func isBareHost(s string) bool {
	host := s
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if host, ok = strings.CutSuffix(inner, "]"); !ok {
			return !strings.Contains(s, ":") // [::1]:80
		}
	}
	if _, err := parseIP(host); err == nil {
		return true
	}
	return !strings.Contains(s, ":")
}

// splitHostPort is net.SplitHostPort with messages for people.
func splitHostPort(s, example string) (host, port string, err error) {
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		return "", "", fmt.Errorf("%q is a URL; write %s, without %s://", clip(s), clip(strings.TrimRight(rest, "/")), clip(scheme))
	}
	if isBareHost(s) {
		if strings.Contains(s, ":") && !strings.HasPrefix(s, "[") {
			return "", "", fmt.Errorf("%q has no port; write IPv6 in brackets and a port, as in [::1]:8080", clip(s))
		}
		return "", "", fmt.Errorf("%q has no port; write an address and a port, as in %s", clip(s), example)
	}
	i := strings.LastIndexByte(s, ':')
	host, port = s[:i], s[i+1:]
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		return host[1 : len(host)-1], port, nil
	}
	if strings.Contains(host, ":") {
		return "", "", fmt.Errorf("%q is no address and port; write IPv6 in brackets, as in [::1]:8080", clip(s))
	}
	return host, port, nil
}

// parseIP reads a literal address, or localhost.
func parseIP(host string) (netip.Addr, error) {
	if host == "localhost" {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case err == nil && !strings.ContainsAny(ip.Zone(), "[]:,"): // which netip takes for part of a zone
		return ip.Unmap(), nil
	case looksLikeIP(host):
		return netip.Addr{}, fmt.Errorf("%q is no IP address", clip(host))
	default:
		return netip.Addr{}, fmt.Errorf("%q is a name, not an IP address", clip(host))
	}
}

// looksLikeIP reports whether the slip was probably in an IP address.
func looksLikeIP(s string) bool {
	return strings.Trim(s, "0123456789.") == "" || strings.Contains(s, ":") && strings.Trim(s, "0123456789.:abcdefABCDEF") == ""
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// maxSocketPath is the room in sockaddr_un, less the final zero.
const maxSocketPath = 107 // bytes

func socketPath(path, dir string) (string, error) {
	path = strings.TrimPrefix(path, "//")
	if path == "" {
		return "", errors.New("unix: has no path; write unix:/run/app.sock")
	}
	if strings.ContainsRune(path, 0) {
		return "", errors.New("a path cannot hold a zero byte")
	}
	path = join(dir, path)
	if len(path) > maxSocketPath {
		return "", fmt.Errorf("the path of a socket may have %d bytes at most; this one has %d", maxSocketPath, len(path))
	}
	return path, nil
}

// join makes path absolute: relative to dir, the folder of the file it was written in.
func join(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

// clip shortens what a message quotes.
func clip(s string) string {
	const most = 80 // bytes
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
