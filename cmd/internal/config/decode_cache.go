package config

import (
	"fmt"
	"reflect"
	"strings"
	"time"

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

// maxMethodTTL bounds how long answers of a gRPC method are kept.
const maxMethodTTL = 720 * time.Hour

// methodTTLs decodes a mapping from gRPC methods to durations.
func (d *decoder) methodTTLs(path string, n *yaml.Node, out *MethodTTLs) {
	*out = nil
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.report(n, path, "wrong type: %s; write methods and times, as in {/shop.Prices/Get: 30s}", describe(n))
		return
	}
	for _, p := range d.pairs(path, n, 0) {
		at := sub(path, clip(p.key.Value))
		d.places[at] = p.value
		method, err := parseUnary(p.key.Value)
		if err != nil {
			d.report(p.key, at, "%v", err)
		}
		v := d.follow(p.value)
		if v == nil {
			continue
		}
		s, ok := d.scalar(at, v, field{})
		if !ok {
			continue
		}
		ttl, err := time.ParseDuration(s)
		switch {
		case err != nil:
			d.report(v, at, "%q is no duration; write one such as 30s", clip(s))
		case ttl <= 0 || ttl > maxMethodTTL:
			d.report(v, at, "%s is out of range; write more than 0s, and %s at most", s, maxMethodTTL)
		}
		*out = append(*out, MethodTTL{method, ttl})
	}
}

// parseUnary returns the path of a method: "/shop.Prices/Get", which may be written without the first slash.
func parseUnary(s string) (string, error) {
	service, method, ok := strings.Cut(strings.TrimPrefix(s, "/"), "/")
	if !ok || service == "" || method == "" || strings.ContainsAny(service+method, "/ ?#*") {
		return "", fmt.Errorf("%q is no gRPC method; write package, service and method, as in /shop.Prices/Get", clip(s))
	}
	return "/" + service + "/" + method, nil
}
