package config

// checkHTTP3 finds what is wrong with the HTTP/3 server for the app, and with apps that speak HTTP/3.
func (d *decoder) checkHTTP3(c *Config) {
	for i := range c.App {
		d.checkAppTLS(c, &c.App[i], d.appPath(i))
	}
	const at, cert, key = "outbound.http3", "outbound.http3_cert", "outbound.http3_key"
	o := &c.Outbound
	for k, path := range map[string]*string{cert: &o.HTTP3Cert, key: &o.HTTP3Key} {
		d.pemFile(k, path)
	}
	l := o.HTTP3
	if d.bad[at] {
		return
	}
	if !l.On {
		for _, k := range []string{cert, key} {
			if d.places[k] != nil {
				d.warn(c, k, "has no effect without http3")
			}
		}
		return
	}
	if !l.Loopback() {
		d.warn(c, at, "%s lets other machines call peers with the identity of this service; write 127.0.0.1:%d unless that is meant", l, l.Port)
	}
	switch {
	case (d.places[cert] == nil) != (d.places[key] == nil):
		d.report(d.places[at], at, "http3_cert and http3_key go together; give both, or neither")
	case d.places[cert] == nil && c.Identity.Cert != "":
		d.report(d.places[at], at, "needs a certificate for the names of services, which identity.cert is not; add http3_cert and http3_key")
	}
}

// pemFile makes a path absolute, and wants a file there.
func (d *decoder) pemFile(key string, path *string) {
	n := d.places[key]
	if n == nil || d.bad[key] {
		return
	}
	if *path == "" {
		d.report(n, key, "has no value; write the path of a PEM file or remove the line")
		return
	}
	*path = join(d.dir, *path)
	if err := readable(*path); err != nil {
		d.report(n, key, "%v; write the path of a PEM file", err)
	}
}

func (d *decoder) checkAppTLS(c *Config, a *App, path string) {
	tls, roots := sub(path, "tls"), sub(path, "tls.roots")
	d.pemFile(roots, &a.TLS.Roots)
	if d.bad[sub(path, "protocol")] {
		return
	}
	if a.Protocol != AppH3 {
		if d.says(tls) {
			d.warn(c, tls, "has no effect: only protocol h3 has TLS")
		}
		return
	}
	if to := sub(path, "to"); a.To.Unix != "" && !d.bad[to] {
		d.report(d.places[to], to, "HTTP/3 needs an address and port, of UDP; write one, or another protocol")
	}
	if header := sub(path, "proxy_protocol"); a.ProxyProtocol != ProxyNone && !d.bad[header] {
		d.report(d.places[header], header, "the PROXY protocol is not for HTTP/3; remove this line")
	}
	if insecure := sub(path, "tls.insecure"); a.TLS.Insecure && d.places[roots] != nil {
		d.warn(c, insecure, "takes any certificate, so that roots has no effect")
	}
	if name := sub(path, "tls.name"); d.places[name] != nil && a.TLS.Name == "" && !d.bad[name] {
		d.report(d.places[name], name, "has no value; write the name in the app's certificate or remove the line")
	}
}
