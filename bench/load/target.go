package load

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// unixPrefix begins the address of a Unix socket.
const unixPrefix = "unix:"

// target is where to connect.
type target struct {
	ip   netip.AddrPort
	path string // of a Unix socket, instead
}

// unixPath returns the path of the socket that an address names, if it does.
func unixPath(addr string) (string, bool) { return strings.CutPrefix(addr, unixPrefix) }

// String is the address as in Config.Addr, with the host looked up.
func (t target) String() string {
	if t.path != "" {
		return unixPrefix + t.path
	}
	return t.ip.String()
}

// dial is what net.Dial wants to know.
func (t target) dial(datagrams bool) (network, addr string) {
	switch {
	case t.path != "":
		return "unix", t.path
	case datagrams:
		return "udp", t.ip.String()
	default:
		return "tcp", t.ip.String()
	}
}

// resolve returns the target at addr.
func resolve(ctx context.Context, addr string) (target, error) {
	if path, ok := unixPath(addr); ok {
		return target{path: path}, nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return target{}, fmt.Errorf("address %q: %w", addr, err)
	}
	n, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return target{}, fmt.Errorf("address %q: %w", addr, err)
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", cmp.Or(host, "127.0.0.1"))
	if err != nil {
		return target{}, fmt.Errorf("look up %q: %w", host, err)
	}
	best := ips[0]
	for _, ip := range ips {
		if ip.Unmap().Is4() { // as most programs on loopback listen
			best = ip
			break
		}
	}
	return target{ip: netip.AddrPortFrom(best.Unmap(), uint16(n))}, nil
}
