package dns

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"
)

// Name is a service as DNS knows it.
type Name struct {
	// Service is its name, in lower case.
	Service string
	// Addr is where its port is open; the zero AddrPort if there is none: the name then exists without an address.
	Addr netip.AddrPort
}

// Assign gives each name an address of its own from r, a part of 127.0.0.0/8. The same names get the same addresses on every machine and
// after every start; a name that is added moves no other, unless both would have had the same address. The first and the
// last address of r, and 127.0.0.0/24, are not given.
func Assign(r netip.Prefix, names []string) (map[string]netip.Addr, error) {
	r = r.Masked()
	if !r.Addr().Is4() || !r.Addr().IsLoopback() || r.Bits() < 8 {
		return nil, fmt.Errorf("%v is no part of 127.0.0.0/8", r)
	}
	size := uint32(1) << (32 - r.Bits())
	if uint64(len(names)) > uint64(size)/2 {
		return nil, fmt.Errorf("%v is too small for the addresses of %d services", r, len(names))
	}
	sorted := slices.Clone(names)
	slices.Sort(sorted)
	taken := make(map[netip.Addr]bool, len(names))
	all := make(map[string]netip.Addr, len(names))
	reserved := netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 24)
	for _, name := range slices.Compact(sorted) {
		h := fnv.New64a()
		h.Write([]byte(name))
		x := h.Sum64()
		at := uint32(x^x>>32) % size
		for range size {
			a := nth(r, at)
			if at != 0 && at != size-1 && !taken[a] && !reserved.Contains(a) {
				taken[a], all[name] = true, a
				break
			}
			at = (at + 1) % size
		}
		if _, ok := all[name]; !ok {
			return nil, fmt.Errorf("%v is too small for the addresses of %d services", r, len(names))
		}
	}
	return all, nil
}

// nth is the address number i of r.
func nth(r netip.Prefix, i uint32) netip.Addr {
	b := r.Addr().As4()
	n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]) + i
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// names is the table of what is answered here. It does not change.
type names struct {
	suffix  string // ".pillion.internal", or "" for none
	reverse netip.Prefix
	byName  map[string]Name
	byAddr  map[netip.Addr]string // the service's name
}

func newNames(all []Name, suffix string, r netip.Prefix) *names {
	t := &names{byName: make(map[string]Name), byAddr: make(map[netip.Addr]string), reverse: r}
	if suffix = strings.ToLower(strings.Trim(suffix, ".")); suffix != "" {
		t.suffix = "." + suffix
	}
	for _, n := range all {
		t.byName[n.Service] = n
		if n.Addr.IsValid() {
			t.byAddr[n.Addr.Addr()] = n.Service
		}
	}
	return t
}

// kind is what a name of a question is.
type kind int

const (
	foreign kind = iota // somebody else's
	absent              // ours to answer, and there is no such name
	apex                // the suffix itself, or a name above a service's
	service             // a service's
	srv                 // _any._tcp.service
	pointer             // an address of ours
)

// find tells what name, absolute and of any case, is, and which service it is about.
func (t *names) find(name string) (kind, Name) {
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if host, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		return t.findAddr(host)
	}
	below := false
	if t.suffix != "" {
		if "."+name == t.suffix {
			return apex, Name{}
		}
		name, below = strings.CutSuffix(name, t.suffix)
	}
	if n, ok := t.byName[name]; ok {
		return service, n
	}
	if n, ok := t.byName[withoutSRV(name)]; ok {
		return srv, n
	}
	switch {
	case !below:
		return foreign, Name{}
	case t.above(name):
		return apex, Name{}
	default:
		return absent, Name{}
	}
}

// above reports whether name, without the suffix, has a service below it: then it exists, empty (RFC 8020).
func (t *names) above(name string) bool {
	for n := range t.byName {
		if strings.HasSuffix(n, "."+name) {
			return true
		}
	}
	return strings.HasPrefix(name, "_") && t.byName[name[strings.IndexByte(name, '.')+1:]].Service != ""
}

// withoutSRV takes "_any._tcp." or "_any._udp." off the front.
func withoutSRV(name string) string {
	_, rest, ok := strings.Cut(name, ".")
	if !ok || name[0] != '_' {
		return "" // no service has this name
	}
	for _, p := range []string{"_tcp.", "_udp."} {
		if host, ok := strings.CutPrefix(rest, p); ok {
			return host
		}
	}
	return ""
}

// findAddr is find for a name below in-addr.arpa: RFC 1035 section 3.5.
func (t *names) findAddr(host string) (kind, Name) {
	labels := strings.Split(host, ".")
	slices.Reverse(labels)
	a, err := netip.ParseAddr(strings.Join(labels, "."))
	if err != nil || !t.reverse.Contains(a) {
		return foreign, Name{}
	}
	if n, ok := t.byAddr[a]; ok {
		return pointer, t.byName[n]
	}
	return absent, Name{}
}
