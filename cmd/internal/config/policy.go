package config

import (
	"fmt"
	"reflect"
	"strings"
)

// Policy is one group of settings that applies to a request.
type Policy struct {
	// Name is its key, as in "retry".
	Name string
	// Text is what it says, as in "attempts: 3, budget: 20%".
	Text string
	// Key is the path of what decides it, as in "services.billing.routes[0].retry".
	Key string
}

// Policies are the settings that apply to requests of the service by its route of this number; 0 is none. Every key that Route shares with Service is
// among them, and every group of settings that only Service has, but for what is about its own port.
func (s *Service) Policies(rule int) []Policy {
	var all []Policy
	own := reflect.ValueOf(*s)
	at := "services." + s.Name
	for _, f := range fieldsOf(own.Type()) {
		v, key := own.Field(f.index), sub(at, f.key)
		if rule > 0 {
			r := reflect.ValueOf(s.Routes[rule-1])
			if rf, ok := find(fieldsOf(r.Type()), f.key); ok && r.Field(rf.index).Type() == v.Type() {
				if !reflect.DeepEqual(r.Field(rf.index).Interface(), v.Interface()) {
					key = fmt.Sprintf("%s.routes[%d].%s", at, rule-1, f.key)
				}
				v = r.Field(rf.index)
				all = append(all, Policy{f.key, policyText(f, v), key})
				continue
			}
		}
		_, shared := find(fieldsOf(reflect.TypeFor[Route]()), f.key)
		if f.key != "socket" && f.key != "proxy_protocol" && isMapping(v.Type()) || shared && f.key != "routes" {
			all = append(all, Policy{f.key, policyText(f, v), key})
		}
	}
	return all
}

// policyText is a value on one line.
func policyText(f field, v reflect.Value) string {
	if !isMapping(v.Type()) {
		if text, ok := format(f, v); ok {
			return text
		}
		return f.note
	}
	var words []string
	for _, g := range fieldsOf(v.Type()) {
		gv := v.Field(g.index)
		switch {
		case isMapping(gv.Type()):
			if text := policyText(g, gv); text != "" {
				words = append(words, g.key+": {"+text+"}")
			}
		case isList(gv.Type()):
			if gv.Len() > 0 {
				words = append(words, fmt.Sprintf("%s: %d entries", g.key, gv.Len()))
			}
		default:
			if text, ok := format(g, gv); ok {
				words = append(words, g.key+": "+text)
			}
		}
	}
	return strings.Join(words, ", ")
}

// Place is where the value at key is written, as in "pillion.yaml:12:9"; "" if nobody knows.
func (c *Config) Place(key string) string {
	p, ok := c.at[key]
	if !ok || p.Line == 0 {
		return ""
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}
