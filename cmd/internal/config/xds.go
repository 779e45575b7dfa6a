package config

import (
	"fmt"
	"strings"
)

const xdsKind = "xds"

// parseXDS reads the name of a cluster, which may hold whatever the control plane likes.
func parseXDS(s string, e *Endpoints) error {
	const most = 1024 // bytes
	if s == "" || len(s) > most || !printable(s) || strings.TrimSpace(s) != s {
		return fmt.Errorf("%q is no name of a cluster; write one, as in xds:billing", clip(s))
	}
	e.XDS = s
	return nil
}

// checkXDS finds what is wrong with the control plane, and makes paths absolute.
func (d *decoder) checkXDS(c *Config) {
	const server, cert, key = "xds.server", "xds.cert", "xds.key"
	x := &c.XDS
	for k, path := range map[string]*string{cert: &x.Cert, key: &x.Key, "xds.roots": &x.Roots, "xds.token_file": &x.TokenFile} {
		d.plainFile(k, path)
	}
	if path, ok := strings.CutPrefix(x.Server, "unix:"); ok && path != "" {
		x.Server = "unix:" + join(d.dir, path)
	}
	if n := d.places[server]; n != nil && !d.bad[server] && !x.socket() && !isServer(x.Server) {
		d.report(n, server, "%q is no control plane; write https://host:port, http://host:port or unix:/path", clip(x.Server))
		d.bad[server] = true
	}
	if (d.places[cert] == nil) != (d.places[key] == nil) {
		at := cert
		if d.places[at] == nil {
			at = key
		}
		d.report(d.places[at], at, "cert and key go together; give both, or neither")
	}
	if _, secure := x.Address(); !secure && x.Server != "" && !d.bad[server] {
		for _, k := range []string{cert, "xds.roots"} {
			if d.places[k] != nil {
				d.warn(c, k, "has no effect: server has no TLS; write https://")
			}
		}
	}
	used := false
	for i := range c.Services {
		if s := &c.Services[i]; s.Endpoints.XDS != "" {
			used = true
			if x.Server == "" && !d.bad[server] {
				at := sub(sub("services", s.Name), "endpoints")
				d.report(d.places[at], at, "which control plane knows the cluster? Add xds: {server: https://host:port}")
			}
		}
	}
	if !used && d.says("xds") {
		d.warn(c, "xds", "has no effect: no service has endpoints: xds:cluster")
	}
}

func (x *XDS) socket() bool {
	return strings.HasPrefix(x.Server, "unix:") && len(x.Server) > len("unix:")
}

// Address is where to connect, and whether with TLS.
func (x *XDS) Address() (address string, secure bool) {
	if rest, ok := strings.CutPrefix(x.Server, "https://"); ok {
		return rest, true
	}
	return strings.TrimPrefix(x.Server, "http://"), false
}

// isServer wants a scheme, a host and a port, and nothing else.
func isServer(s string) bool {
	rest := strings.TrimPrefix(strings.TrimPrefix(s, "https://"), "http://")
	i := strings.LastIndexByte(rest, ':')
	if rest == s || i < 1 || strings.Contains(rest, "/") {
		return false
	}
	_, err := parsePort(rest[i+1:])
	host := strings.Trim(rest[:i], "[]")
	return err == nil && (looksLikeIP(host) || checkHostName(host) == nil)
}
