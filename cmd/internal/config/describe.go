package config

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/routing"
)

//go:generate go test -run ^TestGenerated$ . -args -update

//go:embed schema.json
var schema string

//go:embed reference.txt
var reference string

// Schema is the JSON Schema (2020-12) of the file, for editors.
func Schema() string { return schema }

// Reference is the text of "pillion help config": every key, its values, its default.
func Reference() string { return reference }

// comments returns the explanation of each key, by the name of the Go struct and the key.
func comments() map[string]map[string]string {
	var doc struct {
		Defs map[string]struct {
			Properties map[string]struct{ Description string }
		} `json:"$defs"`
	}
	if err := json.Unmarshal([]byte(schema), &doc); err != nil {
		panic(fmt.Sprintf("config: schema.json: %v", err))
	}
	all := make(map[string]map[string]string)
	for name, def := range doc.Defs {
		all[name] = make(map[string]string)
		for key, p := range def.Properties {
			all[name][key], _, _ = strings.Cut(p.Description, " Default: ")
		}
	}
	return all
}

// Print returns the whole configuration as YAML, with every default and a comment for each key. Load of it
// gives an equal Config. The admin token and headers for a collector are not shown.
func (c *Config) Print() string {
	p := &printer{docs: comments()}
	p.line(0, "# Every key of this configuration, with the defaults filled in. A key that begins with # has no value.")
	p.mapping(0, reflect.ValueOf(*c))
	return p.b.String()
}

// Brief returns the same without comments, without what has no value, and without the values of header fields whose names sound like secrets.
func (c *Config) Brief() string {
	p := &printer{brief: true}
	p.mapping(0, reflect.ValueOf(*c))
	return p.b.String()
}

type printer struct {
	b    strings.Builder
	docs map[string]map[string]string
	// brief leaves out what nobody who knows pillion has to be told.
	brief bool
	// hushed is set from the second element of a list on: the comments of the first are enough.
	hushed bool
}

func (p *printer) line(indent int, format string, args ...any) {
	fmt.Fprintf(&p.b, strings.Repeat("  ", indent)+format+"\n", args...)
}

func (p *printer) mapping(indent int, v reflect.Value) {
	for _, f := range fieldsOf(v.Type()) {
		if indent == 0 && !p.brief {
			p.line(0, "")
		}
		if !p.hushed {
			for _, l := range wrap(p.docs[v.Type().Name()][f.key], 100) {
				p.line(indent, "# %s", l)
			}
		}
		if s, ok := v.Interface().(Service); ok && f.key == "identity" && s.Identity != "" && !s.Pinned {
			p.line(indent, "# identity: %s", quote(string(s.Identity))) // written out it would mean more
			continue
		}
		p.field(indent, f, v.Field(f.index))
	}
}

func (p *printer) field(indent int, f field, v reflect.Value) {
	switch x := v.Interface().(type) {
	case []Service:
		if len(x) == 0 {
			p.line(indent, "services: {}")
			return
		}
		p.line(indent, "services:")
		for i, s := range x {
			p.hushed = i > 0
			p.line(indent+1, "%s:", s.Name)
			p.mapping(indent+2, reflect.ValueOf(s))
		}
		p.hushed = false
	default:
		if isList(v.Type()) {
			p.list(indent, f, v)
			return
		}
		if isMapping(v.Type()) {
			inner := &printer{docs: p.docs, hushed: p.hushed, brief: p.brief}
			if inner.mapping(indent+1, v); p.brief && inner.b.Len() == 0 {
				return
			}
			p.line(indent, "%s:", f.key)
			p.b.WriteString(inner.b.String())
			return
		}
		p.scalar(indent, f, v)
	}
}

func (p *printer) list(indent int, f field, v reflect.Value) {
	if v.Len() == 0 {
		p.line(indent, "%s: []", f.key)
		return
	}
	p.line(indent, "%s:", f.key)
	before := p.hushed
	for i := range v.Len() {
		p.hushed = before || i > 0
		p.line(indent+1, "-")
		p.mapping(indent+2, v.Index(i))
	}
	p.hushed = before
}

func (p *printer) scalar(indent int, f field, v reflect.Value) {
	if p.brief {
		v = hushed(v)
	}
	text, ok := format(f, v)
	switch {
	case !ok && p.brief:
	case !ok:
		p.line(indent, "# %s: %s", f.key, f.note)
	case isSecret(f, v.Type()):
		p.line(indent, "# %s: set, and not shown here", f.key)
	default:
		p.line(indent, "%s: %s", f.key, text)
	}
}

// hushed is v without the values of fields that may be secrets.
func hushed(v reflect.Value) reflect.Value {
	switch x := v.Interface().(type) {
	case HeaderValues:
		x = slices.Clone(x)
		for i := range x {
			if soundsSecret(x[i].Name) {
				x[i].Value = "(secret)"
			}
		}
		return reflect.ValueOf(x)
	case HeaderMatches:
		x = slices.Clone(x)
		for i := range x {
			if soundsSecret(x[i].Name) {
				x[i], _ = routing.ParseHeader(x[i].Name, "(secret)")
			}
		}
		return reflect.ValueOf(x)
	}
	return v
}

