package inbound

import (
	"net/netip"
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
)

// nameClient takes what the calling sidecar says about the client of a Stream or a Flow: an address within the mesh, or on the sidecar's own machine, for which its
// own address stands then. It was proven who the sidecar is, not what it says; and nothing else of the request goes to the app.
func nameClient(req *proxy.Request) error {
	if !req.IsConnect() && req.Upgrade != proxy.ConnectUDP {
		return nil
	}
	client, ok := forwardedFor(req.Fields.Get("Forwarded"))
	req.Fields.Del("Forwarded")
	if ok && (client.Addr().IsLoopback() || client.Addr().IsUnspecified()) {
		client = netip.AddrPortFrom(req.Client.Addr(), client.Port())
	}
	if ok && client.IsValid() {
		req.Client = client
	}
	return nil
}

// forwardedFor reads the address and the port of the first element of a Forwarded field, RFC 7239 section 4.
func forwardedFor(value string) (a netip.AddrPort, ok bool) {
	element, _, _ := strings.Cut(value, ",")
	for pair := range strings.SplitSeq(element, ";") {
		name, node, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if !strings.EqualFold(name, "for") {
			continue
		}
		if len(node) > 1 && node[0] == '"' && node[len(node)-1] == '"' {
			node = node[1 : len(node)-1]
		}
		a, err := netip.ParseAddrPort(node)
		if err != nil || a.Addr().Zone() != "" {
			return netip.AddrPort{}, false
		}
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), true
	}
	return a, false
}
