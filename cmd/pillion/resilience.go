package main

import (
	"cmp"
	"log/slog"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/listeners/admin"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/deadline"
	"github.com/pillion-proxy/pillion/proxy/fault"
	"github.com/pillion-proxy/pillion/proxy/hedge"
	"github.com/pillion-proxy/pillion/proxy/limit"
	"github.com/pillion-proxy/pillion/proxy/mirror"
	"github.com/pillion-proxy/pillion/proxy/once"
	"github.com/pillion-proxy/pillion/proxy/retry"
	"github.com/pillion-proxy/pillion/upstream/direct"
)

// resilience is what the layers that keep calls succeeding know, by the name of a service or an app entry. It outlives changes of the
// configuration, with which the layers are made anew.
type resilience struct {
	shards int
	retry  *retry.State
	once   *once.Memory

	mu     sync.Mutex
	limits map[string]*limit.Concurrency
	opened map[string]*limit.Concurrency // streams
	places map[string]*direct.Places
	rates  map[string]*limit.Rate
	hedges map[string]*hedge.State
	faults map[string]*fault.State
	mirror map[string]*mirror.State

	placesNow atomic.Pointer[map[string]*direct.Places] // a copy of places, for requests
}

func newResilience(all shards, log *slog.Logger) *resilience {
	return &resilience{
		shards: len(all), retry: retry.NewState(len(all), log), once: once.New(all[0].Now()),
		limits: make(map[string]*limit.Concurrency), opened: make(map[string]*limit.Concurrency), places: make(map[string]*direct.Places), rates: make(map[string]*limit.Rate),
		hedges: make(map[string]*hedge.State), faults: make(map[string]*fault.State), mirror: make(map[string]*mirror.State),
	}
}

// keep returns what m has by name, or a new one.
func keep[T any](r *resilience, m map[string]T, name string, make func() T) T {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok := m[name]
	if !ok {
		v = make()
		m[name] = v
	}
	return v
}

// known returns what m has by name.
func known[T any](r *resilience, m map[string]T, name string) (v T, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok = m[name]
	return v, ok
}

// rules returns what settings makes of a service and of each of its routes, or nil if nothing of it does anything.
func rules[C, S any](own C, routes []config.Route, of func(*config.Route) C, settings func(C) S, does func(S) bool) []S {
	all := []S{settings(own)}
	for i := range routes {
		all = append(all, settings(of(&routes[i])))
	}
	for _, s := range all {
		if does(s) {
			return all
		}
	}
	return nil
}

// retryLayers are those of the services whose requests are ever repeated.
func (r *resilience) retryLayers(cfg *config.Config) map[string]proxy.Layer {
	services := make(map[string][]retry.Settings)
	for i := range cfg.Services {
		s := &cfg.Services[i]
		of := func(route *config.Route) config.Retry { return route.Retry }
		if all := rules(s.Retry, s.Routes, of, retrySettings, func(s retry.Settings) bool { return s.Attempts > 1 }); all != nil {
			services[s.Name] = all
		}
	}
	return r.retry.Layers(retry.Config{Services: services})
}

func retrySettings(c config.Retry) retry.Settings {
	return retry.Settings{
		Attempts: c.Attempts, Budget: c.Budget.Share(), Floor: float64(c.Floor), Body: int(c.Body), PerTry: c.PerTry,
		Backoff: c.Backoff, MaxBackoff: c.MaxBackoff, Unavailable: c.Unavailable, Unsafe: c.Unsafe,
	}
}

func (r *resilience) hedgeLayers(cfg *config.Config) map[string]proxy.Layer {
	layers := make(map[string]proxy.Layer)
	for i := range cfg.Services {
		s := &cfg.Services[i]
		of := func(route *config.Route) config.Hedge { return route.Hedge }
		if all := rules(s.Hedge, s.Routes, of, hedgeSettings, func(s hedge.Settings) bool { return s.Percentile > 0 }); all != nil {
			layers[s.Name] = keep(r, r.hedges, s.Name, func() *hedge.State { return hedge.NewState(r.shards) }).Layer(all)
		}
	}
	return layers
}

func hedgeSettings(c config.Hedge) hedge.Settings {
	return hedge.Settings{Percentile: c.Percentile.Share(), Least: c.Least, Budget: c.Budget.Share()}
}

// waitsLayers bound single waits.
func waitsLayers(cfg *config.Config) map[string]proxy.Layer {
	layers := make(map[string]proxy.Layer)
	for i := range cfg.Services {
		if s := &cfg.Services[i]; s.ConnectTimeout != 0 || s.PauseTimeout != 0 {
			layers[s.Name] = deadline.Waits(s.ConnectTimeout, s.PauseTimeout)
		}
	}
	return layers
}

