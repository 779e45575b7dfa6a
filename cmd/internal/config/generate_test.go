package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/routing"
)

// TestGenerated makes schema.json and reference.txt from the types and compares them with what is committed.
func TestGenerated(t *testing.T) {
	docs := typeComments(t)
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(buildSchema(t, docs)); err != nil {
		t.Fatal(err)
	}
	golden(t, "schema.json", b.String())
	golden(t, "reference.txt", buildReference(t, docs))
}

// typeComments returns the comment of each field of each struct in types*.go, on one line.
func typeComments(t *testing.T) map[string]map[string]string {
	t.Helper()
	docs := make(map[string]map[string]string)
	for _, name := range glob(t, "types*.go") {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		addComments(docs, file)
	}
	return docs
}

func addComments(docs map[string]map[string]string, file *ast.File) {
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		st, ok := spec.Type.(*ast.StructType)
		if !ok {
			return true
		}
		docs[spec.Name.Name] = make(map[string]string)
		for _, f := range st.Fields.List {
			for _, name := range f.Names {
				docs[spec.Name.Name][name.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
			}
		}
		return true
	})
}

// node is one schema.
type node struct {
	Dialect     string           `json:"$schema,omitempty"`
	Title       string           `json:"title,omitempty"`
	Ref         string           `json:"$ref,omitempty"`
	Description string           `json:"description,omitempty"`
	Type        any              `json:"type,omitempty"`
	Default     any              `json:"default,omitempty"`
	Enum        []string         `json:"enum,omitempty"`
	Pattern     string           `json:"pattern,omitempty"`
	Minimum     int              `json:"minimum,omitempty"`
	Maximum     int              `json:"maximum,omitempty"`
	AnyOf       []*node          `json:"anyOf,omitempty"`
	Items       *node            `json:"items,omitempty"`
	MinItems    int              `json:"minItems,omitempty"`
	Properties  properties       `json:"properties,omitempty"`
	Names       *node            `json:"propertyNames,omitempty"`
	Additional  any              `json:"additionalProperties,omitempty"`
	Required    []string         `json:"required,omitempty"`
	Defs        map[string]*node `json:"$defs,omitempty"`
}

// properties keep the order of the Go fields.
type properties []property

type property struct {
	key string
	*node
}

