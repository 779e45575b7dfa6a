package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pillion-proxy/pillion/proxy"
)

const (
	maxNodes  = 50_000 // values that a document may have once its aliases are followed, unless it has as many bytes; more is refused
	maxMerges = 16     // merge keys within merge keys
)

// decoder fills a Config from a tree of YAML nodes and collects every mistake.
type decoder struct {
	file     string // as the user named it
	dir      string // absolute; relative paths begin here
	problems Problems
	nodes    int                   // visited so far
	most     int                   // at most
	flags    map[*yaml.Node]string // the flag that a node was made from
	places   map[string]*yaml.Node // the value of each path, for the checks that come after
	bad      map[string]bool       // paths whose value has a Problem
	usual    map[string]bool       // paths whose value is what it would be without being written, so that it says nothing
	fields   map[reflect.Type][]field
	// inherited are the keys of a route, while one is decoded, that have the service's value where they are not written.
	inherited map[string]bool
}

// fieldsOf is the function of that name, which is asked about the same few types for every service.
func (d *decoder) fieldsOf(t reflect.Type) []field {
	fs, ok := d.fields[t]
	if !ok {
		fs = fieldsOf(t)
		if d.fields == nil {
			d.fields = make(map[reflect.Type][]field)
		}
		d.fields[t] = fs
	}
	return fs
}

// report adds a Problem at node n, whose path is key.
func (d *decoder) report(n *yaml.Node, key, format string, args ...any) {
	d.bad[key] = true
	d.problems = append(d.problems, d.problem(n, key, format, args...))
}

func (d *decoder) problem(n *yaml.Node, key, format string, args ...any) Problem {
	p := Problem{File: d.file, Key: key, Text: fmt.Sprintf(format, args...)}
	if flag, ok := d.flags[n]; ok {
		p.File = flag
		return p
	}
	if d.file == "" {
		p.File = "the flags"
		return p
	}
	if n == nil {
		return p
	}
	p.Line, p.Column = n.Line, n.Column
	return p
}

// value decodes n, found at path, into v as field f says.
func (d *decoder) value(path string, n *yaml.Node, v reflect.Value, f field) {
	d.places[path] = n
	n = d.follow(n)
	if n == nil {
		return
	}
	if v.Kind() == reflect.Slice && d.isInherited(path) {
		v.SetZero() // a list is written whole
	}
	switch p := v.Addr().Interface().(type) {
	case *[]App:
		d.apps(path, n, p)
	case *[]Service:
		d.services(path, n, p)
	case *Endpoints:
		d.endpoints(path, n, p)
	case *[]proxy.Identity:
		d.identities(path, n, p)
	case *Patterns:
		d.patterns(path, n, p)
	case *Sources:
		d.sources(path, n, p)
	case *[]netip.AddrPort:
		d.servers(path, n, p)
	case *[]Route: // once the service's own keys are known
	case *[]Match:
		d.matches(path, n, p)
	case *Methods:
		d.words(path, n, (*[]string)(p), checkMethod)
	case *Words:
		d.words(path, n, (*[]string)(p), func(string) error { return nil })
	case *HeaderNames:
		d.words(path, n, (*[]string)(p), checkEdited)
	case *MethodTTLs:
		d.methodTTLs(path, n, p)
	case *Shares:
		d.shares(path, n, p)
	case *HeaderMatches:
		d.headerMatches(path, n, p)
	case *LabelValues:
		d.labelValues(path, n, p)
	case *HeaderValues:
		d.headerValues(path, n, p)
	default:
		if isMapping(v.Type()) {
			if n = d.cacheMode(path, n, v); n == nil {
				return
			}
			d.mapping(path, n, v)
			d.usual[path] = d.saysNothing(path, d.fieldsOf(v.Type()))
			return
		}
		if s, ok := d.scalar(path, n, f); ok {
			if err := d.parse(s, v, f); err != nil {
				d.report(n, path, "%v", err)
				return
			}
			d.usual[path] = d.isDefault(v, f)
		}
	}
}

// isDefault reports whether v is what f is when it is not written.
func (d *decoder) isDefault(v reflect.Value, f field) bool {
	deflt := reflect.New(v.Type()).Elem()
	return f.deflt != "" && d.parse(f.deflt, deflt, f) == nil && v.Equal(deflt)
}

// saysNothing reports whether every key that is written in the mapping at path has its default.
func (d *decoder) saysNothing(path string, fs []field) bool {
	for _, f := range fs {
		if d.says(sub(path, f.key)) {
			return false
		}
	}
	return true
}

// says reports whether something other than its default is written at path. Only of that a warning says that it has no effect: the printed form
// of a configuration has every key.
func (d *decoder) says(path string) bool { return d.places[path] != nil && !d.usual[path] }

