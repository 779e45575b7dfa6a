package config

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/routing"
)

// routes decodes the routes of a service, whose own keys are complete: a route inherits them.
func (d *decoder) routes(path string, n *yaml.Node, s *Service) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.report(n, path, "wrong type: %s; write a list of routes, as in - {match: {path: /users/*}, timeout: 2s}", describe(n))
		return
	}
	for at, e := range d.entries(path, n) {
		var r Route
		v := reflect.ValueOf(&r).Elem()
		before := d.inherited
		d.inherited = d.inherit(v, reflect.ValueOf(s).Elem())
		d.mapping(at, e, v)
		d.inherited = before
		s.Routes = append(s.Routes, r)
	}
}

// inherit copies to route what it has in common with its service, and returns these keys.
func (d *decoder) inherit(route, service reflect.Value) map[string]bool {
	keys := make(map[string]bool)
	own := d.fieldsOf(service.Type())
	for _, f := range d.fieldsOf(route.Type()) {
		o, ok := find(own, f.key)
		if !ok || service.Field(o.index).Type() != route.Field(f.index).Type() {
			continue
		}
		route.Field(f.index).Set(service.Field(o.index))
		keys[f.key] = true
	}
	return keys
}

// isInherited reports whether the key at path, or a mapping that it is in, has a value already if it is not written.
func (d *decoder) isInherited(path string) bool {
	if d.inherited == nil {
		return false
	}
	_, rest, ok := strings.Cut(path, ".routes[") // of a name, "]." cannot be part
	if !ok {
		return false
	}
	_, key, _ := strings.Cut(rest, "].")
	key, _, _ = strings.Cut(key, ".")
	return d.inherited[key]
}

// matches decodes match: a mapping, or a list of them.
func (d *decoder) matches(path string, n *yaml.Node, out *[]Match) {
	for at, e := range d.entries(path, n) {
		var m Match
		d.mapping(at, e, reflect.ValueOf(&m).Elem())
		*out = append(*out, m)
	}
}

// words decodes a list of words, or one, which check looks at.
func (d *decoder) words(path string, n *yaml.Node, out *[]string, check func(string) error) {
	*out = nil
	for at, e := range d.entries(path, n) {
		s, ok := d.scalar(at, e, field{})
		if !ok {
			continue
		}
		if err := check(s); err != nil {
			d.report(e, at, "%v", err)
			d.bad[path] = true
		}
		*out = append(*out, s)
	}
}

// headers decodes a mapping from names of headers to texts, and calls add for each, in the order of the file.
func (d *decoder) headers(path string, n *yaml.Node, add func(name, value string) error) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.report(n, path, "wrong type: %s; write names and values, as in {x-team: blue}", describe(n))
		return
	}
	for _, p := range d.pairs(path, n, 0) {
		at := sub(path, clip(p.key.Value))
		d.places[at] = p.value
		v := d.follow(p.value)
		if v == nil {
			continue
		}
		if s, ok := d.scalar(at, v, field{}); ok {
			if err := add(p.key.Value, s); err != nil {
				d.report(v, at, "%v", err)
				d.bad[path] = true
			}
		}
	}
}

func (d *decoder) headerMatches(path string, n *yaml.Node, out *HeaderMatches) {
	*out = nil
	d.headers(path, n, func(name, value string) error {
		h, err := routing.ParseHeader(name, value)
		*out = append(*out, h)
		return err
	})
}

func (d *decoder) headerValues(path string, n *yaml.Node, out *HeaderValues) {
	*out = nil
	d.headers(path, n, func(name, value string) error {
		*out = append(*out, proxy.Field{Name: name, Value: value})
		return errors.Join(checkEdited(name), routing.CheckFieldValue(value))
	})
}

func (d *decoder) labelValues(path string, n *yaml.Node, out *LabelValues) {
	*out = nil
	d.headers(path, n, func(name, value string) error {
		*out = append(*out, proxy.Field{Name: name, Value: value})
		const most = 128 // bytes, as in discovery.LabelsOf
		if routing.CheckFieldName(name) != nil || strings.HasPrefix(name, "pillion-") || len(name) > most || len(value) > most || strings.Contains(value, ",") || !printable(value) {
			return fmt.Errorf("%q is no label with a value; write words, as in {version: v2}", clip(name))
		}
		return nil
	})
}

// checkMethod says why a request cannot have the method, or no route can be for it.
func checkMethod(s string) error {
	switch {
	case routing.CheckFieldName(s) != nil:
		return fmt.Errorf("%q is no method; write one, as in GET", clip(s))
	case s != strings.ToUpper(s):
		return fmt.Errorf("methods are in capitals; write %s", strings.ToUpper(clip(s)))
	case s == "CONNECT":
		return errors.New("CONNECT opens a Stream, and routes are for requests")
	}
	return nil
}

// checkEdited says why a header is not for a route to change.
func checkEdited(name string) error {
	if err := routing.CheckFieldName(name); err != nil {
		return err
	}
	switch strings.ToLower(name) {
	case "host":
		return errors.New("write rewrite: {host: ...} for another host")
	case "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length":
		return fmt.Errorf("%s belongs to the connection, or to the length of the message, and is pillion's own", name)
	}
	return nil
}

// parseRouteTo reads name or name:port.
func parseRouteTo(s string) (RouteTo, error) {
	name, text, hasPort := strings.Cut(s, ":")
	to := RouteTo{Name: name}
	if err := CheckServiceName(name); err != nil {
		return to, err
	}
	var err error
	if hasPort {
		to.Port, err = parsePort(text)
	}
	return to, err
}
