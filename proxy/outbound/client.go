package outbound

import (
	"net/netip"
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
)

// tellClient says to the peer for which client a Stream or a Flow is, where that has an address, in the words of HBONE. What a client says about itself
// is removed. Exchanges carry nothing of it: their fields are the app's.
func tellClient(req *proxy.Request) error {
	if req.IsConnect() || req.Upgrade == proxy.ConnectUDP {
		req.Fields.Del("Forwarded")
		if req.Client.IsValid() {
			req.Fields.Add("Forwarded", forwarded(req.Client))
		}
	}
	return nil
}

// forwarded is an element of the Forwarded field, RFC 7239 section 6: with a port it is quoted.
func forwarded(a netip.AddrPort) string {
	var b strings.Builder
	b.WriteString(`for="`)
	b.WriteString(netip.AddrPortFrom(a.Addr().WithZone(""), a.Port()).String())
	b.WriteByte('"')
	return b.String()
}
