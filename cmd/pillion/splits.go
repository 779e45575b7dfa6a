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

// splitLayers are for requests without a route, by service.
func splitLayers(cfg *config.Config) map[string]proxy.Layer {
	layers := make(map[string]proxy.Layer)
	for i := range cfg.Services {
		if s := splitOf(&cfg.Services[i].Split); s != nil {
			layers[cfg.Services[i].Name] = s.Layer
		}
	}
	return layers
}

// mirrorLayers make the layers of the services of which something is copied.
func (r *resilience) mirrorLayers(cfg *config.Config) map[string]func(copies proxy.RoundTripper) proxy.Layer {
	makers := make(map[string]func(copies proxy.RoundTripper) proxy.Layer)
	for i := range cfg.Services {
		s := &cfg.Services[i]
		of := func(route *config.Route) config.Mirror { return route.Mirror }
		if all := rules(s.Mirror, s.Routes, of, mirrorSettings, mirror.Settings.Any); all != nil {
			st := keep(r, r.mirror, s.Name, func() *mirror.State { return new(mirror.State) })
			makers[s.Name] = func(copies proxy.RoundTripper) proxy.Layer { return st.Layer(all, r.shards, copies) }
		}
	}
	return makers
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
