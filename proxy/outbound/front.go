package outbound

import (
	"sync/atomic"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/answer"
	"github.com/pillion-proxy/pillion/proxy/hops"
)

// service is the way of the requests for one service.
type service struct {
	name  string
	first []proxy.Before // what the stack begins with, for front
	rest  proxy.RoundTripper
}

func newService(cfg *Config, r *Route, attempt proxy.RoundTripper) *service {
	first, rest := proxy.Peel(r.stack(cfg, attempt))
	return &service{r.Name, first, rest}
}

// front is what all requests pass first, in one: each call less is memory that a request need not touch on its way back.
type front struct {
	cfg      Config
	tag      hops.Tag
	services map[string]*service
	unknown  *service // what a listener or an address names, and Routes do not
	others   *service // nil if names that are no service are refused
	last     atomic.Pointer[service]
}

func newFront(cfg Config, services map[string]*service, attempt proxy.RoundTripper) *front {
	f := &front{cfg: cfg, tag: hops.Outbound(cfg.Name), services: services}
	f.unknown = newService(&Config{}, new(Route), attempt)
	if cfg.Others != nil {
		f.others = &service{rest: cfg.Others}
	}
	return f
}

// RoundTrip implements proxy.RoundTripper.
func (f *front) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	n := len(req.Fields)
	err := f.tag.Enter(req)
	if err == nil {
		var svc *service
		if svc, err = f.route(req); err == nil {
			for _, first := range svc.first {
				if err = first(req); err != nil {
					break
				}
			}
			if err == nil {
				err = svc.rest.RoundTrip(req, resp)
			}
		}
	}
	if err == nil {
		return nil
	}
	req.Fields = req.Fields[:n] // a second attempt by an outer layer starts from the same fields
	return answer.Instead(req, resp, err)
}

// route sets req.Service from the authority, unless the listener (a service's own port) has set it.
func (f *front) route(req *proxy.Request) (*service, error) {
	if req.Service.Name != "" {
		return f.service(req.Service.Name), nil
	}
	known, err := f.find(req)
	switch {
	case err != nil:
		return nil, err
	case !known:
		return f.others, nil
	}
	return f.service(req.Service.Name), nil
}

// service returns the way to a service. Most requests are for the same one as the one before.
func (f *front) service(name string) *service {
	if last := f.last.Load(); last != nil && last.name == name {
		return last
	}
	svc := f.services[name]
	if svc == nil {
		return f.unknown
	}
	f.last.Store(svc)
	return svc
}
