package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/pillion-proxy/pillion/proxy/routing"
)

// checkRoutes finds routes that cannot work, and those that nothing can reach.
func (d *decoder) checkRoutes(c *Config, s *Service, path string) {
	var table []routing.Conditions
	for i := range s.Routes {
		at := fmt.Sprintf("%s[%d]", sub(path, "routes"), i)
		d.checkRoute(c, &s.Routes[i], at)
		if key := sub(at, "limits.connections"); s.Routes[i].Limits.Connections != s.Limits.Connections && !d.bad[key] {
			d.report(d.places[key], key, "connections are the service's, whatever they are for; write it into the service's limits")
		}
		for j, alt := range s.Routes[i].Conditions() {
			key := d.matchPath(at, j)
			if d.misread(key) { // it is not what was meant, and neither hides another nor is hidden
				table = append(table, neverMet())
				continue
			}
			if k := slices.IndexFunc(table, func(o routing.Conditions) bool { return o.Covers(&alt) }); k >= 0 {
				d.report(d.places[key], key, "is never reached: every request that fits here fits %s before; put it first, or remove it", d.matchName(s, path, k))
			}
			table = append(table, alt)
		}
	}
	if len(s.Routes) > 0 && s.Protocol != ServiceAuto && s.Protocol != ServiceHTTP {
		d.warn(c, sub(path, "routes"), "has no effect on listen: protocol %s has no requests", s.Protocol)
	}
}

// misread reports whether something is wrong in the set of conditions at key.
func (d *decoder) misread(key string) bool {
	for bad := range d.bad {
		if bad == key || strings.HasPrefix(bad, key+".") {
			return true
		}
	}
	return false
}

// neverMet are conditions that nothing fits.
func neverMet() routing.Conditions { return routing.Conditions{Methods: []string{""}} }

// matchPath is the path of set j of the conditions of the route at path.
func (d *decoder) matchPath(path string, j int) string {
	for _, key := range []string{fmt.Sprintf("%s.match[%d]", path, j), path + ".match"} {
		if d.places[key] != nil {
			return key
		}
	}
	return path
}

// matchName says where set k of all the conditions of s is.
func (d *decoder) matchName(s *Service, path string, k int) string {
	for i := range s.Routes {
		n := max(len(s.Routes[i].Match), 1)
		if k < n {
			return d.where(d.matchPath(fmt.Sprintf("%s[%d]", sub(path, "routes"), i), k))
		}
		k -= n
	}
	return path
}

// Conditions are the sets of conditions of a route, at least one.
func (r *Route) Conditions() []routing.Conditions {
	if len(r.Match) == 0 {
		return make([]routing.Conditions, 1)
	}
	all := make([]routing.Conditions, len(r.Match))
	for i, m := range r.Match {
		all[i] = routing.NewConditions(m.Path, m.Method, m.Headers, m.GRPC)
	}
	return all
}

func (d *decoder) checkRoute(c *Config, r *Route, path string) {
	for j := range r.Match {
		m, at := &r.Match[j], d.matchPath(path, j)
		for key, given := range map[string]bool{"path": m.Path.String() != "", "method": len(m.Method) > 0} {
			if key := sub(at, key); m.GRPC.Set && given && !d.bad[key] {
				d.report(d.places[key], key, "stands beside grpc, which says it already; remove one of the two")
			}
		}
	}
	if to := r.Service; to.Name != "" && !slices.ContainsFunc(c.Services, func(s Service) bool { return s.Name == to.Name }) {
		key := sub(path, "service")
		d.report(d.places[key], key, "there is no service %s; write one of those below services", to.Name)
	}
	d.checkHost(sub(path, "rewrite.host"), r.Rewrite.Host)
	d.checkHost(sub(path, "redirect.host"), r.Redirect.Host)
	d.checkNames(r, sub(path, "rewrite.path"), r.Rewrite.Path)
	d.checkNames(r, sub(path, "redirect.path"), r.Redirect.Path)
	d.checkRedirect(r, path)
}

// checkNames: what a path is made of must be in the path that a request has.
func (d *decoder) checkNames(r *Route, key string, p routing.Path) {
	if p.String() == "" || d.bad[key] {
		return
	}
	for _, alt := range r.Conditions() {
		if missing := p.Missing(alt.Path); missing != "" {
			d.report(d.places[key], key, "%s is not in the path that the requests have; write it into match, as in match: {path: %s}", missing, p)
			return
		}
	}
}

func (d *decoder) checkHost(key, host string) {
	if host == "" || d.bad[key] {
		return
	}
	u, err := url.Parse("http://" + host)
	if err != nil || u.Host != host || u.Hostname() == "" || strings.ContainsAny(host, "@ ") {
		d.report(d.places[key], key, "%q is no host; write one, as in billing.example or billing.example:8080", clip(host))
	}
}

// checkRedirect: who is sent elsewhere is not served here.
func (d *decoder) checkRedirect(r *Route, path string) {
	on := sub(path, "redirect")
	if key := sub(on, "status"); !slices.Contains([]int{301, 302, 303, 307, 308}, r.Redirect.Status) && !d.bad[key] {
		d.report(d.places[key], key, "%d is no redirect; write 301, 302, 303, 307 or 308", r.Redirect.Status)
	}
	if key := sub(on, "host"); r.Redirect.Port != 0 && strings.Contains(strings.TrimSuffix(r.Redirect.Host, "]"), ":") && !strings.HasSuffix(r.Redirect.Host, "]") {
		d.report(d.places[key], key, "has a port, and port is another one; keep one of them")
	}
	switch {
	case !r.Redirect.On():
		if d.says(on) {
			d.report(d.places[on], on, "leads nowhere; write a host, a path, a port or a scheme")
		}
	case r.Service.Name != "":
		d.report(d.places[on], on, "a request that is answered with a redirect goes to no service; remove service, or redirect")
	}
	if key := sub(path, "rewrite"); r.Redirect.On() && d.says(key) {
		d.report(d.places[key], key, "a request that is answered with a redirect is not rewritten; remove rewrite, or redirect")
	}
}
