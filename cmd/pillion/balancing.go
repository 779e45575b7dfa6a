package main

import (
	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/upstream"
	"github.com/pillion-proxy/pillion/upstream/balance"
	"github.com/pillion-proxy/pillion/upstream/health"
)

// balanceOf is how endpoints of s are chosen.
func balanceOf(cfg *config.Config, s *config.Service) balance.Config {
	policies := map[config.BalancePolicy]balance.Policy{
		config.PeakEWMA: balance.PeakEWMA, config.LeastRequest: balance.LeastRequest, config.RoundRobin: balance.RoundRobin,
		config.RingHash: balance.RingHash, config.Maglev: balance.Maglev,
	}
	b := &s.Balance
	one := balance.Config{
		Policy: policies[b.Policy], Decay: b.Decay, Penalty: float64(b.Penalty), SlowStart: b.SlowStart,
		Spill: orNever(float64(b.Spill)), Bound: orNever(b.Bound.Share()), Label: b.Subset.Label, Strict: b.Subset.Otherwise == config.OtherwiseNone,
	}
	if b.Zones == config.NearZones {
		one.Zone = cfg.Zone
	}
	return one
}

func keyOf(k config.KeyFrom) proxy.Key {
	return proxy.Key{Field: k.Header(), Cookie: k.Cookie(), Client: k.Client()}
}

// healthOf is when endpoints are passed over.
func healthOf(h *config.Health) health.Config {
	e := &h.Ejection
	return health.Config{
		Consecutive: orNever(e.Consecutive), Interval: e.Interval, Base: e.Base, Most: e.Max, Share: orNever(e.Share.Share()),
		MinEndpoints: e.Endpoints, MinRequests: e.Requests, Deviation: orNever(e.Deviation.Share()), Latency: float64(e.Latency),
		Panic: orNever(h.Panic.Share()), Healthy: h.Healthy, Unhealthy: h.Unhealthy,
	}
}

// checkOf is how endpoints of s are asked whether they are well.
func checkOf(s *config.Service) upstream.Check {
	kinds := map[config.CheckKind]upstream.CheckKind{config.CheckTCP: upstream.CheckTCP, config.CheckHTTP: upstream.CheckHTTP, config.CheckGRPC: upstream.CheckGRPC}
	h := &s.Health
	one := upstream.Check{Kind: kinds[h.Check], Path: h.Path, Name: h.Service, Port: h.Port, Interval: h.Interval, Timeout: h.Timeout}
	if one.Port == 0 {
		one.Port = s.Port
	}
	return one
}

// orNever makes "none", which is zero in the configuration, what it is in the rooms: negative.
func orNever[T int | float64](n T) T {
	if n == 0 {
		return -1
	}
	return n
}
