package main

import (
	"fmt"
	"strings"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
)

// theirs is the service whose endpoints are asked.
func (q *question) theirs() *config.Service {
	if to := serviceOf(q.cfg, q.req.Backend.Name); to != nil {
		return to
	}
	return q.service
}

func explainBalance(q *question) string {
	b := &q.theirs().Balance
	said := map[config.BalancePolicy]string{
		config.PeakEWMA:     "of two random endpoints the one where it is expected to cost less, by latency, requests in flight and failures",
		config.LeastRequest: "of two random endpoints the one with fewer requests in flight",
		config.RoundRobin:   "one endpoint after the other",
	}[b.Policy]
	if b.Policy.Hashes() {
		key := keyOf(b.Key)
		if _, ok := key.Of(q.req); ok || key.Client {
			said = fmt.Sprintf("the endpoint that %s finds by %s", b.Policy, b.Key)
		} else {
			said = fmt.Sprintf("by load: %s goes by %s, which it does not have", b.Policy, b.Key)
		}
	}
	if h := b.Subset.Header; h != "" {
		if v := q.req.Fields.Get(h); v != "" {
			said += fmt.Sprintf("; of those with %s=%s, or %s if there is none", b.Subset.Label, v, b.Subset.Otherwise)
		}
	}
	if q.cfg.Zone != "" && b.Zones == config.NearZones && !b.Policy.Hashes() {
		said += "; those in " + q.cfg.Zone + " first"
	}
	return said
}

func explainHealth(q *question) string {
	h := &q.theirs().Health
	said := "passed over while no connection can be made"
	if e := &h.Ejection; e.Share > 0 && e.Consecutive > 0 {
		said += fmt.Sprintf(", and for %s after %d failures in a row", e.Base, e.Consecutive)
	}
	if h.Check != config.NoCheck {
		said += fmt.Sprintf(", or %d failed %s checks", h.Unhealthy, h.Check)
	}
	return said
}

func explainMirror(q *question) string {
	m := q.service.Mirror
	if q.route != nil {
		m = q.route.Mirror
	}
	if !m.On() {
		return "none"
	}
	return fmt.Sprintf("%s of them are copied to %s", m.Share, m.To)
}

func explainSplit(q *question) string {
	p := q.service.Split
	if q.route != nil {
		p = q.route.Split
	}
	if len(p.To) == 0 {
		return "none"
	}
	var shares []string
	for _, s := range p.To {
		shares = append(shares, fmt.Sprintf("%s of them go to %s", s.Part, s.To))
	}
	if p.Sticky != "" {
		shares = append(shares, "by "+string(p.Sticky))
	}
	return strings.Join(shares, ", ")
}