func (r *resilience) faultLayers(cfg *config.Config) map[string]proxy.Layer {
	layers := make(map[string]proxy.Layer)
	for i := range cfg.Services {
		s := &cfg.Services[i]
		of := func(route *config.Route) config.Faults { return route.Faults }
		if all := rules(s.Faults, s.Routes, of, faultSettings, fault.Settings.Any); all != nil {
			layers[s.Name] = keep(r, r.faults, s.Name, func() *fault.State { return new(fault.State) }).Layer(all)
		}
	}
	return layers
}

func faultSettings(c config.Faults) fault.Settings {
	return fault.Settings{
		Delay: c.Delay, DelayShare: c.DelayShare.Share(), Abort: c.Abort, AbortShare: c.AbortShare.Share(),
		Throttle: int(c.Throttle), ThrottleShare: c.ThrottleShare.Share(), Header: c.Header,
	}
}

// limitLayers are for what this app asks of services.
func (r *resilience) limitLayers(cfg *config.Config) map[string]proxy.Layer {
	layers := make(map[string]proxy.Layer)
	for i := range cfg.Services {
		s := &cfg.Services[i]
		of := func(route *config.Route) config.Rate { return route.Rate }
		rates := rules(s.Rate, s.Routes, of, rateSettings, func(s limit.RateSettings) bool { return s.Requests > 0 })
		r.setPlaces(s.Name, s.Name, s.Limits)
		var inner, outer proxy.Layer
		if most := s.Limits.Connections; most > 0 {
			open := keep(r, r.opened, s.Name, func() *limit.Concurrency { return limit.NewStreams(s.Name) })
			open.Set(limit.Settings{Requests: most, Pending: s.Limits.Pending, Wait: s.Limits.Wait, Priority: s.Limits.Priority})
			inner = open.Streams
		}
		outer = joined(r.limitRules(s.Name, s.Name, s.Limits, s.Routes), inner)
		if layer := joined(r.rateLayer(s.Name, s.Name, rates), outer); layer != nil {
			layers[s.Name] = layer
		}
	}
	return layers
}

// appLimit is for what peers ask of an app; nil if nothing bounds it.
func (r *resilience) appLimit(a *config.App) proxy.Layer {
	rates := rules(a.Rate, nil, nil, rateSettings, func(s limit.RateSettings) bool { return s.Requests > 0 })
	key := loadKey(a)
	return joined(r.rateLayer(key, "the app", rates), r.limitRules(key, "the app", a.Limits, nil)) // what is over the rate takes no place
}

// appPlaces are the connections to an app.
func (r *resilience) appPlaces(a *config.App) *direct.Places {
	r.setPlaces(loadKey(a), "the app", a.Limits)
	return r.placesOf(loadKey(a))
}

func loadKey(a *config.App) string { return "app:" + strconv.Itoa(int(a.Port)) }

// joined is both layers, nil if there is none.
func joined(outer, inner proxy.Layer) proxy.Layer {
	switch {
	case inner == nil:
		return outer
	case outer == nil:
		return inner
	}
	return func(next proxy.RoundTripper) proxy.RoundTripper { return outer(inner(next)) }
}

// rateLayer returns nil if there is no rate.
func (r *resilience) rateLayer(key, what string, rates []limit.RateSettings) proxy.Layer {
	if rates == nil {
		return nil
	}
	return keep(r, r.rates, key, func() *limit.Rate { return limit.NewRate(what) }).Layer(rates)
}

// limitRules bounds the requests of a service, or an app, that run at a time, and those of each route that has a bound of its own. It returns nil if nothing is bounded.
func (r *resilience) limitRules(key, what string, own config.Concurrency, routes []config.Route) proxy.Layer {
	rules := []proxy.Layer{r.slots(key, what, own)}
	bounded := rules[0] != nil
	for i := range routes {
		layer := rules[0]
		if routes[i].Limits != own {
			layer = r.slots(routeKey(key, i+1), "route "+strconv.Itoa(i+1)+" of "+what, routes[i].Limits)
		}
		rules = append(rules, layer)
		bounded = bounded || layer != nil
	}
	switch {
	case !bounded:
		return nil
	case len(rules) == 1:
		return rules[0]
	}
	return limit.Rules(rules)
}

func routeKey(service string, route int) string { return service + "#" + strconv.Itoa(route) }

