package config

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

const (
	consulKind = "consul"
	etcdKind   = "etcd"
)

// parseConsul reads name or name:port, and perhaps ?tag=a&tag=b&dc=eu.
func parseConsul(s string, e *Endpoints) error {
	const example = "write one as in consul:billing, consul:billing:8080 or consul:billing?tag=v2&dc=eu"
	host, query, _ := strings.Cut(s, "?")
	name, port, hasPort := strings.Cut(host, ":")
	if !isWordOfConsul(name) {
		return fmt.Errorf("%q is no service of Consul; %s", clip(name), example)
	}
	c := ConsulService{Name: name}
	if hasPort {
		var err error
		if c.Port, err = parsePort(port); err != nil {
			return err
		}
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return fmt.Errorf("%q is no list of tags; %s", clip(query), example)
	}
	for key, all := range values {
		switch {
		case key != "tag" && key != "dc":
			return fmt.Errorf("%q is neither tag nor dc; %s", clip(key), example)
		case slices.ContainsFunc(all, func(v string) bool { return !isWordOfConsul(v) }), key == "dc" && len(all) > 1:
			return fmt.Errorf("%q is no value of %s; %s", clip(strings.Join(all, " ")), key, example)
		}
	}
	c.Tags, c.Datacenter = values["tag"], values.Get("dc")
	e.Consul = c
	return nil
}

// isWordOfConsul reports whether s can be a name or a tag, as far as we care.
func isWordOfConsul(s string) bool {
	return s != "" && len(s) <= maxName && printable(s) && !strings.ContainsAny(s, "/?&=:")
}

// String returns it as it is written in YAML.
func (c ConsulService) String() string {
	s := c.Name
	if c.Port != 0 {
		s += fmt.Sprintf(":%d", c.Port)
	}
	v := url.Values{"tag": c.Tags}
	if c.Datacenter != "" {
		v.Set("dc", c.Datacenter)
	}
	if q := v.Encode(); q != "" {
		s += "?" + q
	}
	return s
}

func parseEtcd(s string, e *Endpoints) error {
	if s == "" || len(s) > maxName || !printable(s) || strings.ContainsAny(s, "/:?") {
		return fmt.Errorf("%q is no service in etcd; write the name before the last slash of its keys, as in etcd:billing", clip(s))
	}
	e.Etcd = s
	return nil
}

// checkRegistries finds what is wrong with Consul, etcd, and the registration of this sidecar in them.
func (d *decoder) checkRegistries(c *Config) {
	d.checkConsul(c)
	d.checkEtcd(c)
	d.checkRegister(c)
}

func (d *decoder) checkConsul(c *Config) {
	k := &c.Consul
	const address = "consul.address"
	switch path, socket := strings.CutPrefix(k.Address, "unix:"); {
	case d.places[address] == nil || d.bad[address]:
	case socket && path != "":
		k.Address = "unix:" + join(d.dir, path)
	case !isURL(k.Address) || strings.Contains(k.Address[8:], "/"):
		d.report(d.places[address], address, "%q is no address of Consul; write one, as in http://127.0.0.1:8500", clip(k.Address))
	}
	d.plainFile("consul.token_file", &k.TokenFile)
	if key := "consul.token"; d.places[key] != nil && d.places["consul.token_file"] != nil {
		d.report(d.places[key], key, "token and token_file are two ways to say the same; remove one")
	}
	d.checkTLS(consulKind, &k.Roots, &k.Cert, &k.Key)
	used := c.Register == InConsul || slices.ContainsFunc(c.Services, func(s Service) bool { return s.Endpoints.Consul.Name != "" })
	if d.says(consulKind) && !used {
		d.warn(c, consulKind, "has no effect: no service has endpoints: consul:name, and register is not consul")
	}
}

func (d *decoder) checkEtcd(c *Config) {
	k := &c.Etcd
	for i, address := range k.Endpoints {
		at := "etcd.endpoints"
		if one := fmt.Sprintf("%s[%d]", at, i); d.places[one] != nil {
			at = one
		}
		host, port, err := net.SplitHostPort(address)
		if _, perr := parsePort(port); err != nil || perr != nil || host == "" {
			d.report(d.places[at], at, "%q is no member of etcd; write its host and port, as in 10.0.0.5:2379", clip(address))
		}
	}
	if key := "etcd.prefix"; !d.bad[key] && (!strings.HasPrefix(k.Prefix, "/") || !printable(k.Prefix)) {
		d.report(d.places[key], key, "%q is no prefix of keys; write one, as in /pillion/services/", clip(k.Prefix))
	}
	d.plainFile("etcd.password_file", &k.PasswordFile)
	for _, pair := range [][2]string{{"etcd.user", "etcd.password_file"}, {"etcd.password_file", "etcd.user"}} {
		if d.places[pair[0]] != nil && d.places[pair[1]] == nil {
			d.report(d.places[pair[0]], pair[0], "user and password_file go together; give both, or neither")
		}
	}
	d.checkTLS(etcdKind, &k.Roots, &k.Cert, &k.Key)
	k.TLS = k.TLS || k.Roots != "" || k.Cert != ""
	used := c.Register == InEtcd || slices.ContainsFunc(c.Services, func(s Service) bool { return s.Endpoints.Etcd != "" })
	if d.says(etcdKind) && !used {
		d.warn(c, etcdKind, "has no effect: no service has endpoints: etcd:name, and register is not etcd")
	}
}

// checkTLS is for the files of a client of a registry.
func (d *decoder) checkTLS(path string, roots, cert, key *string) {
	d.pemFile(sub(path, "roots"), roots)
	d.pemFile(sub(path, "cert"), cert)
	d.pemFile(sub(path, "key"), key)
	if one, other := d.places[sub(path, "cert")], d.places[sub(path, "key")]; (one == nil) != (other == nil) {
		at := sub(path, "cert")
		if one == nil {
			at = sub(path, "key")
		}
		d.report(d.places[at], at, "cert and key go together; give both, or neither")
	}
}

func (d *decoder) checkRegister(c *Config) {
	const key, address = "register", "registration.address"
	r := &c.Registration
	if n := d.places[address]; n != nil && !d.bad[address] {
		if addr := r.Advertised(); !addr.Addr().IsValid() || addr.Addr().IsUnspecified() || addr.Addr().Zone() != "" {
			d.report(n, address, "%q is no address that peers could connect to; write one, as in 10.0.0.7 or 10.0.0.7:15008", clip(r.Address))
		}
	}
	for i, tag := range r.Tags {
		at := fmt.Sprintf("registration.tags[%d]", i)
		if d.places[at] == nil {
			at = "registration.tags"
		}
		if tag == "" || !printable(tag) {
			d.report(d.places[at], at, "%q is no tag; write a word", clip(tag))
		}
	}
	switch {
	case d.bad[key]:
	case c.Register == NoRegistry:
		if d.says("registration") {
			d.warn(c, "registration", "has no effect without register")
		}
	case !c.Peer.Listen.On && !d.bad["peer.listen"]:
		d.report(d.places[key], key, "peer.listen is none, so that nobody can connect to what would be registered; remove one of the two")
	case len(c.App) == 0:
		d.warn(c, key, "app is empty: peers that find this sidecar here get no answer")
	}
	if c.Register == InEtcd && len(r.Tags) > 0 {
		d.warn(c, "registration.tags", "has no effect: they are Consul's")
	}
}
