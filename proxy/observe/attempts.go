package observe

import (
	"errors"

	"github.com/pillion-proxy/pillion/proxy"
)

// Attempts notes each try at an Endpoint in the request's Record. It stands inside of what retries.
func Attempts(next proxy.RoundTripper) proxy.RoundTripper { return &attempts{next} }

type attempts struct{ next proxy.RoundTripper }

// RoundTrip implements proxy.RoundTripper.
func (l *attempts) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	if req.Record == nil {
		return l.next.RoundTrip(req, resp)
	}
	a := req.Record.Try(req.Shard.Now())
	err := l.next.RoundTrip(req, resp)
	if a == nil {
		return err
	}
	a.Endpoint = req.Endpoint
	if err != nil {
		a.End, a.Code = req.Shard.Now(), proxy.Internal
		var e *proxy.Error
		if errors.As(err, &e) {
			a.Code = e.Code
		}
		return err
	}
	a.Head, a.Status, a.Took, a.AppTook = req.Shard.Now(), resp.Status, resp.Took, resp.AppTook
	return nil
}