func (ps properties) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, p := range ps {
		if i > 0 {
			b.WriteByte(',')
		}
		value := new(bytes.Buffer)
		enc := json.NewEncoder(value)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(p.node); err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%q:%s", p.key, bytes.TrimSpace(value.Bytes()))
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func buildSchema(t *testing.T, docs map[string]map[string]string) *node {
	root := &node{
		Dialect: "https://json-schema.org/draft/2020-12/schema",
		Title:   "pillion.yaml",
		Ref:     "#/$defs/Config",
		Defs:    make(map[string]*node),
	}
	defineStruct(t, docs, root.Defs, reflect.TypeFor[Config]())
	return root
}

// defineStruct adds the schema of a struct, and those of the structs within it, to defs.
func defineStruct(t *testing.T, docs map[string]map[string]string, defs map[string]*node, st reflect.Type) *node {
	ref := &node{Ref: "#/$defs/" + st.Name()}
	if defs[st.Name()] != nil {
		return ref
	}
	n := &node{Type: "object", Additional: false}
	defs[st.Name()] = n
	for _, f := range fieldsOf(st) {
		ft := st.Field(f.index).Type
		doc := docs[st.Name()][f.name]
		if doc == "" {
			t.Errorf("%s.%s has no comment", st.Name(), f.name)
		}
		var p *node
		switch {
		case ft == reflect.TypeFor[[]App]():
			entry := &node{AnyOf: []*node{{Type: []string{"string", "integer"}}, defineStruct(t, docs, defs, ft.Elem())}}
			p = &node{AnyOf: []*node{{Type: []string{"string", "integer", "null"}}, entry.AnyOf[1], {Type: "array", Items: entry}}}
		case ft == reflect.TypeFor[[]Service]():
			short := endpointsSchema()
			p = &node{Type: []string{"object", "null"}, Names: &node{Pattern: "^[a-z0-9_]([-a-z0-9._]*[a-z0-9_])?$"},
				Additional: &node{AnyOf: append(short.AnyOf, defineStruct(t, docs, defs, ft.Elem()))}}
		case ft == reflect.TypeFor[[]Match]():
			entry := defineStruct(t, docs, defs, ft.Elem())
			p = &node{AnyOf: []*node{entry, {Type: "array", Items: entry}, {Type: "null"}}}
		case isList(ft):
			p = &node{Type: []string{"array", "null"}, Items: defineStruct(t, docs, defs, ft.Elem())}
		case ft == reflect.TypeFor[Caching](), ft == reflect.TypeFor[AppCaching]():
			p = &node{AnyOf: []*node{defineStruct(t, docs, defs, ft), {Type: "boolean"}, {Type: "string", Enum: []string{"auto", "on", "off"}}, {Type: "null"}}}
		case isMapping(ft):
			p = &node{AnyOf: []*node{defineStruct(t, docs, defs, ft), {Type: "null"}}}
		default:
			p = scalarSchema(t, f, ft)
		}
		p.Description = describeField(doc, f)
		n.Properties = append(n.Properties, property{f.key, p})
		if f.required {
			n.Required = append(n.Required, f.key)
		}
	}
	return ref
}

// describeField adds what the tags say in words.
func describeField(doc string, f field) string {
	if f.note != "" {
		doc += " Default: " + f.note + "."
	}
	return doc
}

func endpointsSchema() *node {
	return &node{AnyOf: []*node{{Type: "string"}, {Type: "array", Items: &node{Type: "string"}, MinItems: 1}}}
}

func scalarSchema(t *testing.T, f field, ft reflect.Type) *node {
	n := new(node)
	if f.deflt != "" {
		n.Default = f.deflt
	}
	none := func(pattern string) string {
		if f.none {
			return "^(none|" + pattern + ")$"
		}
		return "^" + pattern + "$"
	}
	switch ft {
	case reflect.TypeFor[time.Duration]():
		n.Type, n.Pattern = "string", none(`([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+`)
	case reflect.TypeFor[int64]():
		n.Type, n.Pattern = "string", none(`[0-9]+(B|KiB|MiB|GiB)`)
	case reflect.TypeFor[int]():
		n.AnyOf = []*node{{Type: "integer"}, {Type: "string", Pattern: none("[0-9]+")}}
	case reflect.TypeFor[Percent]():
		n.Type, n.Pattern = "string", none(`[0-9]+(\.[0-9]+)?%`)
	case reflect.TypeFor[uint16]():
		n.Type, n.Minimum, n.Maximum = "integer", 1, 65535
	case reflect.TypeFor[bool]():
		n.Type, n.Default = "boolean", f.deflt == "true"
	case reflect.TypeFor[Listen](), reflect.TypeFor[Target](), reflect.TypeFor[FileMode]():
		n.Type = []string{"string", "integer"}
	case reflect.TypeFor[Endpoints](), reflect.TypeFor[[]proxy.Identity](), reflect.TypeFor[Sources](), reflect.TypeFor[Patterns](), reflect.TypeFor[[]netip.AddrPort]():
		n.AnyOf = endpointsSchema().AnyOf
	case reflect.TypeFor[Methods](), reflect.TypeFor[HeaderNames](), reflect.TypeFor[Words]():
		n.AnyOf = endpointsSchema().AnyOf
	case reflect.TypeFor[Shares]():
		n.Type, n.Additional = []string{"object", "null"}, &node{Type: "string", Pattern: `^[0-9]+(\.[0-9]+)?%$`}
	case reflect.TypeFor[MethodTTLs]():
		n.Type, n.Additional = []string{"object", "null"}, &node{Type: "string", Pattern: `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`}
	case reflect.TypeFor[HeaderMatches](), reflect.TypeFor[HeaderValues](), reflect.TypeFor[LabelValues]():
		n.Type, n.Additional = []string{"object", "null"}, &node{Type: []string{"string", "number", "boolean", "integer"}}
	case reflect.TypeFor[routing.Path]():
		n.Type, n.Pattern = "string", "^/"
	case reflect.TypeFor[routing.GRPC](), reflect.TypeFor[RouteTo]():
		n.Type = "string"
	case reflect.TypeFor[netip.Prefix]():
		n.Type, n.Pattern = "string", `^127\.[0-9]+\.[0-9]+\.[0-9]+/[0-9]+$`
	default:
		if ft.Kind() != reflect.String {
			t.Errorf("no schema for %v", ft)
		}
		n.Type, n.Enum = "string", f.enum
	}
	return n
}

// buildReference writes the text of "pillion help config".
func buildReference(t *testing.T, docs map[string]map[string]string) string {
	var b strings.Builder
	b.WriteString(`pillion.yaml: every key

The file is YAML. Every key but service may be left out. Durations are written 250ms, 2s, 5m, 1h; sizes 64KiB, 1MiB.
Paths are relative to the file. An unknown key is a mistake. "pillion check" tells every mistake at once, and
"pillion check --print-defaults" prints the whole configuration with every default.
`)
	var walk func(indent int, st reflect.Type)
	walk = func(indent int, st reflect.Type) {
		pad := strings.Repeat("  ", indent)
		for _, f := range fieldsOf(st) {
			ft := st.Field(f.index).Type
			fmt.Fprintf(&b, "\n%s%s:%s\n", pad, f.key, referenceValue(f, ft))
			for _, l := range wrap(docs[st.Name()][f.name], 100-len(pad)) {
				fmt.Fprintf(&b, "%s    %s\n", pad, l)
			}
			switch {
			case ft == reflect.TypeFor[[]Service]():
				fmt.Fprintf(&b, "\n%s  <name>:\n", pad)
				walk(indent+2, ft.Elem())
			case isList(ft):
				fmt.Fprintf(&b, "\n%s  -\n", pad)
				walk(indent+2, ft.Elem())
			case isMapping(ft):
				walk(indent+1, ft)
			}
		}
	}
	walk(0, reflect.TypeFor[Config]())
	return b.String()
}

// referenceValue says what a key takes and what its absence means.
func referenceValue(f field, ft reflect.Type) string {
	words := map[reflect.Type]string{
		reflect.TypeFor[time.Duration]():    "duration",
		reflect.TypeFor[int64]():            "size",
		reflect.TypeFor[int]():              "number",
		reflect.TypeFor[uint16]():           "port",
		reflect.TypeFor[bool]():             "true | false",
		reflect.TypeFor[Listen]():           "address:port",
		reflect.TypeFor[Target]():           "address:port | port | unix:/path",
		reflect.TypeFor[Endpoints]():        "address | [addresses] | file:path | dns:name | srv:name | svcb:name | consul:name | etcd:name",
		reflect.TypeFor[proxy.Identity]():   "name | spiffe://…",
		reflect.TypeFor[[]proxy.Identity](): "[names]",
		reflect.TypeFor[FileMode]():         "octal",
		reflect.TypeFor[Sources]():          "[networks] | unix",
		reflect.TypeFor[Patterns]():         "[names | spiffe://…]",
		reflect.TypeFor[[]netip.AddrPort](): "[addresses]",
		reflect.TypeFor[netip.Prefix]():     "address/bits",
		reflect.TypeFor[routing.Path]():     "/path | /path/* | /path/{name}",
		reflect.TypeFor[routing.GRPC]():     "service | service/method",
		reflect.TypeFor[RouteTo]():          "name | name:port",
		reflect.TypeFor[Methods]():          "[methods]",
		reflect.TypeFor[HeaderMatches]():    "{name: value}",
		reflect.TypeFor[Shares]():           "{service: 10%}",
		reflect.TypeFor[MethodTTLs]():       "{/package.Service/Method: 30s}",
		reflect.TypeFor[HeaderValues]():     "{name: value}",
		reflect.TypeFor[LabelValues]():      "{name: value}",
		reflect.TypeFor[HeaderNames]():      "[names]",
		reflect.TypeFor[Words]():            "[words]",
	}
	kind, ok := words[ft]
	switch {
	case isMapping(ft), isList(ft), ft == reflect.TypeFor[[]Service]():
		return ""
	case len(f.enum) > 0:
		kind = strings.Join(f.enum, " | ")
	case !ok:
		kind = "text"
	}
	if f.unix {
		kind += " | port | unix:/path"
	}
	if f.none {
		kind += " | none"
	}
	s := " " + kind
	switch {
	case f.required:
		s += "   (required)"
	case f.deflt != "":
		s += "   (default " + f.deflt + ")"
	case f.note != "":
		s += "   (default: " + f.note + ")"
	}
	if f.min != "" {
		s += "   (" + f.min + " to " + f.max + ")"
	}
	return s
}
