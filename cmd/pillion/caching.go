package main

import (
	"strconv"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/listeners/admin"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/httpcache"
)

// newCache makes the memory of both directions. It outlives changes of the configuration, with which the layers over it are made anew.
func newCache(cfg *config.Config) *httpcache.Cache {
	return httpcache.New(httpcache.Config{Size: cfg.Cache.Size, MaxObject: cfg.Cache.MaxObject})
}

// cacheLayer returns nil if no service's answers are kept.
func cacheLayer(c *httpcache.Cache, cfg *config.Config) proxy.Layer {
	services := make(map[string][]httpcache.Settings)
	for i := range cfg.Services {
		s := &cfg.Services[i]
		sets := []httpcache.Settings{cacheSettings(s.Cache)}
		for j := range s.Routes {
			sets = append(sets, cacheSettings(s.Routes[j].Cache))
		}
		for _, set := range sets {
			if !set.Off {
				services[s.Name] = sets
			}
		}
	}
	if len(services) == 0 {
		return nil
	}
	return c.Layer(httpcache.LayerConfig{Services: services})
}

// appCache returns nil if the app's answers are not kept on this side.
func appCache(c *httpcache.Cache, a *config.App) proxy.Layer {
	set := cacheSettings(config.Caching(a.Cache))
	if set.Off {
		return nil
	}
	name := "app:" + strconv.Itoa(int(a.Port))
	return c.Layer(httpcache.LayerConfig{Name: "pillion-app", App: name, Services: map[string][]httpcache.Settings{name: {set}}})
}

func cacheSettings(c config.Caching) httpcache.Settings {
	return httpcache.Settings{Off: c.Mode == config.CacheOff, Always: c.Mode == config.CacheOn, Heuristic: c.Heuristic.Share(), StaleIfError: c.StaleIfError}
}

// cacheStatus is what the cache holds and has done.
func (s *sidecar) cacheStatus() *admin.Cache {
	st := s.Cache.Stats()
	all := &admin.Cache{Bytes: st.Bytes, Max: st.Max, Entries: st.Entries, Evictions: st.Evictions, Services: []admin.CacheService{}}
	for _, one := range st.Services {
		all.Services = append(all.Services, admin.CacheService(one))
	}
	return all
}
