package answer

import (
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
)

// What an error brings along is in its answer; and only a sidecar is told that a request never ran.
func TestFieldsStatusAndUnsent(t *testing.T) {
	err := &proxy.Error{Code: proxy.RateLimited, Unsent: true, Fields: proxy.Fields{{Name: "Retry-After", Value: "3"}}}
	grpc := proxy.Fields{{Name: "content-type", Value: "application/grpc+proto"}}
	for _, c := range []struct {
		req    proxy.Request
		err    *proxy.Error
		status int
		grpc   string
		unsent bool
	}{
		{proxy.Request{}, err, 429, "", false},
		{proxy.Request{Peer: &proxy.Peer{}}, err, 429, "", true},
		{proxy.Request{Fields: grpc, Peer: &proxy.Peer{}}, err, 200, "8", true},
		{proxy.Request{Fields: grpc}, &proxy.Error{Code: proxy.Overloaded}, 200, "14", false},
		{proxy.Request{Fields: grpc}, &proxy.Error{Code: proxy.Timeout}, 200, "4", false},
		{proxy.Request{}, &proxy.Error{Code: proxy.Injected, Status: 418}, 418, "", false},
		{proxy.Request{Fields: grpc}, &proxy.Error{Code: proxy.Injected, Status: 403}, 200, "7", false},
	} {
		var resp proxy.Response
		Fill(&c.req, &resp, c.err)
		if resp.Status != c.status || resp.Fields.Get("grpc-status") != c.grpc || resp.Fields.Has(proxy.UnsentField) != c.unsent || resp.Fields.Get("Retry-After") != c.err.Fields.Get("Retry-After") {
			t.Errorf("%v became %d %v", c.err, resp.Status, resp.Fields)
		}
	}
}
