package main

import (
	"log/slog"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/listeners/admin"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/retry"
)

// resilience is what the layers that keep calls succeeding know, by service name. It outlives changes of the configuration, with which the layers are made anew.
type resilience struct {
	retry *retry.State
}

func newResilience(all shards, log *slog.Logger) *resilience {
	return &resilience{retry: retry.NewState(len(all), log)}
}

// retryLayer returns nil if nothing is ever repeated.
func (r *resilience) retryLayer(cfg *config.Config) proxy.Layer {
	services := make(map[string][]retry.Settings)
	for i := range cfg.Services {
		rules := []retry.Settings{retrySettings(cfg.Services[i].Retry)}
		for j := range cfg.Services[i].Routes {
			rules = append(rules, retrySettings(cfg.Services[i].Routes[j].Retry))
		}
		for j := range rules {
			if rules[j].Attempts > 1 {
				services[cfg.Services[i].Name] = rules
			}
		}
	}
	if len(services) == 0 {
		return nil
	}
	return r.retry.Layer(retry.Config{Services: services})
}

func retrySettings(c config.Retry) retry.Settings {
	return retry.Settings{
		Attempts: c.Attempts, Budget: c.Budget.Share(), Floor: float64(c.Floor), Body: int(c.Body), PerTry: c.PerTry,
		Backoff: c.Backoff, MaxBackoff: c.MaxBackoff, Unsafe: c.Unsafe,
	}
}

// retries is for status.
func (r *resilience) retries(service string) *admin.Retries {
	st, ok := r.retry.Stats()[service]
	if !ok || st == (retry.Stats{}) {
		return nil
	}
	return &admin.Retries{Total: st.Retries, Recovered: st.Recovered, Exhausted: st.Exhausted, OverBudget: st.OverBudget, Outgrown: st.Outgrown}
}
