package scrape

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pillion-proxy/pillion/listeners/admin"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/metrics"
	"github.com/pillion-proxy/pillion/proxy/observe"
)

// Source is where the figures come from. All are asked at each scrape.
type Source struct {
	Requests func() metrics.Totals
	Status   func() admin.Status
	// Counters are those that no status shows. May be nil.
	Counters func() []Counter
}

// Counter is one figure.
type Counter struct {
	Name   string // without "pillion_"
	Help   string
	Gauge  bool // it may go down
	Labels map[string]string
	Value  float64
}

// Handler answers scrapes.
func Handler(src Source) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(&collector{src}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

type collector struct{ src Source }

// Describe sends nothing: what there is is not known beforehand.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	t := c.src.Requests()
	requests(out, t)
	status(out, c.src.Status())
	if c.src.Counters == nil {
		return
	}
	for _, x := range c.src.Counters() {
		kind := prometheus.CounterValue
		if x.Gauge {
			kind = prometheus.GaugeValue
		}
		send(out, kind, x.Name, x.Help, x.Value, x.Labels)
	}
}

// send sends one figure.
func send(out chan<- prometheus.Metric, kind prometheus.ValueType, name, help string, value float64, labels map[string]string) {
	d := prometheus.NewDesc("pillion_"+name, help, nil, labels)
	out <- prometheus.MustNewConstMetric(d, kind, value)
}

// partKey tells apart whose time it was: less finely than requests are told apart, since there are five parts of each.
type partKey struct {
	direction observe.Direction
	service   string
	part      int
}

func requests(out chan<- prometheus.Metric, t metrics.Totals) {
	parts := make(map[partKey]*metrics.Histogram)
	for d, n := range t.Running {
		send(out, prometheus.GaugeValue, "requests_running", "Requests that run now.", float64(n), map[string]string{"direction": observe.Direction(d).String()})
	}
	for _, x := range t.Series {
		labels := of(x.Key)
		for o, n := range x.Outcomes {
			send(out, prometheus.CounterValue, "requests_total", "Requests that have ended.", float64(n), with(labels,
				"status", number(o.Status, 0), "code", o.Code, "grpc_status", number(o.GRPC, -1), "end", o.End.String()))
		}
		send(out, prometheus.CounterValue, "request_attempts_total", "Attempts beyond the first one of a request.", float64(x.Attempts), labels)
		const bytes = "Content of requests (in) and answers (out), in bytes."
		send(out, prometheus.CounterValue, "request_bytes_total", bytes, float64(x.BytesIn), with(labels, "way", "in"))
		send(out, prometheus.CounterValue, "request_bytes_total", bytes, float64(x.BytesOut), with(labels, "way", "out"))
		if x.Shape != observe.Exchange {
			send(out, prometheus.GaugeValue, "streams_open", "Streams and Flows that are open now.", float64(x.Open), labels)
		}
		out <- &histogram{prometheus.NewDesc("pillion_request_duration_seconds", "From the beginning of a request to the end of its answer.", nil, labels), &x.Duration}
		for i := range x.Parts {
			k := partKey{x.Direction, x.Service, i}
			if parts[k] == nil {
				parts[k] = new(metrics.Histogram)
			}
			parts[k].Add(&x.Parts[i])
		}
		out <- &histogram{prometheus.NewDesc("pillion_request_head_seconds", "From the beginning of a request to the head of its answer.", nil, labels), &x.Head}
	}
	for k, h := range parts {
		if h.Count > 0 {
			const help = "Where the time to the head of an answer went, for requests that had the part: waiting in this sidecar, its own work, the link, the peer's sidecar, the app."
			out <- &histogram{prometheus.NewDesc("pillion_request_part_seconds", help, nil,
				map[string]string{"direction": k.direction.String(), "service": k.service, "part": observe.PartNames[k.part]}), h}
		}
	}
}

// of are the labels of a Key.
func of(k metrics.Key) map[string]string {
	return map[string]string{
		"direction": k.Direction.String(), "shape": k.Shape.String(), "service": k.Service, "port": number(int(k.Port), 0),
		"route": number(k.Rule, 0), "peer": string(k.Peer), "protocol": protocol(k.Version),
	}
}

func protocol(v proxy.Version) string {
	switch v {
	case proxy.HTTP10:
		return "http1.0"
	case proxy.HTTP11:
		return "http1.1"
	case proxy.HTTP2:
		return "http2"
	case proxy.HTTP3:
		return "http3"
	}
	return ""
}

func number(n, none int) string {
	if n == none {
		return ""
	}
	return strconv.Itoa(n)
}

// with returns labels and more.
func with(labels map[string]string, more ...string) map[string]string {
	all := make(map[string]string, len(labels)+len(more)/2)
	for k, v := range labels {
		all[k] = v
	}
	for i := 0; i < len(more); i += 2 {
		all[more[i]] = more[i+1]
	}
	return all
}

