package config

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"
)

// shares decodes a mapping from services to percentages.
func (d *decoder) shares(path string, n *yaml.Node, out *Shares) {
	*out = nil
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.report(n, path, "wrong type: %s; write services and their shares, as in {billing-canary: 10%%}", describe(n))
		return
	}
	for _, p := range d.pairs(path, n, 0) {
		at := sub(path, clip(p.key.Value))
		d.places[at] = p.value
		to, err := parseRouteTo(p.key.Value)
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
		part, err := parsePercent(s)
		if err != nil {
			d.report(v, at, "%v", err)
		}
		*out = append(*out, ShareTo{to, part})
	}
}

// checkSplits checks split and mirror of a service and of its routes.
func (d *decoder) checkSplits(c *Config, s *Service, path string) {
	d.checkSplit(c, s, &s.Split, sub(path, "split"))
	d.checkMirror(c, s, &s.Mirror, sub(path, "mirror"))
	for i := range s.Routes {
		at := fmt.Sprintf("%s[%d]", sub(path, "routes"), i)
		d.checkSplit(c, s, &s.Routes[i].Split, sub(at, "split"))
		d.checkMirror(c, s, &s.Routes[i].Mirror, sub(at, "mirror"))
	}
}

func (d *decoder) checkSplit(c *Config, s *Service, p *Split, path string) {
	d.checkKey(sub(path, "sticky"), p.Sticky)
	to := sub(path, "to")
	if d.places[to] == nil || d.bad[to] {
		return
	}
	var sum Percent
	for _, share := range p.To {
		at := sub(to, share.To.String())
		sum += share.Part
		d.checkTarget(c, s, at, share.To)
	}
	if sum > 100 {
		d.report(d.places[to], to, "the shares are %s together; write 100%% at most", sum)
	}
}

// checkTarget finds services that are not there.
func (d *decoder) checkTarget(c *Config, s *Service, key string, to RouteTo) {
	switch {
	case d.bad[key] || d.places[key] == nil:
	case to.Name == s.Name:
		d.report(d.places[key], key, "is the service itself; write another one")
	case !slices.ContainsFunc(c.Services, func(o Service) bool { return o.Name == to.Name }):
		d.report(d.places[key], key, "there is no service %s; write one of those below services", to.Name)
	}
}

func (d *decoder) checkMirror(c *Config, s *Service, m *Mirror, path string) {
	key := sub(path, "to")
	d.checkTarget(c, s, key, m.To)
	if d.says(path) && m.To.Name == "" && !d.bad[key] && d.places[key] == nil {
		d.report(d.places[path], path, "does not say where copies go; write to: and the name of a service")
	}
}
