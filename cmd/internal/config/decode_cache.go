package config

import (
	"reflect"

	"go.yaml.in/yaml/v3"
)

// cacheMode makes the mapping that a short form of a cache stands for: true, false, or its mode. What is none it returns as it is; nil if it is a mistake, which it reports.
func (d *decoder) cacheMode(path string, n *yaml.Node, v reflect.Value) *yaml.Node {
	switch v.Addr().Interface().(type) {
	case *Caching, *AppCaching:
	default:
		return n
	}
	if n.Kind != yaml.ScalarNode || isNull(n) {
		return n
	}
	word := n.Value
	switch word {
	case "true":
		word = string(CacheOn)
	case "false":
		word = string(CacheOff)
	case string(CacheAuto), string(CacheOn), string(CacheOff):
	default:
		d.report(n, path, "%q is no mode of a cache; write true, false or auto, or {mode: on, …}", clip(n.Value))
		return nil
	}
	value := *n
	value.Value, value.Tag = word, "!!str"
	key := &yaml.Node{Kind: yaml.ScalarNode, Value: "mode", Line: n.Line, Column: n.Column}
	return &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{key, &value}, Line: n.Line, Column: n.Column}
}