func status(out chan<- prometheus.Metric, st admin.Status) {
	gauge := func(name, help string, value float64, labels ...string) {
		send(out, prometheus.GaugeValue, name, help, value, with(nil, labels...))
	}
	count := func(name, help string, value uint64, labels ...string) {
		send(out, prometheus.CounterValue, name, help, float64(value), with(nil, labels...))
	}
	gauge("info", "Which sidecar this is.", 1, "version", st.Version, "service", st.Service, "identity", st.Identity.ID)
	for _, s := range []admin.State{admin.Starting, admin.Ready, admin.Draining} {
		gauge("state", "1 for the state that the sidecar is in.", truth(st.State == s), "state", string(s))
	}
	gauge("start_time_seconds", "When the sidecar started, as Unix time.", float64(st.Started.Unix()))
	gauge("certificate_expiry_seconds", "When the sidecar's certificate ends, as Unix time.", unix(st.Identity.NotAfter))
	gauge("certificate_error", "1 if the last reload or renewal of the certificate failed.", truth(st.Identity.Error != ""))
	open := make(map[string]int) // a port may be there twice: over TCP and UDP, or with one that a reload has put in its place
	for _, l := range st.Listeners {
		open[l.Name] += l.Connections
	}
	for name, n := range open {
		gauge("listener_connections", "Open connections.", float64(n), "listener", name)
	}
	if c := st.Configuration; c != nil {
		gauge("configuration_generation", "Which configuration is in force: 1 from the start, one more after each reload that has changed something.", float64(c.Generation))
		gauge("configuration_stale", "1 if the last reload failed, so that what is in force is not what is written.", truth(c.Error != ""))
		count("configuration_reloads_total", "Reloads that were asked for, by hand or by a change of the file.", c.Reloads)
		count("configuration_reloads_failed_total", "Those of them that changed nothing because of a mistake.", c.Failed)
	}
	for _, a := range st.Apps {
		port := []string{"port", strconv.Itoa(int(a.Port)), "protocol", a.Protocol}
		gauge("app_reachable", "0 if the app could not be reached when it was tried last.", truth(a.Error == ""), port...)
		gauge("app_idle_connections", "Connections to the app that wait for the next request.", float64(a.Idle), port...)
		detected(gauge, "service", "", "port", port[1], "protocol", a.Speaks)
		flows(count, a.Flows, "direction", "inbound", "service", "", "port", port[1])
		if a.Load != nil {
			load(gauge, count, "app_limit", a.Load, port...)
		}
	}
	for _, s := range st.Services {
		services(gauge, count, s)
	}
	cache(gauge, count, st.Cache)
	links(gauge, st.Links)
	for _, p := range st.Paths {
		for _, w := range p.Ways {
			if w.State != "unknown" {
				gauge("path_works", "Whether a transport to a peer works.", truth(w.State == "works"), "peer", p.Peer, "network", p.Network, "transport", w.Transport)
			}
		}
	}
	runtime(gauge, count, st.Runtime)
	if st.DNS != nil {
		const help = "Questions that the app asked: answered here, passed on, and of those not answered."
		count("dns_questions_total", help, st.DNS.Own, "answer", "own")
		count("dns_questions_total", help, st.DNS.Forwarded, "answer", "forwarded")
		count("dns_questions_total", help, st.DNS.Failed, "answer", "failed")
	}
}

type (
	gauges   func(name, help string, value float64, labels ...string)
	counters func(name, help string, value uint64, labels ...string)
)

func services(gauge gauges, count counters, s admin.Service) {
	healthy, used := 0, 0
	for _, e := range s.Endpoints {
		if e.InUse {
			used++
		}
		if e.Healthy {
			healthy++
		}
	}
	gauge("endpoints", "Endpoints that discovery knows.", float64(len(s.Endpoints)), "service", s.Name)
	gauge("endpoints_healthy", "Those of them against which nothing speaks.", float64(healthy), "service", s.Name)
	gauge("endpoints_in_use", "Those of them over which requests are balanced: see the key aperture.", float64(used), "service", s.Name)
	gauge("discovery_age_seconds", "Since the endpoints last changed; -1 if they were never known.", s.Age, "service", s.Name)
	gauge("discovery_stale_seconds", "Since when discovery fails; 0 if it does not.", s.Stale, "service", s.Name)
	flows(count, s.Flows, "direction", "outbound", "service", s.Name, "port", "")
	detected(gauge, "service", s.Name, "port", "", "protocol", s.Speaks)
	resilience(gauge, count, s)
	balance(gauge, count, &s)
	if r := s.Retries; r != nil {
		count("retries_total", "Attempts beyond the first ones.", r.Total, "service", s.Name)
		gauge("retry_budget", "How many more retries the budget has room for now.", r.Budget, "service", s.Name)
		gauge("retry_budget_used_ratio", "The part of the retry budget that is used up.", r.BudgetUsed, "service", s.Name)
		const help = "What became of requests that failed at first."
		for what, n := range map[string]uint64{"recovered": r.Recovered, "exhausted": r.Exhausted, "over_budget": r.OverBudget, "body_outgrown": r.Outgrown} {
			count("retry_outcomes_total", help, n, "service", s.Name, "outcome", what)
		}
	}
}

