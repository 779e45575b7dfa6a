package main

// goal is one row of the goals: what was wanted of pillion, and what came of it.
type goal struct {
	Scenario string  `json:"scenario"`
	Metric   string  `json:"metric"`
	Unit     string  `json:"unit"`
	Pillion  float64 `json:"pillion"`
	Best     string  `json:"best_peer,omitempty"` // of those that pillion is compared with
	BestHas  float64 `json:"best_value,omitempty"`
	Ratio    float64 `json:"ratio,omitempty"` // to the best, the median over the rounds
	Want     float64 `json:"want"`            // at most, of Ratio, or of Pillion if there is no peer to compare with
	Met      bool    `json:"met"`
}

// goals compares pillion with the best peer of every metric that has a goal, as far as both were measured.
func (r *report) goals() []goal {
	var all []goal
	for _, s := range r.Scenarios {
		p := s.result("pillion")
		if p == nil {
			continue
		}
		for _, m := range s.Metrics {
			v, ok := p.Median[m.Key]
			g := goal{Scenario: s.ID, Metric: m.Name, Unit: m.Unit, Pillion: v}
			switch {
			case !ok:
			case m.Limit > 0:
				g.Want, g.Met = m.Limit, v <= m.Limit
				all = append(all, g)
			case m.Ratio > 0:
				best := s.best(m)
				if best == nil {
					continue
				}
				g.Best, g.BestHas = best.Peer, best.Median[m.Key]
				g.Ratio = ratio(p, best, m.Key)
				g.Want, g.Met = m.Ratio, g.Ratio <= m.Ratio
				all = append(all, g)
			}
		}
	}
	return all
}

// best is the peer of the field with the lowest median, nil if there is none.
func (s *scenarioReport) best(m metric) *result {
	var best *result
	for _, res := range s.Results {
		v, ok := res.Median[m.Key]
		if !ok || !res.field || !m.All && !res.aware {
			continue
		}
		if best == nil || v < best.Median[m.Key] {
			best = res
		}
	}
	return best
}

// ratio is the median of the ratios of the rounds, which were measured one shortly after the other.
func ratio(a, b *result, key string) float64 {
	r, ok := medianOf(a.Rounds, func(x map[string]float64, i int) (float64, bool) {
		if i >= len(b.Rounds) || b.Rounds[i][key] <= 0 {
			return 0, false
		}
		v, ok := x[key]
		return v / b.Rounds[i][key], ok
	})
	if !ok && b.Median[key] > 0 {
		return a.Median[key] / b.Median[key]
	}
	return r
}
