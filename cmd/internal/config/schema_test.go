package config

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// validator knows the part of JSON Schema that generate_test.go writes.
type validator struct{ defs map[string]any }

func newValidator(t *testing.T) (*validator, map[string]any) {
	t.Helper()
	var root map[string]any
	if err := json.Unmarshal([]byte(Schema()), &root); err != nil {
		t.Fatal(err)
	}
	return &validator{defs: root["$defs"].(map[string]any)}, root
}

// check returns why v does not fit the schema, or "".
func (x *validator) check(schema map[string]any, v any, at string) string {
	if ref, ok := schema["$ref"].(string); ok {
		return x.check(x.defs[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any), v, at)
	}
	if forms, ok := schema["anyOf"].([]any); ok {
		var why []string
		for _, s := range forms {
			w := x.check(s.(map[string]any), v, at)
			if w == "" {
				return ""
			}
			why = append(why, w)
		}
		return strings.Join(why, "; ")
	}
	switch ty := schema["type"].(type) {
	case string:
		if ty != typeOf(v) {
			return fmt.Sprintf("%s: %s, want %s", at, typeOf(v), ty)
		}
	case []any:
		if !slices.Contains(ty, any(typeOf(v))) {
			return fmt.Sprintf("%s: %s, want %v", at, typeOf(v), ty)
		}
	}
	switch v := v.(type) {
	case string:
		if p, ok := schema["pattern"].(string); ok && !regexp.MustCompile(p).MatchString(v) {
			return fmt.Sprintf("%s: %q does not match %s", at, v, p)
		}
		if e, ok := schema["enum"].([]any); ok && !slices.Contains(e, any(v)) {
			return fmt.Sprintf("%s: %q is none of %v", at, v, e)
		}
	case int:
		if hi, ok := schema["maximum"].(float64); ok && float64(v) > hi {
			return fmt.Sprintf("%s: %d too large", at, v)
		}
		if lo, ok := schema["minimum"].(float64); ok && float64(v) < lo {
			return fmt.Sprintf("%s: %d too small", at, v)
		}
	case []any:
		return x.items(schema, v, at)
	case map[string]any:
		return x.object(schema, v, at)
	}
	return ""
}

func (x *validator) items(schema map[string]any, v []any, at string) string {
	if lo, ok := schema["minItems"].(float64); ok && len(v) < int(lo) {
		return at + ": empty list"
	}
	for i, e := range v {
		if w := x.check(schema["items"].(map[string]any), e, fmt.Sprintf("%s[%d]", at, i)); w != "" {
			return w
		}
	}
	return ""
}

func (x *validator) object(schema, v map[string]any, at string) string {
	known, _ := schema["properties"].(map[string]any)
	for key, value := range v {
		s, ok := known[key].(map[string]any)
		if !ok {
			if s, ok = schema["additionalProperties"].(map[string]any); !ok {
				return at + ": unknown key " + key
			}
		}
		if names, ok := schema["propertyNames"].(map[string]any); ok {
			if w := x.check(names, key, at); w != "" {
				return w
			}
		}
		if w := x.check(s, value, at+"."+key); w != "" {
			return w
		}
	}
	required, _ := schema["required"].([]any)
	for _, key := range required {
		if _, ok := v[key.(string)]; !ok {
			return fmt.Sprintf("%s: %s is missing", at, key)
		}
	}
	return ""
}

func typeOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case int:
		return "integer"
	case float64:
		return "number"
	case string:
		return "string"
	case []any:
		return "array"
	default:
		return "object"
	}
}

// TestSchemaGood: what Load accepts in the samples, editors accept.
func TestSchemaGood(t *testing.T) {
	x, root := newValidator(t)
	for _, file := range samples(t, "testdata/good/*.yaml") {
		var doc any
		unmarshal(t, file, &doc)
		if why := x.check(root, doc, ""); why != "" {
			t.Errorf("%s does not fit the schema: %s", file, why)
		}
	}
}

// TestSchemaBad: mistakes of form are seen by editors too.
func TestSchemaBad(t *testing.T) {
	x, root := newValidator(t)
	for _, name := range []string{"unknown", "types", "values", "list", "scalar", "noservice"} {
		var doc any
		unmarshal(t, "testdata/bad/"+name+".yaml", &doc)
		if x.check(root, doc, "") == "" {
			t.Errorf("testdata/bad/%s.yaml fits the schema", name)
		}
	}
}

func unmarshal(t *testing.T, file string, doc *any) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(data, doc); err != nil {
		t.Fatal(err)
	}
}
