package direct

import (
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxyproto"
)

// header returns what a connection that is made for req begins with: who calls, as far as the mesh knows. A caller that has no sidecar is this one
// itself.
func (t *target) header(req *proxy.Request, o *Options) []byte {
	if o.Header == proxyproto.None {
		return nil
	}
	h := proxyproto.Header{}
	if req.Peer != nil {
		h = proxyproto.Header{Src: req.Client, Dst: t.key.addr, Identity: string(req.Peer.Identity)}
	}
	return proxyproto.Append(nil, o.Header, h)
}
