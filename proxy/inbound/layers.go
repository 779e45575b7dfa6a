package inbound

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/datagram"
)

type app struct {
	App
	rt   proxy.RoundTripper
	news proxy.RoundTripper // nil if nothing is told
}

// dispatcher hands the request to the app entry that it names.
type dispatcher struct {
	self    string
	apps    []app
	sidecar proxy.RoundTripper
}

// RoundTrip implements proxy.RoundTripper.
func (d *dispatcher) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	to, err := d.choose(req)
	if err != nil {
		return err
	}
	return to.RoundTrip(req, resp)
}

// choose sets req.Service, and returns what the request is for.
func (d *dispatcher) choose(req *proxy.Request) (proxy.RoundTripper, error) {
	port, named, err := asked(req)
	if err == errSidecar {
		return d.askSidecar(req)
	}
	if err != nil {
		return nil, err
	}
	if len(d.apps) == 0 {
		return nil, &proxy.Error{Code: proxy.NoEndpoints, Unsent: true, Detail: "the sidecar of " + d.self + " has no app entry: peers can reach nothing here"}
	}
	flow := req.Upgrade == proxy.ConnectUDP
	for i := range d.apps {
		// An Exchange's authority may carry a port that only the client's side knew, such as that of its own proxy port.
		if a := &d.apps[i]; a.Flows == flow && (!named || port == 0 || a.Port == port) {
			req.Service = proxy.Service{Name: d.self, Port: a.Port}
			if req.News != "" {
				return a.tell(req)
			}
			return a.rt, nil
		}
	}
	return nil, absent(d.self, d.apps, port, flow)
}

// tell is for a peer that asks for what has changed: the question is never the app's.
func (a *app) tell(req *proxy.Request) (proxy.RoundTripper, error) {
	if a.news == nil || req.IsConnect() || req.Upgrade != "" {
		return nil, &proxy.Error{Code: proxy.Unsupported, Unsent: true, Detail: "this sidecar keeps no answers of its app, and tells no news of them"}
	}
	return a.news, nil
}

// aside takes the questions of sidecars to each other out of the way of requests, so that nobody counts them as such.
func aside(questions proxy.RoundTripper) proxy.Layer {
	return func(next proxy.RoundTripper) proxy.RoundTripper {
		return proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			if i := to(req); i >= 0 && strings.Contains(req.Fields[i].Value, proxy.NewsParam) {
				return questions.RoundTrip(req, resp)
			}
			return next.RoundTrip(req, resp)
		})
	}
}

// askSidecar is for what is no question to the app.
func (d *dispatcher) askSidecar(req *proxy.Request) (proxy.RoundTripper, error) {
	req.Service = proxy.Service{Name: proxy.SidecarName}
	if d.sidecar == nil || req.Peer == nil {
		return nil, &proxy.Error{Code: proxy.Denied, Unsent: true, Detail: "this sidecar tells nothing of itself"}
	}
	return d.sidecar, nil
}

// absent says that there is no app entry for the port, or none for Flows, and which there are.
func absent(self string, apps []app, port uint16, flow bool) error {
	kind := ""
	if flow {
		kind = "UDP "
	}
	wanted := ""
	if port != 0 {
		wanted = " " + strconv.Itoa(int(port))
	}
	return &proxy.Error{Code: proxy.NoEndpoints, Unsent: true,
		Detail: fmt.Sprintf("the sidecar of %s has no app entry for %sport%s; it has %s", self, kind, wanted, ports(apps))}
}

// asked returns the port that the request is for, and whether it was named on purpose.
func asked(req *proxy.Request) (port uint16, named bool, err error) {
	if req.Upgrade == proxy.ConnectUDP { // RFC 9298 section 2: the path names it
		req.Fields.Del(proxy.ToField)
		_, port, err = datagram.Target(req.Path)
		return port, true, err
	}
	return askedByAuthority(req)
}

// errSidecar says that a request is not for the app.
var errSidecar = errors.New("the sidecar itself is asked")