func cache(gauge gauges, count counters, c *admin.Cache) {
	if c == nil {
		return
	}
	const held, most = "Bytes of answers that are kept.", "Bytes of answers that may be kept."
	gauge("cache_bytes", held, float64(c.Bytes), "tier", "memory")
	gauge("cache_bytes_max", most, float64(c.Max), "tier", "memory")
	count("cache_evictions_total", "Answers that made room for others.", c.Evictions)
	if d := c.Disk; d != nil {
		gauge("cache_bytes", held, float64(d.Bytes), "tier", "disk")
		gauge("cache_bytes_max", most, float64(d.Max), "tier", "disk")
		count("cache_damaged_total", "Files that did not hold what was written.", d.Damaged)
	}
	for _, d := range c.DNS {
		const help = "DNS questions that the cache has looked at, by what became of them."
		count("cache_dns_questions_total", help, d.Hits, "service", d.Service, "result", "hit")
		count("cache_dns_questions_total", help, d.Misses, "service", d.Service, "result", "miss")
		gauge("cache_dns_answers", "DNS answers that are kept.", float64(d.Entries), "service", d.Service)
		gauge("cache_dns_bytes", "Bytes of DNS answers that are kept.", float64(d.Bytes), "service", d.Service)
	}
	for _, s := range c.Services {
		const help = "Requests that the cache has looked at, by what became of them."
		for what, n := range map[string]uint64{"hit": s.Hits, "miss": s.Misses, "passed": s.Passed} {
			count("cache_requests_total", help, n, "service", s.Name, "result", what)
		}
		const how = "How requests were answered without one of their own to the service: stale, after a 304, or by what another had asked for."
		for what, n := range map[string]uint64{"stale": s.Stale, "validated": s.Validated, "collapsed": s.Collapsed} {
			count("cache_answers_total", how, n, "service", s.Name, "how", what)
		}
		count("cache_stored_total", "Answers that were stored.", s.Stored, "service", s.Name)
		count("cache_invalidated_total", "Keys that an unsafe request has invalidated.", s.Invalidated, "service", s.Name)
		const news = "Changes of answers that sidecars tell each other: told to who keeps them, heard from who answered."
		count("cache_news_total", news, s.Told, "service", s.Name, "way", "told")
		count("cache_news_total", news, s.Heard, "service", s.Name, "way", "heard")
		count("cache_served_bytes_total", "Bytes of content that came from the cache.", s.BytesServed, "service", s.Name)
		for why, n := range s.NotStored {
			count("cache_not_stored_total", "Answers that were not stored.", n, "service", s.Name, "reason", why)
		}
	}
}

func flows(count counters, f *admin.Flows, labels ...string) {
	if f == nil {
		return
	}
	count("flows_total", "Flows that there were.", f.Total, labels...)
	count("flows_evicted_total", "Flows that ended to make room for others.", f.Evicted, labels...)
	const help = "Datagrams towards the app that serves (in), and back (out)."
	count("datagrams_total", help, f.In, append(labels, "way", "in")...)
	count("datagrams_total", help, f.Out, append(labels, "way", "out")...)
	for why, n := range f.Dropped {
		count("datagrams_dropped_total", "Datagrams that were lost here.", n, append(labels, "reason", why)...)
	}
}

func runtime(gauge gauges, count counters, r admin.Runtime) {
	gauge("tasks", "Tasks that run or wait.", float64(r.Tasks))
	gauge("connections", "Open connections of any kind.", float64(r.Conns))
	gauge("connections_idle", "Those of them that wait for a request.", float64(r.Idle))
	gauge("buffers", "Buffers in use.", float64(r.Buffers))
	count("panics_total", "Tasks that ended by a bug of pillion's.", r.Panics)
	gauge("loop_busy_ratio", "The part of its time that the busiest event loop works.", r.Busy)
	gauge("loop_longest_turn_seconds", "The longest that an event loop ever was without looking for events.", r.LongestTurn)
	count("stalls_total", "Turns of a loop that took longer than 5 ms.", r.Stalls)
	count("shed_total", "Connections that were refused for want of file descriptors.", r.Shed)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.Unix())
}
