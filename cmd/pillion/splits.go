package main

import (
	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/listeners/admin"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/mirror"
	"github.com/pillion-proxy/pillion/proxy/split"
)

// splitOf is where shares of the requests go; nil if all stay.
func splitOf(c *config.Split) *split.Split {
	s := &split.Split{Stick: keyOf(c.Sticky)}
	for _, share := range c.To {
		s.Shares = append(s.Shares, split.Share{To: proxy.Service(share.To), Part: share.Part.Share()})
	}
	if !s.Any() {
		return nil
	}
	return s
}

// splitRule makes a route's choice: what is not split goes where the route says.
func splitRule(r *config.Route) func(*proxy.Request) proxy.Service {
	s := splitOf(&r.Split)
	if s == nil {
		return nil
	}
	rest := proxy.Service(r.Service)
	return func(req *proxy.Request) proxy.Service {
		if to := s.Choose(req); to.Name != "" {
			return to
		}
		return rest
	}
}

// splitLayer is for requests without a route; nil if nothing is split.
func splitLayer(cfg *config.Config) proxy.Layer {
	splits := make(map[string]*split.Split)
	for i := range cfg.Services {
		if s := splitOf(&cfg.Services[i].Split); s != nil {
			splits[cfg.Services[i].Name] = s
		}
	}
	if len(splits) == 0 {
		return nil
	}
	return split.Layer(splits)
}

// mirrorLayer returns nil if nothing is copied.
func (r *resilience) mirrorLayer(cfg *config.Config) func(copies proxy.RoundTripper) proxy.Layer {
	makers := make(map[string]func(copies proxy.RoundTripper) proxy.Layer)
	for i := range cfg.Services {
		s := &cfg.Services[i]
		of := func(route *config.Route) config.Mirror { return route.Mirror }
		if all := rules(s.Mirror, s.Routes, of, mirrorSettings, mirror.Settings.Any); all != nil {
			st := keep(r, r.mirror, s.Name, func() *mirror.State { return new(mirror.State) })
			makers[s.Name] = func(copies proxy.RoundTripper) proxy.Layer { return st.Layer(all, r.shards, copies) }
		}
	}
	if len(makers) == 0 {
		return nil
	}
	return func(copies proxy.RoundTripper) proxy.Layer {
		layers := make(map[string]proxy.Layer)
		for name, layer := range makers {
			layers[name] = layer(copies)
		}
		return perService(layers)
	}
}

func mirrorSettings(c config.Mirror) mirror.Settings {
	return mirror.Settings{To: proxy.Service(c.To), Share: c.Share.Share(), Body: int(c.Body), Pending: c.Pending, Timeout: c.Timeout}
}

// copies is for status.
func (r *resilience) copies(service string) *admin.Mirror {
	s, ok := known(r, r.mirror, service)
	if !ok {
		return nil
	}
	st := s.Stats()
	return &admin.Mirror{Sent: st.Sent, Answered: st.Answered, Failed: st.Failed, Crowded: st.Crowded, Large: st.Large, Cut: st.Cut}
}