func askedByAuthority(req *proxy.Request) (port uint16, named bool, err error) {
	if i := to(req); i >= 0 {
		value := req.Fields[i].Value
		req.Fields.DelFrom(i)
		req.Pillion = true
		value, req.News, _ = strings.Cut(value, proxy.NewsParam)
		i = strings.LastIndexByte(value, ':')
		if i < 0 {
			if value == proxy.SidecarName {
				err = errSidecar
			}
			return 0, false, err
		}
		n, err := strconv.ParseUint(value[i+1:], 10, 16)
		return uint16(n), err == nil, nil
	}
	i := strings.LastIndexByte(req.Authority, ':')
	if i < 0 || strings.HasSuffix(req.Authority, "]") {
		return 0, false, nil
	}
	n, err := strconv.ParseUint(req.Authority[i+1:], 10, 16)
	return uint16(n), err == nil, nil
}

// to is the place of the field that says for what a request is, or -1.
func to(req *proxy.Request) int {
	if req.Lacks(proxy.NameTo) {
		return -1
	}
	return req.Fields.Index(proxy.ToField)
}

func ports(apps []app) string {
	var b strings.Builder
	for i := range apps {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strconv.Itoa(int(apps[i].Port)))
		if apps[i].Flows {
			b.WriteString(" (UDP)")
		}
	}
	return b.String()
}

// authorise refuses callers that the entry does not list, Exchanges for an app that speaks no HTTP, and Streams where they are not wanted.
func authorise(a App) proxy.Layer {
	if len(a.Allow) == 0 && !a.StreamsOnly && !a.NoStreams {
		return func(next proxy.RoundTripper) proxy.RoundTripper { return next }
	}
	return proxy.Before(a.authorise).Layer
}

func (a *App) authorise(req *proxy.Request) error {
	if len(a.Allow) > 0 && (req.Peer == nil || !slices.Contains(a.Allow, req.Peer.Identity)) {
		caller := "an unknown caller"
		if req.Peer != nil {
			caller = string(req.Peer.Identity)
		}
		return &proxy.Error{Code: proxy.Denied, Unsent: true,
			Detail: fmt.Sprintf("%s may not call port %d: it is not in the allow list of that app entry", caller, a.Port)}
	}
	if a.StreamsOnly && !req.IsConnect() {
		return &proxy.Error{Code: proxy.BadRequest, Unsent: true,
			Detail: fmt.Sprintf("app port %d is configured with protocol: tcp and takes no HTTP requests", a.Port)}
	}
	if a.NoStreams && req.IsConnect() {
		return &proxy.Error{Code: proxy.Denied, Unsent: true,
			Detail: fmt.Sprintf("app port %d is configured with streams: refuse and takes only HTTP requests", a.Port)}
	}
	return nil
}

// tellCaller tells the app who calls, and removes what a client claimed about it.
func tellCaller(req *proxy.Request) error {
	if req.IsConnect() || req.Upgrade == proxy.ConnectUDP {
		return nil // bytes follow: there is no message to tell it in
	}
	if !req.Lacks(proxy.NameClaim) {
		req.Fields = slices.DeleteFunc(req.Fields, func(f proxy.Field) bool { return isClaim(f.Name) })
	}
	if p := req.Peer; p != nil {
		req.Gains(proxy.NameClaim)
		req.Fields = append(req.Fields,
			proxy.Field{Name: "X-Forwarded-For", Value: p.Host},
			proxy.Field{Name: "Forwarded", Value: p.Forwarded},
			proxy.Field{Name: "X-Pillion-Identity", Value: string(p.Identity)},
			proxy.Field{Name: "X-Forwarded-Client-Cert", Value: p.ClientCert})
	}
	return nil
}

// isClaim reports whether a field says who calls. An underscore counts as a dash: many apps cannot tell them apart, because
// CGI and its heirs make HTTP_X_FORWARDED_FOR of both.
func isClaim(name string) bool { return proxy.NamesOf(name)&proxy.NameClaim != 0 }
