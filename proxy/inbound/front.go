package inbound

import (
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/answer"
	"github.com/pillion-proxy/pillion/proxy/hops"
)

// front is what all requests pass first, in one: each call less is memory that a request need not touch on its way back.
type front struct {
	tag   hops.Tag
	first []proxy.Before
	to    *dispatcher
}

// RoundTrip implements proxy.RoundTripper.
func (f *front) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	n := len(req.Fields)
	err := f.tag.Enter(req)
	for i := 0; i < len(f.first) && err == nil; i++ {
		err = f.first[i](req)
	}
	if err == nil {
		var to proxy.RoundTripper
		if to, err = f.to.choose(req); err == nil {
			err = to.RoundTrip(req, resp)
		}
	}
	if err == nil {
		if proxy.MayBeUnsent(resp) {
			resp.Fields.Del(proxy.UnsentField) // only a sidecar may say that, and does so of an error
		}
		return nil
	}
	req.Fields = req.Fields[:n] // a second attempt by an outer layer starts from the same fields
	return answer.Instead(req, resp, err)
}