func soundsSecret(name string) bool {
	return slices.ContainsFunc([]string{"auth", "cookie", "key", "token", "secret", "password", "credential"}, func(part string) bool {
		return strings.Contains(strings.ToLower(name), part)
	})
}

// isSecret reports whether the value of a key is told to nobody.
func isSecret(f field, t reflect.Type) bool {
	return f.key == "token" || f.key == "write_token" || f.key == "headers" && t == reflect.TypeFor[HeaderValues]() // those for a collector
}

// format writes a value as YAML; ok is false if it is absent.
func format(f field, v reflect.Value) (text string, ok bool) {
	switch x := v.Interface().(type) {
	case time.Duration:
		if x == 0 && f.none {
			return "none", true
		}
		return formatDuration(x), true
	case int64:
		return formatSize(x), true
	case int:
		if x == 0 && f.none {
			return "none", true
		}
		return fmt.Sprint(x), true
	case Percent:
		if x == 0 && f.none {
			return "none", true
		}
		return x.String(), true
	case uint16:
		return fmt.Sprint(x), x != 0
	case bool:
		return fmt.Sprint(x), true
	case Listen:
		return quote(x.String()), true
	case Target:
		return quote(x.String()), x != Target{}
	case Endpoints:
		return formatEndpoints(x), true
	case netip.Prefix:
		return x.String(), true
	case []netip.AddrPort:
		words := make([]string, len(x))
		for i, a := range x {
			words[i] = quote(a.String())
		}
		return "[" + strings.Join(words, ", ") + "]", len(x) > 0
	case []proxy.Identity:
		words := make([]string, len(x))
		for i, id := range x {
			words[i] = quote(string(id))
		}
		return "[" + strings.Join(words, ", ") + "]", len(x) > 0
	case Patterns:
		words := make([]string, len(x))
		for i, p := range x {
			words[i] = quote(string(p))
		}
		return "[" + strings.Join(words, ", ") + "]", len(x) > 0
	case Methods:
		return formatWords(x), len(x) > 0
	case Words:
		return formatWords(x), len(x) > 0
	case HeaderNames:
		return formatWords(x), len(x) > 0
	case Shares:
		words := make([]string, len(x))
		for i, s := range x {
			words[i] = quote(s.To.String()) + ": " + s.Part.String()
		}
		return "{" + strings.Join(words, ", ") + "}", len(x) > 0
	case MethodTTLs:
		words := make([]string, len(x))
		for i, m := range x {
			words[i] = quote(m.Method) + ": " + m.TTL.String()
		}
		return "{" + strings.Join(words, ", ") + "}", len(x) > 0
	case HeaderMatches:
		words := make([]string, len(x))
		for i, h := range x {
			words[i] = quote(h.Name) + ": " + quote(h.String())
		}
		return "{" + strings.Join(words, ", ") + "}", len(x) > 0
	case HeaderValues:
		return formatFields(x), len(x) > 0
	case LabelValues:
		return formatFields(x), len(x) > 0
	case routing.Path:
		return quote(x.String()), x.String() != ""
	case routing.GRPC:
		return quote(x.String()), x.Set
	case RouteTo:
		return quote(x.String()), x.Name != ""
	case FileMode:
		return `"` + x.String() + `"`, true
	case Sources:
		words := x.words()
		for i, w := range words {
			words[i] = quote(w)
		}
		return "[" + strings.Join(words, ", ") + "]", len(words) > 0
	default: // string, and the words
		if f.none && v.String() == "" {
			return "none", true
		}
		return quote(v.String()), v.String() != ""
	}
}

func formatWords(x []string) string {
	words := make([]string, len(x))
	for i, w := range x {
		words[i] = quote(w)
	}
	return "[" + strings.Join(words, ", ") + "]"
}

func formatFields(x []proxy.Field) string {
	words := make([]string, len(x))
	for i, h := range x {
		words[i] = quote(h.Name) + ": " + quote(h.Value)
	}
	return "{" + strings.Join(words, ", ") + "}"
}

func formatEndpoints(e Endpoints) string {
	if len(e.Static) == 0 {
		return quote(e.String())
	}
	words := make([]string, len(e.Static))
	for i, t := range e.Static {
		words[i] = quote(t.String())
	}
	return "[" + strings.Join(words, ", ") + "]"
}

// quote writes s so that YAML reads it as it is: bare if it has nothing but harmless characters. JSON's
// strings are YAML's.
func quote(s string) string {
	bare := s != "" && s[0] != '-' && s[0] != '.'
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '/', c == '.', c == '-', c == '_':
		case c >= '0' && c <= '9' && i > 0:
		case c >= '0' && c <= '9' && strings.Contains(s, ".") && strings.Contains(s, ":"): // an address with its port
		case c == ':' && i > 0 && i < len(s)-1:
		default:
			bare = false
		}
	}
	switch strings.ToLower(s) {
	case "null", "true", "false":
		bare = false
	}
	if bare {
		return s
	}
	q, err := json.Marshal(s)
	if err != nil {
		return `""` // cannot happen: s is a string
	}
	return string(q)
}

// wrap breaks text into lines of at most width bytes, at spaces.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, w := range strings.Fields(text) {
		if line != "" && len(line)+1+len(w) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += w
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
