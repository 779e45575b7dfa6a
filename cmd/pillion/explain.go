package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/listeners/admin"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/outbound"
	"github.com/pillion-proxy/pillion/proxy/routing"
)

// question is a request that nobody sends, and what applies to it.
type question struct {
	cfg     *config.Config
	req     *proxy.Request
	service *config.Service
	route   *config.Route // nil where no route applies
}

// explainer says in a sentence what a layer would do with this very request, where that is more than its settings say: "not repeated: POST may have run".
// It is pure: it sends nothing, and counts nothing.
type explainer func(q *question) string

// explainers are those that there are, by the key of their settings. A layer needs none: its settings are shown all the same, with the key that they come from, as
// soon as they are in config.Service and config.Route. One that decides by the request as well has a function beside its wiring, and a line here.
func explainers() map[string]explainer {
	return map[string]explainer{
		"faults":  explainFaults,
		"timeout": explainTimeout,
		"rate":    explainRate,
		"limits":  explainLimits,
		"cache":   explainCache,
		"hedge":   explainHedge,
		"retry":   explainRetry,
		"split":   explainSplit,
		"mirror":  explainMirror,
		"balance": explainBalance,
		"health":  explainHealth,
	}
}

// explainOrder is the order of the layers, outermost first, by the keys of their settings; what is not here comes at the end.
func explainOrder() []string {
	return []string{"split", "faults", "timeout", "rate", "limits", "cache", "mirror", "hedge", "retry", "balance", "aperture", "health"}
}

// explain says what would become of a request by cfg alone.
func explain(cfg *config.Config, asked admin.Asked) (*admin.Explanation, error) {
	req, err := askedRequest(asked)
	if err != nil {
		return nil, err
	}
	e := &admin.Explanation{Method: req.Method, URL: asked.URL, Config: cfg.File}
	add := func(layer, text, why string) {
		e.Steps = append(e.Steps, admin.Step{Layer: layer, Text: text, Why: why})
	}
	host, port, ok := outbound.SplitAuthority(req.Authority)
	if !ok {
		return nil, fmt.Errorf("%q names no host", asked.URL)
	}
	known := outbound.Find(routesOf(cfg), host)
	if known == nil {
		if cfg.Outbound.Others == config.Direct {
			add("service", "none: "+host+" is connected to directly, without a sidecar", "outbound.others: direct")
		} else {
			add("service", "none: the answer is 502 unknown_service", host+" is none of services, and outbound.others is refuse")
		}
		return e, nil
	}
	q := &question{cfg: cfg, req: req, service: serviceOf(cfg, known.Name)}
	req.Service = proxy.Service{Name: known.Name, Port: port}
	e.Service = req.Service.String()
	add("service", e.Service, "the host is "+host)
	table := tablesOf(cfg)[known.Name]
	r := q.find(table, e)
	if r != nil && r.Redirect != nil {
		return e, nil
	}
	if !req.IsConnect() {
		q.policies(add)
	}
	e.Backend = &admin.Service{Name: known.Name}
	if req.Backend.Name != "" {
		e.Backend.Name = req.Backend.Name
	}
	return e, nil
}

// find applies the service's routes to the request, as the layer would.
func (q *question) find(table *routing.Table, e *admin.Explanation) *routing.Rule {
	req := q.req
	var r *routing.Rule
	req.Rule, _ = table.Find(req)
	step := admin.Step{Layer: "route", Text: "the service's own settings", Why: table.Reason(req)}
	if e.Route = req.Rule; req.Rule > 0 {
		r, q.route = &table.Rules[req.Rule-1], &q.service.Routes[req.Rule-1]
		e.Place = q.cfg.Place(fmt.Sprintf("services.%s.routes[%d]", q.service.Name, req.Rule-1))
		step.Text = fmt.Sprintf("number %d", req.Rule)
		if e.Place != "" {
			step.Text += " (" + e.Place + ")"
		}
		if what := r.Explain(); what != "" {
			step.Text += ": " + what
		}
		if to := table.Location(req); to != "" {
			step.Text += ": " + to
		}
	}
	e.Steps = append(e.Steps, step)
	e.Sent = sentBy(r, table, req)
	return r
}

// sentBy is what the rule makes of the request; nil if it goes nowhere.
func sentBy(r *routing.Rule, table *routing.Table, req *proxy.Request) *admin.Sent {
	if r != nil && r.Redirect != nil {
		return nil
	}
	after := table.Preview(req)
	req.Backend = after.Backend
	sent := &admin.Sent{Method: after.Method, Host: after.Authority, Path: after.Path, Header: []string{}}
	for _, f := range after.Fields {
		sent.Header = append(sent.Header, f.Name+": "+f.Value)
	}
	return sent
}

