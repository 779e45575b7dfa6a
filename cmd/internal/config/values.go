package config

import (
	"net"
	"net/netip"
	"strconv"

	"github.com/pillion-proxy/pillion/proxy"
)

// PeerPort is the port of a sidecar where none is given.
const PeerPort = 15008

// ID is the identity that this sidecar has, unless its certificate says otherwise.
func (c *Config) ID() proxy.Identity { return proxy.NewIdentity(c.Identity.TrustDomain, c.Service) }

// UDP reports whether the app takes datagrams.
func (p AppProtocol) UDP() bool { return p == AppUDP || p == AppBoth }

// TCP reports whether the app takes connections.
func (p AppProtocol) TCP() bool { return p != AppUDP }

// UDP reports whether a service's own port takes datagrams.
func (p ServiceProtocol) UDP() bool { return p == ServiceUDP || p == ServiceBoth }

// TCP reports whether a service's own port takes connections.
func (p ServiceProtocol) TCP() bool { return p != ServiceUDP }

// Network returns "tcp" or "unix", for net.Listen.
func (l Listen) Network() string {
	if l.Unix != "" {
		return "unix"
	}
	return "tcp"
}

// Address returns the second argument of net.Listen: "127.0.0.1:80", ":80" for every address, or a path.
func (l Listen) Address() string {
	if l.Unix != "" {
		return l.Unix
	}
	if !l.IP.IsValid() {
		return ":" + strconv.Itoa(int(l.Port))
	}
	return net.JoinHostPort(l.IP.String(), strconv.Itoa(int(l.Port)))
}

// Loopback reports whether only this machine can connect.
func (l Listen) Loopback() bool { return !l.On || l.Unix != "" || l.IP.IsValid() && l.IP.IsLoopback() }

// String returns the value as it is written in YAML.
func (l Listen) String() string {
	switch {
	case !l.On:
		return "none"
	case l.Unix != "":
		return "unix:" + l.Unix
	default:
		return l.Address()
	}
}

// Network returns "tcp" or "unix".
func (t Target) Network() string {
	if t.Unix != "" {
		return "unix"
	}
	return "tcp"
}

// Address returns the address to dial: a literal IP:port or a path.
func (t Target) Address() string {
	if t.Unix != "" {
		return t.Unix
	}
	return t.Addr.String()
}

// String returns the value as it is written in YAML.
func (t Target) String() string {
	switch {
	case t.Unix != "":
		return "unix:" + t.Unix
	case t.Addr == netip.AddrPort{}:
		return ""
	default:
		return t.Addr.String()
	}
}
