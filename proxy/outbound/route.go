package outbound

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/datagram"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// find sets req.Service, and reports whether there is one. If there is none, and no other way, it returns an error.
func (f *front) find(req *proxy.Request) (known bool, err error) {
	host, port, err := target(req)
	if err != nil {
		return false, err
	}
	if found := Find(f.cfg.Routes, host); found != nil {
		req.Service = proxy.Service{Name: found.Name, Port: port}
		return true, nil
	}
	if svc, ok := byAddress(&f.cfg, req, host, port); ok {
		if req.Service = svc; req.Upgrade == proxy.ConnectUDP {
			req.Path = datagram.Path(svc.Name, svc.Port) // the peer knows its own ports only
		}
		return true, nil
	}
	if f.others == nil {
		return false, unknown(f.cfg.Name, host, f.cfg.Routes)
	}
	return false, nil
}

// Find returns what is known of the service that a host names, nil if it names none.
func Find(routes map[string]*Route, host string) *Route {
	r, known := routes[host]
	if !known {
		r = routes[strings.ToLower(strings.TrimSuffix(host, "."))]
	}
	return r
}

// target returns the host and port that a request names: in its authority, or, for a Flow, in its path.
func target(req *proxy.Request) (host string, port uint16, err error) {
	if req.Upgrade == proxy.ConnectUDP {
		return datagram.Target(req.Path)
	}
	host, port, ok := SplitAuthority(req.Authority)
	if !ok {
		err = &proxy.Error{Code: proxy.BadRequest, Unsent: true,
			Detail: "the request names no host that could be a service: " + strconv.Quote(req.Authority)}
	}
	return host, port, err
}

// byAddress finds the service whose address a client of CONNECT or SOCKS names, because it has looked up the name by itself.
func byAddress(cfg *Config, req *proxy.Request, host string, port uint16) (svc proxy.Service, ok bool) {
	if cfg.ByAddress == nil || !req.IsConnect() && req.Upgrade != proxy.ConnectUDP || port == 0 {
		return svc, false
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return svc, false
	}
	return cfg.ByAddress(netip.AddrPortFrom(ip.Unmap(), port))
}

func unknown(self, host string, routes map[string]*Route) error {
	names := make([]string, 0, len(routes))
	for name := range routes {
		names = append(names, name)
	}
	slices.Sort(names)
	const most = 10
	known := strings.Join(names[:min(len(names), most)], ", ")
	if len(names) > most {
		known += ", …"
	}
	if known == "" {
		known = "none"
	}
	return &proxy.Error{Code: proxy.UnknownService, Unsent: true,
		Detail: "the sidecar of " + self + " knows no service " + strconv.Quote(host) + " (known: " + known + "); add it under services, or set outbound.others: direct"}
}

// SplitAuthority splits "host", "host:port" or "[v6]:port". Port is 0 when there is none.
func SplitAuthority(a string) (host string, port uint16, ok bool) {
	host = a
	if i := strings.LastIndexByte(a, ':'); i >= 0 && !strings.HasSuffix(a, "]") {
		n, err := strconv.ParseUint(a[i+1:], 10, 16)
		if err != nil {
			return "", 0, false
		}
		host, port = a[:i], uint16(n)
	}
	if strings.HasPrefix(host, "[") {
		if !strings.HasSuffix(host, "]") {
			return "", 0, false
		}
		host = host[1 : len(host)-1]
	} else if strings.Contains(host, ":") {
		return "", 0, false
	}
	return host, port, host != ""
}

// bound turns the timeout of a service, or of one of its routes, into the deadline of a request. CONNECT and Upgrade are bounded until
// they are open, and never after.
func (r *Route) bound(next proxy.RoundTripper) proxy.RoundTripper {
	return proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
		limit := r.timeout(req)
		if limit == 0 {
			return next.RoundTrip(req, resp)
		}
		at := req.Shard.Now().Add(limit)
		if req.Deadline != 0 && req.Deadline <= at {
			return next.RoundTrip(req, resp)
		}
		req.Deadline = at
		return r.explain(next.RoundTrip(req, resp), limit)
	})
}

// bounds reports whether there is a timeout.
func (r *Route) bounds() bool {
	return r.Timeout != 0 || slices.ContainsFunc(r.Timeouts, func(d time.Duration) bool { return d != 0 })
}

// explain names the service and its timeout in an error that only knows that a deadline has passed.
func (r *Route) explain(err error, limit time.Duration) error {
	e, ok := err.(*proxy.Error)
	if !ok || e.Code != proxy.Timeout || e.Err != task.ErrDeadline || e.Unsent {
		return err
	}
	return &proxy.Error{Code: proxy.Timeout, Detail: "no answer from " + r.Name + " within its timeout of " + limit.String()}
}
