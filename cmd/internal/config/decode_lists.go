package config

import (
	"fmt"
	"iter"
	"net/netip"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pillion-proxy/pillion/proxy"
)

// entries are those of a list, with their paths, or n alone, which stands for a list of one. Their places are noted, and aliases followed.
func (d *decoder) entries(path string, n *yaml.Node) iter.Seq2[string, *yaml.Node] {
	all, at := []*yaml.Node{n}, func(int) string { return path }
	if n.Kind == yaml.SequenceNode {
		all, at = n.Content, func(i int) string { return fmt.Sprintf("%s[%d]", path, i) }
	}
	return func(yield func(string, *yaml.Node) bool) {
		for i, e := range all {
			d.places[at(i)] = e
			if e = d.follow(e); e != nil && !yield(at(i), e) {
				return
			}
		}
	}
}

func isEmptyList(n *yaml.Node) bool { return n.Kind == yaml.SequenceNode && len(n.Content) == 0 }

// apps decodes app: a list, or the short form of one entry.
func (d *decoder) apps(path string, n *yaml.Node, out *[]App) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		*out = append(*out, d.app(path, n))
		return
	}
	for at, e := range d.entries(path, n) {
		*out = append(*out, d.app(at, e))
	}
}

// app decodes one entry: a mapping, or the short form, which is the value of its key to.
func (d *decoder) app(path string, n *yaml.Node) App {
	var a App
	v := reflect.ValueOf(&a).Elem()
	if n.Kind == yaml.MappingNode {
		d.mapping(path, n, v)
		return a
	}
	fs := d.fieldsOf(v.Type())
	d.defaults(path, fs, v, nil)
	f, _ := find(fs, "to")
	if n.Kind != yaml.ScalarNode || isNull(n) {
		d.report(n, path, "wrong type; write a port (8080), an address (127.0.0.1:8080), or keys and values (%s)", strings.Join(keysOf(fs), ", "))
		return a
	}
	d.places[sub(path, f.key)] = n
	if err := d.parse(n.Value, v.Field(f.index), f); err != nil {
		d.report(n, sub(path, f.key), "%v", err)
	}
	return a
}

// services decodes services: a mapping from names.
func (d *decoder) services(path string, n *yaml.Node, out *[]Service) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.report(n, path, "wrong type: %s; write names and where they run, as in billing: 10.0.0.7", describe(n))
		return
	}
	for _, p := range d.pairs(path, n, 0) {
		at := sub(path, p.key.Value)
		if err := CheckServiceName(p.key.Value); err != nil {
			d.report(p.key, sub(path, clip(p.key.Value)), "%v", err)
		}
		d.places[at] = p.value
		if v := d.follow(p.value); v != nil {
			s := d.service(at, v)
			s.Name = p.key.Value
			*out = append(*out, s)
		}
	}
}

// service decodes one service: a mapping, or the short form, which is the value of its key endpoints.
func (d *decoder) service(path string, n *yaml.Node) Service {
	var s Service
	v := reflect.ValueOf(&s).Elem()
	if n.Kind == yaml.MappingNode {
		d.mapping(path, n, v)
		if r := d.places[sub(path, "routes")]; r != nil {
			if r = d.follow(r); r != nil {
				d.routes(sub(path, "routes"), r, &s)
			}
		}
		return s
	}
	fs := d.fieldsOf(v.Type())
	d.defaults(path, fs, v, nil)
	if isNull(n) {
		d.report(n, path, "has no value; write where it runs, as in 10.0.0.7 or dns:billing.internal")
		return s
	}
	at := sub(path, "endpoints")
	d.places[at] = n
	d.endpoints(at, n, &s.Endpoints)
	return s
}

// endpoints decodes one source, or a list of addresses.
func (d *decoder) endpoints(path string, n *yaml.Node, out *Endpoints) {
	if isEmptyList(n) {
		d.report(n, path, "the list is empty; write where the service runs, as in [10.0.0.7]")
	}
	seen := make(map[Target]bool)
	for at, e := range d.entries(path, n) {
		if e.Kind != yaml.ScalarNode || isNull(e) {
			d.report(e, at, "wrong type; write an address (10.0.0.7), file:path or dns:name")
			d.bad[path] = true
			continue
		}
		before := len(out.Static)
		if err := parseEndpoint(e.Value, d.dir, out); err != nil {
			d.report(e, at, "%v", err)
			d.bad[path] = true
			continue
		}
		if len(out.Static) == before {
			if n.Kind == yaml.SequenceNode && len(n.Content) > 1 {
				d.report(e, at, "%s stands alone; write a list of addresses, or this one source", strings.SplitAfter(e.Value, ":")[0])
			}
			continue
		}
		if t := out.Static[before]; seen[t] {
			d.report(e, at, "%s is listed twice; remove one", e.Value)
		} else {
			seen[t] = true
		}
	}
}

// sources decodes from: a list, or one of its entries.
func (d *decoder) sources(path string, n *yaml.Node, out *Sources) {
	if isEmptyList(n) {
		d.report(n, path, "an empty list is nobody; name networks, as in [10.0.0.0/8], or leave it out")
	}
	for at, e := range d.entries(path, n) {
		if s, ok := d.scalar(at, e, field{}); ok {
			if err := parseSource(s, out); err != nil {
				d.report(e, at, "%v", err)
			}
		}
	}
}

// identities decodes allow: a list, or one name.
func (d *decoder) identities(path string, n *yaml.Node, out *[]proxy.Identity) {
	if isEmptyList(n) {
		d.report(n, path, "an empty list would refuse everybody; name who may call, or leave allow out")
	}
	for at, e := range d.entries(path, n) {
		s, ok := d.scalar(at, e, field{})
		if !ok {
			continue
		}
		id, err := parseIdentity(s)
		if err != nil {
			d.report(e, at, "%v", err)
		}
		*out = append(*out, id)
	}
}

// patterns decodes admin.share: a list, or one pattern.
func (d *decoder) patterns(path string, n *yaml.Node, out *Patterns) {
	for at, e := range d.entries(path, n) {
		s, ok := d.scalar(at, e, field{})
		if !ok {
			continue
		}
		if err := checkPattern(s); err != nil {
			d.report(e, at, "%v", err)
			d.bad[at] = true
		}
		*out = append(*out, proxy.IdentityPattern(s))
	}
}

// servers decodes dns_forward: a list of addresses, or one.
func (d *decoder) servers(path string, n *yaml.Node, out *[]netip.AddrPort) {
	if isEmptyList(n) {
		d.report(n, path, "an empty list names nobody; write the address of a name server, as in [10.0.0.2]")
	}
	for at, e := range d.entries(path, n) {
		s, ok := d.scalar(at, e, field{})
		if !ok {
			continue
		}
		server, err := parseNameServer(s)
		if err != nil {
			d.report(e, at, "%v", err)
			d.bad[path] = true
			continue
		}
		*out = append(*out, server)
	}
}

// parseNameServer reads an address, with port 53 unless it has one.
func parseNameServer(s string) (netip.AddrPort, error) {
	const port = 53
	if isDigits(s) {
		return netip.AddrPort{}, fmt.Errorf("%s is a port; write the address of a name server, as in 10.0.0.2", clip(s))
	}
	t, err := parseTarget(s, "", false)
	switch {
	case err != nil:
		return netip.AddrPort{}, err
	case t.Unix != "":
		return netip.AddrPort{}, fmt.Errorf("a name server has no socket path; write its address, as in 10.0.0.2")
	case t.Addr.Port() == 0:
		return netip.AddrPortFrom(t.Addr.Addr(), port), nil
	}
	return t.Addr, nil
}