// follow returns what an alias stands for, or nil (and reports it, once) if the document is too large.
func (d *decoder) follow(n *yaml.Node) *yaml.Node {
	if !d.visit(n, 1) {
		return nil
	}
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// visit counts values, and reports, once, that there are too many: then it is false.
func (d *decoder) visit(n *yaml.Node, count int) bool {
	before := d.nodes
	d.nodes += count
	if d.nodes > d.most && before <= d.most {
		d.report(n, "", "the document has more than %d values once its aliases are followed; write less", d.most)
	}
	return d.nodes <= d.most
}

// pair is one key of a mapping and its value.
type pair struct{ key, value *yaml.Node }

// pairs lists a mapping's keys, those merged in with << last, and reports the keys that are written twice.
func (d *decoder) pairs(path string, n *yaml.Node, depth int) []pair {
	if !d.visit(n, len(n.Content)/2) {
		return nil
	}
	var own, merged []pair
	seen := make(map[string]*yaml.Node, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		switch {
		case k.Kind != yaml.ScalarNode:
			d.report(n.Content[i], path, "a key must be a word")
		case k.ShortTag() == "!!merge":
			merged = append(merged, d.merge(path, v, depth)...)
		case seen[k.Value] != nil:
			d.report(k, sub(path, k.Value), "written twice, first on line %d; keep one", seen[k.Value].Line)
		default:
			seen[k.Value] = k
			own = append(own, pair{k, v})
		}
	}
	for _, m := range merged {
		if seen[m.key.Value] == nil {
			seen[m.key.Value] = m.key
			own = append(own, m)
		}
	}
	return own
}

// merge returns what a << key brings in: the keys of a mapping, or of a list of mappings.
func (d *decoder) merge(path string, n *yaml.Node, depth int) []pair {
	if n = d.follow(n); n == nil {
		return nil
	}
	if depth >= maxMerges {
		d.report(n, path, "more than %d merges within each other; write the keys out", maxMerges)
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		return d.pairs(path, n, depth+1)
	case yaml.SequenceNode:
		var all []pair
		for _, e := range n.Content {
			all = append(all, d.merge(path, e, depth+1)...)
		}
		return all
	default:
		d.report(n, path, "<< takes a mapping, as in <<: *name")
		return nil
	}
}

// mapping decodes a struct, key by key, and fills the defaults of the keys that are absent.
func (d *decoder) mapping(path string, n *yaml.Node, v reflect.Value) {
	fs := d.fieldsOf(v.Type())
	switch {
	case isNull(n):
		n = &yaml.Node{Kind: yaml.MappingNode, Line: n.Line, Column: n.Column}
	case n.Kind != yaml.MappingNode:
		d.report(n, path, "wrong type: %s; write keys and values here (%s)", describe(n), strings.Join(keysOf(fs), ", "))
		d.defaults(path, fs, v, nil)
		return
	}
	given, meant := make(map[string]bool, len(n.Content)/2), make(map[string]bool)
	for _, p := range d.pairs(path, n, 0) {
		f, ok := find(fs, p.key.Value)
		if !ok {
			meant[d.unknown(path, p.key, fs)] = true
			continue
		}
		given[f.key] = true
		d.value(sub(path, f.key), p.value, v.Field(f.index), f)
	}
	for _, f := range fs {
		if f.required && !given[f.key] && !meant[f.key] {
			d.report(n, sub(path, f.key), "%s", d.missing(path, f.key))
		}
	}
	d.defaults(path, fs, v, given)
}

// missing is the text for a required key that is absent.
func (d *decoder) missing(path, key string) string {
	if path == "" && key == "service" {
		if d.file == "" {
			return "missing; say the name of this workload, as in --service orders"
		}
		return "missing; write the name of this workload, as in service: orders"
	}
	return fmt.Sprintf("missing; write where it runs, as in %s: 10.0.0.7 or %s: dns:billing.internal", key, key)
}

// defaults fills the fields that were not given, and those of the mappings within them.
func (d *decoder) defaults(path string, fs []field, v reflect.Value, given map[string]bool) {
	for _, f := range fs {
		fv := v.Field(f.index)
		switch {
		case given[f.key] || d.isInherited(sub(path, f.key)):
		case isMapping(fv.Type()):
			d.defaults(sub(path, f.key), d.fieldsOf(fv.Type()), fv, nil)
		case f.deflt != "":
			if err := d.parse(f.deflt, fv, f); err != nil {
				panic(fmt.Sprintf("config: default of %s: %v", sub(path, f.key), err))
			}
		}
	}
}

// unknown reports a key that no field has, and returns the one that was probably meant, or "".
func (d *decoder) unknown(path string, k *yaml.Node, fs []field) (meant string) {
	keys := keysOf(fs)
	at := sub(path, clip(k.Value))
	if len(d.problems) >= maxProblems { // it will be counted, not told
		d.report(k, at, "unknown key")
		return ""
	}
	if near := nearest(k.Value, keys); near != "" {
		d.report(k, at, "unknown key; did you mean %s?", near)
		return near
	}
	if where := homes(k.Value); len(where) > 0 {
		d.report(k, at, "unknown key here; %s belongs to %s", k.Value, orList(where))
		return ""
	}
	d.report(k, at, "unknown key; known here are %s", strings.Join(keys, ", "))
	return ""
}

// orList joins words: "a, b or c".
func orList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

func find(fs []field, key string) (field, bool) {
	for _, f := range fs {
		if f.key == key {
			return f, true
		}
	}
	return field{}, false
}

// sub is the path of a key below path.
func sub(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// describe names the type of a node for a message.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		return fmt.Sprintf("%q is one value", clip(n.Value))
	default:
		return "an alias"
	}
}
