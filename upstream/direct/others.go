package direct

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/datagram"
)

// lookupTimeout bounds the resolution of a name that is no service.
const lookupTimeout = 5 * time.Second

// Others returns the RoundTripper for names that are no service: it resolves the name with lookup, on an ordinary goroutine, and
// calls the first address that accepts a connection. Addresses of this sidecar itself are refused.
func (d *Direct) Others(lookup func(ctx context.Context, host string) ([]netip.Addr, error)) proxy.RoundTripper {
	return proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
		host, port, err := hostPort(req)
		if err != nil {
			return err
		}
		addrs, err := d.resolve(req, host, lookup)
		if err != nil {
			return &proxy.Error{Code: proxy.ConnectFailed, Detail: "resolve " + host, Unsent: true, Err: err}
		}
		last := error(&proxy.Error{Code: proxy.ConnectFailed, Detail: host + " has no address", Unsent: true})
		for _, a := range addrs {
			ep := proxy.Endpoint{Addr: netip.AddrPortFrom(a.Unmap(), port)}
			network := "tcp"
			if req.Upgrade == proxy.ConnectUDP {
				network = "udp"
			}
			if d.cfg.Own != nil && d.cfg.Own(network, ep.Addr.String()) {
				return &proxy.Error{Code: proxy.NotPermitted, Unsent: true,
					Detail: fmt.Sprintf("%s (%v) is a listener of this sidecar, which it does not connect to for others", host, ep.Addr)}
			}
			req.Endpoint = &ep
			if last = d.RoundTrip(req, resp); last == nil || !neverConnected(last) {
				return last
			}
		}
		return last
	})
}

func neverConnected(err error) bool {
	e, ok := err.(*proxy.Error)
	return ok && e.Unsent && e.Code == proxy.AppUnreachable
}

func (d *Direct) resolve(req *proxy.Request, host string, lookup func(context.Context, string) ([]netip.Addr, error)) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	var addrs []netip.Addr
	var err error
	host = strings.Clone(host) // the lookup may outlive the Exchange's memory
	req.Shard.Offload(func() {
		ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
		defer cancel()
		addrs, err = lookup(ctx, host)
	})
	return addrs, err
}

// hostPort splits the authority, with the port of its scheme where it has none.
func hostPort(req *proxy.Request) (string, uint16, error) {
	if req.Upgrade == proxy.ConnectUDP {
		host, port, err := datagram.Target(req.Path)
		if err == nil && port == 0 {
			err = &proxy.Error{Code: proxy.BadRequest, Unsent: true, Detail: "datagrams to " + host + " need a port"}
		}
		return host, port, err
	}
	host, text := req.Authority, ""
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host, text = host[:i], host[i+1:]
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if text == "" {
		text = "80"
		if req.Scheme == "https" || req.IsConnect() {
			text = "443"
		}
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 || host == "" {
		return "", 0, &proxy.Error{Code: proxy.BadRequest, Unsent: true, Detail: "no host and port: " + strconv.Quote(req.Authority)}
	}
	return host, uint16(port), nil
}
