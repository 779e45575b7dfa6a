package scrape

import (
	"strconv"

	"github.com/pillion-proxy/pillion/listeners/admin"
)

// resilience are the figures of hedges, limits and faults of a service.
func resilience(gauge gauges, count counters, s admin.Service) {
	if h := s.Hedges; h != nil {
		count("hedges_total", "Requests that were sent to a second endpoint as well.", h.Total, "service", s.Name)
		count("hedges_won_total", "Those of them that the second endpoint answered first.", h.Won, "service", s.Name)
		count("hedges_over_budget_total", "Requests that were not, for want of budget.", h.OverBudget, "service", s.Name)
	}
	if l := s.Load; l != nil {
		load(gauge, count, "limit", l, "service", s.Name)
	}
	for i := range s.RouteLoads {
		l := &s.RouteLoads[i]
		load(gauge, count, "route_limit", l, "service", s.Name, "route", strconv.Itoa(l.Route))
	}
	if f := s.Faults; f != nil {
		for what, n := range map[string]uint64{"delayed": f.Delayed, "aborted": f.Aborted, "throttled": f.Throttled} {
			count("faults_total", "Requests that were harmed on purpose.", n, "service", s.Name, "fault", what)
		}
	}
}

// detected says what was found out about a protocol, where anything was.
func detected(gauge gauges, labels ...string) {
	if labels[len(labels)-1] != "" {
		gauge("detected", "1 for the protocol that was found out: of a service on its own port, of an app behind one that peers ask for.", 1, labels...)
	}
}

// balance are the figures of what was decided about the endpoints of a service.
func balance(gauge gauges, count counters, s *admin.Service) {
	out := map[admin.Out]int{admin.Lost: 0, admin.Ejected: 0, admin.Sick: 0}
	for _, e := range s.Endpoints {
		if e.Out != "" {
			out[e.Out]++
		}
	}
	for why, n := range out {
		gauge("endpoints_out", "Endpoints that get nothing now: no connection can be made (lost), they answer badly (ejected), or fail their checks (sick).", float64(n), "service", s.Name, "reason", string(why))
	}
	b := s.Balance
	if b == nil {
		return
	}
	count("ejections_total", "Endpoints that were left out for a while, because they answered badly.", b.Ejected, "service", s.Name)
	count("ejections_spared_total", "Endpoints that would have been, had not too many been left out already.", b.Spared, "service", s.Name)
	count("endpoints_lost_total", "Times that an endpoint could not be connected to any more.", b.Lost, "service", s.Name)
	count("checks_total", "Active checks.", b.Checks, "service", s.Name)
	count("checks_failed_total", "Those of them that failed.", b.FailedChecks, "service", s.Name)
	count("picks_total", "Endpoints that were picked for requests.", b.Picks, "service", s.Name)
	const odd = "Picks that were not as usual: most endpoints were out (panic), only one that was out was left (last_resort), it was in another zone (far), a key could not go where it belongs (moved)."
	for what, n := range map[string]uint64{"panic": b.Panics, "last_resort": b.Last, "far": b.Far, "moved": b.Moved} {
		count("picks_unusual_total", odd, n, "service", s.Name, "what", what)
	}
}

// load are the figures of what bounds a service, one of its routes, or an app.
func load(gauge gauges, count counters, name string, l *admin.Load, labels ...string) {
	gauge(name+"_running", "Requests that run under a limit.", float64(l.Running), labels...)
	gauge(name+"_waiting", "Requests that wait for others to end.", float64(l.Waiting), labels...)
	gauge(name+"_most", "How many may run now; 0 if nothing bounds that.", float64(l.Limit), labels...)
	code := func(c string) []string { return append(labels[:len(labels):len(labels)], "code", c) }
	const help = "Requests that were refused: too many ran (overloaded), or came (rate_limited)."
	count(name+"_refused_total", help, l.Shed, code("overloaded")...)
	count(name+"_refused_total", help, l.RateLimited, code("rate_limited")...)
	if l.ConnectionLimit == 0 {
		return
	}
	gauge(name+"_connections", "Connections that are open under a limit.", float64(l.Connections), labels...)
	gauge(name+"_connections_most", "How many may be open.", float64(l.ConnectionLimit), labels...)
	gauge(name+"_connections_waiting", "Requests that wait for a connection.", float64(l.ConnectionsWaiting), labels...)
	count(name+"_connections_refused_total", "Requests that were refused because no connection became free.", l.ConnectionsRefused, labels...)
}