// policies adds what each layer would do. What is about endpoints is said by the service whose they are.
func (q *question) policies(add func(layer, text, why string)) {
	all := q.service.Policies(q.req.Rule)
	if to := serviceOf(q.cfg, q.req.Backend.Name); to != nil {
		theirs := to.Policies(0)
		for i, p := range all {
			if p.Name == "balance" || p.Name == "health" {
				all[i] = theirs[slices.IndexFunc(theirs, func(o config.Policy) bool { return o.Name == p.Name })]
			}
		}
	}
	own := explainers()
	tell := func(p config.Policy) {
		text := p.Text
		if f := own[p.Name]; f != nil {
			if t := f(q); t != "" {
				text = t
			}
		}
		add(p.Name, text, p.Key)
	}
	told := make(map[string]bool)
	for _, name := range explainOrder() {
		for _, p := range all {
			if p.Name == name {
				tell(p)
				told[name] = true
			}
		}
	}
	for _, p := range all {
		if !told[p.Name] {
			tell(p)
		}
	}
}

// askedRequest makes the request that is asked about.
func askedRequest(asked admin.Asked) (*proxy.Request, error) {
	req := &proxy.Request{Method: strings.ToUpper(asked.Method), Scheme: "http"}
	if req.Method == "" {
		req.Method = "GET"
	}
	if err := routing.CheckFieldName(req.Method); err != nil {
		return nil, fmt.Errorf("%q is no method", asked.Method)
	}
	text := asked.URL
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%q is no URL; write one, as in http://billing/v1/users", asked.URL)
	}
	req.Scheme, req.Authority, req.Path = u.Scheme, u.Host, u.RequestURI()
	if req.Method == "CONNECT" {
		req.Path = ""
	}
	for _, h := range asked.Header {
		name, value, ok := strings.Cut(h, ":")
		value = strings.TrimSpace(value)
		if !ok || routing.CheckFieldName(name) != nil || routing.CheckFieldValue(value) != nil {
			return nil, fmt.Errorf("%q is no header; write name and value, as in \"x-team: blue\"", h)
		}
		if strings.EqualFold(name, "host") {
			req.Authority = value
			continue
		}
		req.Fields.Add(name, value)
	}
	return req, nil
}

func serviceOf(cfg *config.Config, name string) *config.Service {
	for i := range cfg.Services {
		if cfg.Services[i].Name == name {
			return &cfg.Services[i]
		}
	}
	return nil
}

// explainBackend adds who would be asked, by the configuration alone.
func explainBackend(cfg *config.Config, e *admin.Explanation) {
	if e.Backend == nil {
		return
	}
	svc := serviceOf(cfg, e.Backend.Name)
	*e.Backend = admin.Service{Name: svc.Name, Source: source(svc.Endpoints), Mesh: svc.Mesh, Protocol: string(svc.Protocol), Age: -1}
	d := defaultsOf(*svc)
	for _, t := range svc.Endpoints.Static {
		one := admin.Endpoint{Address: t.String(), Mesh: svc.Mesh}
		if t.Unix == "" {
			one.Identity = string(d.Endpoint(t.Addr).Identity)
		}
		e.Backend.Endpoints = append(e.Backend.Endpoints, one)
	}
	explainIdentity(svc, e)
}

// explainIdentity says whom the endpoints must prove to be.
func explainIdentity(svc *config.Service, e *admin.Explanation) {
	step := admin.Step{Layer: "identity", Text: "the certificate there must say " + string(svc.Identity), Why: "services." + svc.Name + ".identity"}
	if !svc.Mesh {
		step = admin.Step{Layer: "identity", Text: "not checked: no sidecar is there, and nothing is encrypted", Why: "services." + svc.Name + ".mesh: false"}
	}
	e.Steps = append(e.Steps, step)
}

// explain says what would become of a request now. It is called by the admin listener's goroutines.
func (s *sidecar) explain(asked admin.Asked) (*admin.Explanation, error) {
	cfg := s.config()
	e, err := explain(cfg, asked)
	if err != nil {
		return nil, err
	}
	if e.Running = true; e.Backend == nil {
		return e, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), gatherTimeout)
	defer cancel()
	for _, svc := range s.services(ctx) {
		if svc.Name == e.Backend.Name {
			*e.Backend = svc
		}
	}
	svc := serviceOf(cfg, e.Backend.Name)
	if svc == nil {
		return nil, errors.New("the configuration has just changed; ask again")
	}
	explainIdentity(svc, e)
	return e, nil
}