// slots returns nil if c does not bound the requests that run.
func (r *resilience) slots(key, what string, c config.Concurrency) proxy.Layer {
	if c.Requests == 0 && !c.Adaptive {
		return nil
	}
	const most = 1000 // requests, where the configuration says none
	slots := keep(r, r.limits, key, func() *limit.Concurrency { return limit.NewConcurrency(what) })
	slots.Set(limit.Settings{Requests: cmp.Or(c.Requests, most), Adaptive: c.Adaptive, Pending: c.Pending, Wait: c.Wait, Priority: c.Priority})
	return slots.Layer
}

// setPlaces bounds connections. They are counted where nothing bounds them too, so that a reload that does knows how many there are.
func (r *resilience) setPlaces(key, what string, c config.Concurrency) {
	p := keep(r, r.places, key, func() *direct.Places { return direct.NewPlaces(what) })
	p.Set(direct.PlaceSettings{Most: c.Connections, Pending: c.Pending, Wait: c.Wait})
	r.mu.Lock()
	defer r.mu.Unlock()
	now := maps.Clone(r.places)
	r.placesNow.Store(&now)
}

// placesOf are the connections of a service, or app entry; nil if there is none of this name.
func (r *resilience) placesOf(key string) *direct.Places {
	if now := r.placesNow.Load(); now != nil {
		return (*now)[key]
	}
	return nil
}

func rateSettings(c config.Rate) limit.RateSettings {
	return limit.RateSettings{Requests: c.Requests, Per: c.Per, Burst: cmp.Or(c.Burst, c.Requests), By: c.By}
}

// retries is for status.
func (r *resilience) retries(service string) *admin.Retries {
	st, ok := r.retry.Stats()[service]
	if !ok {
		return nil
	}
	return &admin.Retries{Budget: max(0, st.Budget-float64(st.Spent)), BudgetUsed: min(1, float64(st.Spent)/max(1, st.Budget)), Total: st.Retries, Recovered: st.Recovered, Exhausted: st.Exhausted, OverBudget: st.OverBudget, Outgrown: st.Outgrown}
}

// load is for status, by the name of a service or the key of an app entry.
func (r *resilience) load(key string) *admin.Load {
	slots, bounded := known(r, r.limits, key)
	rate, rated := known(r, r.rates, key)
	var places direct.PlaceStats
	if p := r.placesOf(key); p != nil {
		places = p.Stats()
	}
	if !bounded && !rated && places.Most == 0 {
		return nil
	}
	l := new(admin.Load)
	if places.Most > 0 {
		l.Connections, l.ConnectionLimit, l.ConnectionsWaiting, l.ConnectionsRefused = places.Open, places.Most, places.Waiting, places.Refused
		if open, ok := known(r, r.opened, key); ok { // a stream without a sidecar is in both
			st := open.Stats()
			l.Connections, l.ConnectionsWaiting, l.ConnectionsRefused = max(l.Connections, st.Running), l.ConnectionsWaiting+st.Waiting, l.ConnectionsRefused+st.Shed
		}
	}
	if bounded {
		st := slots.Stats()
		l.Running, l.Waiting, l.Limit, l.Shed = st.Running, st.Waiting, st.Limit, st.Shed
	}
	if rated {
		l.RateLimited = rate.Refused()
	}
	return l
}

// routeLoads is for status: of the routes of a service that have bounds of their own.
func (r *resilience) routeLoads(s *config.Service) []admin.Load {
	var all []admin.Load
	for i := range s.Routes {
		if l := s.Routes[i].Limits; l == s.Limits || l.Requests == 0 && !l.Adaptive {
			continue
		}
		if slots, ok := known(r, r.limits, routeKey(s.Name, i+1)); ok {
			st := slots.Stats()
			all = append(all, admin.Load{Route: i + 1, Running: st.Running, Waiting: st.Waiting, Limit: st.Limit, Shed: st.Shed})
		}
	}
	return all
}

// attempts is for status.
func (r *resilience) attempts() *admin.Attempts {
	st := r.once.Stats()
	if st == (once.Stats{}) {
		return nil
	}
	return &admin.Attempts{Known: st.Known, Bytes: st.Bytes, Repeated: st.Repeated, Forgotten: st.Forgotten}
}

// hedged is for status.
func (r *resilience) hedged(service string) *admin.Hedges {
	st, ok := known(r, r.hedges, service)
	if !ok {
		return nil
	}
	n := st.Stats()
	return &admin.Hedges{Total: n.Hedges, Won: n.Wins, OverBudget: n.OverBudget}
}

// injected is for status.
func (r *resilience) injected(service string) *admin.Faults {
	st, ok := known(r, r.faults, service)
	if !ok {
		return nil
	}
	n := st.Stats()
	return &admin.Faults{Delayed: n.Delayed, Aborted: n.Aborted, Throttled: n.Throttled}
}
