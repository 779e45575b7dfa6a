package limit

import "github.com/pillion-proxy/pillion/proxy"

// Rules returns the layer that gives requests of no route to layers[0], those of the n-th to layers[n]. Where that is nil they pass.
func Rules(layers []proxy.Layer) proxy.Layer {
	return func(next proxy.RoundTripper) proxy.RoundTripper {
		all := make([]proxy.RoundTripper, len(layers))
		for i, layer := range layers {
			if all[i] = next; layer != nil {
				all[i] = layer(next)
			}
		}
		return proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			rule := req.Rule
			if rule >= len(all) {
				rule = 0
			}
			return all[rule].RoundTrip(req, resp)
		})
	}
}
