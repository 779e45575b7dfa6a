package proxy

import "net/netip"

// Peer is the sidecar at the other end of an inbound Link, made once when the Link is accepted. It is immutable, and holds
// what is said of it to apps as ready text, so that a request costs no formatting.
type Peer struct {
	Identity Identity
	Addr     netip.AddrPort
	// Host is Addr's IP, as in X-Forwarded-For.
	Host string
	// Forwarded is the element of the Forwarded field (RFC 7239) for this hop.
	Forwarded string
	// ClientCert is the element of X-Forwarded-Client-Cert, in Envoy's form.
	ClientCert string
}

// NewPeer describes the caller at addr with the given identity and hex SHA-256 of its leaf certificate, to a sidecar that is self.
func NewPeer(self, caller Identity, addr netip.AddrPort, certHash string) *Peer {
	p := &Peer{Identity: caller, Addr: addr, Host: addr.Addr().String()}
	p.Forwarded = "for=" + p.Host
	if addr.Addr().Is6() {
		p.Forwarded = `for="[` + p.Host + `]"` // RFC 7239 section 6: an IPv6 address is bracketed and quoted
	}
	p.ClientCert = "By=" + string(self) + ";Hash=" + certHash + ";URI=" + string(caller)
	return p
}
