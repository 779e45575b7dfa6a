package main

import (
	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/outbound"
	"github.com/pillion-proxy/pillion/proxy/routing"
)

// routesOf is what the outbound side knows of each service.
func routesOf(cfg *config.Config) map[string]*outbound.Route {
	routes := make(map[string]*outbound.Route, len(cfg.Services))
	for i := range cfg.Services {
		s := &cfg.Services[i]
		one := &outbound.Route{Name: s.Name, Timeout: s.Timeout}
		for j := range s.Routes {
			one.Timeouts = append(one.Timeouts, s.Routes[j].Timeout)
		}
		routes[s.Name] = one
	}
	return routes
}

// tablesOf are the routes of the services that have some.
func tablesOf(cfg *config.Config) map[string]*routing.Table {
	tables := make(map[string]*routing.Table)
	for i := range cfg.Services {
		s := &cfg.Services[i]
		if len(s.Routes) == 0 {
			continue
		}
		t := new(routing.Table)
		for j := range s.Routes {
			t.Rules = append(t.Rules, rule(&s.Routes[j]))
		}
		tables[s.Name] = t
	}
	return tables
}

func rule(r *config.Route) routing.Rule {
	one := routing.Rule{
		Backend: proxy.Service(r.Service), Split: splitRule(r), Path: r.Rewrite.Path, Host: r.Rewrite.Host,
		Request: edits(&r.RequestHeaders), Response: edits(&r.ResponseHeaders),
	}
	if len(r.Match) > 0 {
		one.Match = r.Conditions()
	}
	if d := r.Redirect; d.On() {
		one.Redirect = &routing.Redirect{Scheme: d.Scheme, Host: d.Host, Port: d.Port, Path: d.Path, Status: d.Status}
	}
	return one
}

func edits(e *config.HeaderEdits) routing.Edits {
	return routing.Edits{Remove: e.Remove, Set: e.Set, Add: e.Add}
}
