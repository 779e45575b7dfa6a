package scrape

import "github.com/pillion-proxy/pillion/listeners/admin"

// resilience are the figures of hedges, limits and faults of a service.
func resilience(gauge gauges, count counters, s admin.Service) {
	if h := s.Hedges; h != nil {
		count("hedges_total", "Requests that were sent to a second endpoint as well.", h.Total, "service", s.Name)
		count("hedges_won_total", "Those of them that the second endpoint answered first.", h.Won, "service", s.Name)
	}
	if l := s.Load; l != nil {
		gauge("limit_running", "Requests that run under a limit.", float64(l.Running), "service", s.Name)
		gauge("limit_waiting", "Requests that wait for others to end.", float64(l.Waiting), "service", s.Name)
		gauge("limit_most", "How many may run now; 0 if nothing bounds that.", float64(l.Limit), "service", s.Name)
		const help = "Requests that were refused: too many ran (overloaded), or came (rate_limited)."
		count("limit_refused_total", help, l.Shed, "service", s.Name, "code", "overloaded")
		count("limit_refused_total", help, l.RateLimited, "service", s.Name, "code", "rate_limited")
	}
	if f := s.Faults; f != nil {
		for what, n := range map[string]uint64{"delayed": f.Delayed, "aborted": f.Aborted, "throttled": f.Throttled} {
			count("faults_total", "Requests that were harmed on purpose.", n, "service", s.Name, "fault", what)
		}
	}
}
