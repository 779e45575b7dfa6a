package routing

import (
	"slices"

	"github.com/pillion-proxy/pillion/proxy"
)

// Conditions are what a request must be like: all of them must hold. The zero value holds for every request.
type Conditions struct {
	Path    Path
	Methods []string // empty is any
	Headers []Header
}

// NewConditions joins what a configuration says. A gRPC method becomes what its calls look like.
func NewConditions(path Path, methods []string, headers []Header, grpc GRPC) Conditions {
	c := Conditions{Path: path, Methods: methods, Headers: slices.Clip(headers)}
	if grpc.Set {
		c.Path, c.Methods = grpc.path(), []string{"POST"}
		c.Headers = append(c.Headers, Header{Name: "content-type", text: "application/grpc", kind: headerPrefix})
	}
	return c
}

// Covers reports whether every request that o holds for is one that c holds for.
func (c *Conditions) Covers(o *Conditions) bool {
	if !c.Path.covers(o.Path) || !coversMethods(c.Methods, o.Methods) {
		return false
	}
	for i := range c.Headers {
		if !slices.ContainsFunc(o.Headers, func(h Header) bool { return c.Headers[i].covers(&h) }) {
			return false
		}
	}
	return true
}

func coversMethods(all, some []string) bool {
	if len(all) == 0 {
		return true
	}
	for _, m := range some {
		if !slices.Contains(all, m) {
			return false
		}
	}
	return len(some) > 0
}

// match reports whether req, whose path without its query is given, is as c says.
func (c *Conditions) match(req *proxy.Request, path string) bool {
	if len(c.Methods) > 0 && !slices.Contains(c.Methods, req.Method) || !c.Path.match(path, nil) {
		return false
	}
	for i := range c.Headers {
		if !c.Headers[i].match(req.Fields) {
			return false
		}
	}
	return true
}

// Missing returns what p, a path to be made, takes from a path of the form from and would not find there: "{id}" or "*"; "" if it finds everything.
func (p Path) Missing(from Path) string {
	for _, s := range p.segments {
		if s.name != "" && from.index(s.name) < 0 {
			return "{" + s.name + "}"
		}
	}
	if p.rest && !from.rest {
		return "*"
	}
	return ""
}
