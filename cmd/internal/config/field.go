package config

import (
	"net/netip"
	"reflect"
	"strings"

	"github.com/pillion-proxy/pillion/proxy/routing"
)

// field is one key of a mapping: what the struct tags say. See the package comment for their meaning.
type field struct {
	index    int
	name     string // of the Go field, to find its comment
	key      string
	deflt    string
	note     string
	enum     []string
	min, max string
	none     bool
	required bool
	unix     bool
	any      bool
}

// fieldsOf lists the keys of a struct in their order.
func fieldsOf(t reflect.Type) []field {
	var fs []field
	for i := range t.NumField() {
		sf := t.Field(i)
		key := sf.Tag.Get("yaml")
		if key == "" || key == "-" {
			continue
		}
		f := field{
			index:    i,
			name:     sf.Name,
			key:      key,
			deflt:    sf.Tag.Get("default"),
			note:     sf.Tag.Get("note"),
			min:      sf.Tag.Get("min"),
			max:      sf.Tag.Get("max"),
			none:     sf.Tag.Get("none") == "true",
			required: sf.Tag.Get("required") == "true",
			unix:     strings.Contains(sf.Tag.Get("forms"), "unix"),
			any:      strings.Contains(sf.Tag.Get("forms"), "any"),
		}
		if e := sf.Tag.Get("enum"); e != "" {
			f.enum = strings.Split(e, ",")
		}
		fs = append(fs, f)
	}
	return fs
}

func keysOf(fs []field) []string {
	keys := make([]string, len(fs))
	for i, f := range fs {
		keys[i] = f.key
	}
	return keys
}

// homes lists the paths of the mappings that have this key, such as "peer" and "services.<name>" for "listen".
func homes(key string) []string {
	var found []string
	var walk func(path string, t reflect.Type)
	walk = func(path string, t reflect.Type) {
		for _, f := range fieldsOf(t) {
			if f.key == key {
				found = append(found, path)
			}
			switch ft := t.Field(f.index).Type; {
			case ft == reflect.TypeFor[[]Service]():
				walk("services.<name>", ft.Elem())
			case ft == reflect.TypeFor[[]App]():
				walk("app", ft.Elem())
			case isList(ft):
				walk(f.key, ft.Elem())
			case isMapping(ft):
				walk(f.key, ft)
			}
		}
	}
	walk("the top level", reflect.TypeFor[Config]())
	return found
}

// isMapping tells the structs that are mappings in YAML from those that are one scalar.
func isMapping(t reflect.Type) bool {
	if t.Kind() != reflect.Struct {
		return false
	}
	switch t {
	case reflect.TypeFor[Listen](), reflect.TypeFor[Target](), reflect.TypeFor[Endpoints](), reflect.TypeFor[Sources](), reflect.TypeFor[netip.Prefix](),
		reflect.TypeFor[routing.Path](), reflect.TypeFor[routing.GRPC](), reflect.TypeFor[RouteTo]():
		return false
	}
	return true
}

// isList reports whether t is a list of mappings, of which each has the same keys.
func isList(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[[]App](), reflect.TypeFor[[]Route](), reflect.TypeFor[[]Match]():
		return true
	}
	return false
}
