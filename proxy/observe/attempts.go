package observe

import (
	"errors"

	"github.com/pillion-proxy/pillion/proxy"
)

// Attempts notes each try at an Endpoint in the request's Record. It stands inside of what retries.
func Attempts(next proxy.RoundTripper) proxy.RoundTripper {
	l := new(attempts)
	l.first, l.next = proxy.Peel(next)
	return l
}

type attempts struct {
	first []proxy.Before // what next would begin with
	next  proxy.RoundTripper
}

// RoundTrip implements proxy.RoundTripper.
func (l *attempts) RoundTrip(req *proxy.Request, resp *proxy.Response) (err error) {
	var a *proxy.Attempt
	if req.Record != nil {
		a = req.Record.Try(req.Shard.Now())
	}
	for i := 0; i < len(l.first) && err == nil; i++ {
		err = l.first[i](req)
	}
	if err == nil {
		err = l.next.RoundTrip(req, resp)
	}
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
