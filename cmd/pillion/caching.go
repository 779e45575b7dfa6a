package main

import (
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/listeners/admin"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/httpcache"
	"github.com/pillion-proxy/pillion/proxy/httpcache/disk"
	"github.com/pillion-proxy/pillion/upstream"
)

// newCache makes the memory of both directions, and the folder behind it. They outlive changes of the configuration, with which the layers over them are made anew.
func newCache(cfg *config.Config, u *upstream.Upstream, log *slog.Logger) (*httpcache.Cache, *disk.Disk, error) {
	own := httpcache.Config{Size: cfg.Cache.Size, MaxObject: cfg.Cache.MaxObject, Ask: u.At}
	if cfg.Cache.Disk != "" {
		d, err := disk.Open(disk.Config{Dir: cfg.Cache.Disk, Max: cfg.Cache.DiskSize, Logger: log})
		if err != nil {
			return nil, nil, fmt.Errorf("cache.disk: %w", err)
		}
		own.Disk = d
	}
	return httpcache.New(own), own.Disk, nil
}

// cacheLayers are those of the services whose answers are kept.
func cacheLayers(c *httpcache.Cache, cfg *config.Config) map[string]proxy.Layer {
	services := make(map[string][]httpcache.Settings)
	for i := range cfg.Services {
		s := &cfg.Services[i]
		sets := []httpcache.Settings{cacheSettings(s.Cache)}
		for j := range s.Routes {
			sets = append(sets, cacheSettings(s.Routes[j].Cache))
		}
		for _, set := range sets {
			if !set.Off || set.GRPC != nil {
				services[s.Name] = sets
			}
		}
	}
	return c.Layers(httpcache.LayerConfig{Services: services})
}

// appCache returns nil, and nil, if the app's answers are not kept on this side. news tells peers what of them has changed.
func appCache(c *httpcache.Cache, a *config.App) (layer proxy.Layer, news proxy.RoundTripper) {
	set := cacheSettings(config.Caching{Mode: a.Cache.Mode, Heuristic: a.Cache.Heuristic, StaleIfError: a.Cache.StaleIfError, GRPC: a.Cache.GRPC})
	name := "app:" + strconv.Itoa(int(a.Port))
	if set.Off && set.GRPC == nil {
		c.Quit(name)
		return nil, nil
	}
	layers := c.Layers(httpcache.LayerConfig{Name: "pillion-app", App: name, Services: map[string][]httpcache.Settings{name: {set}}})
	return layers[name], c.News(name)
}

func cacheSettings(c config.Caching) httpcache.Settings {
	set := httpcache.Settings{Off: c.Mode == config.CacheOff, Always: c.Mode == config.CacheOn, Heuristic: c.Heuristic.Share(), StaleIfError: c.StaleIfError}
	for _, m := range c.GRPC {
		if set.GRPC == nil {
			set.GRPC = make(map[string]time.Duration)
		}
		set.GRPC[m.Method] = m.TTL
	}
	return set
}

// cacheStatus is what the cache holds and has done.
func (s *sidecar) cacheStatus() *admin.Cache {
	st := s.Cache.Stats()
	all := &admin.Cache{Bytes: st.Bytes, Max: st.Max, Entries: st.Entries, Evictions: st.Evictions, Services: []admin.CacheService{}}
	for _, one := range st.Services {
		all.Services = append(all.Services, admin.CacheService(one))
	}
	if st.Disk != nil {
		d := admin.CacheDisk(*st.Disk)
		all.Disk = &d
	}
	all.DNS = s.Flows.dnsAnswers()
	return all
}

// cacheList is what is in memory.
func (s *sidecar) cacheList(service, url string, most int) admin.CacheList {
	entries, more := s.Cache.List(most, func(of, at string) bool { return (service == "" || service == of) && (url == "" || url == at) })
	list := admin.CacheList{More: more}
	for _, e := range entries {
		list.Entries = append(list.Entries, admin.CacheEntry(e))
	}
	return list
}

func (s *sidecar) cachePurge(p admin.CachePurge) int {
	n := 0
	switch {
	case p.All:
		n = s.Cache.PurgeAll()
	case p.Tag != "":
		n = s.Cache.PurgeTag(p.Tag)
	default:
		n = s.Cache.PurgeURL(p.Service, p.URL)
	}
	s.Log.Info("purged the cache", "url", p.URL, "tag", p.Tag, "all", p.All, "answers", n)
	return n
}
