package main

import "github.com/pillion-proxy/pillion/cmd/internal/scrape"

// counters are the figures of the observers themselves, for /metrics.
func (o *observers) counters() []scrape.Counter {
	var all []scrape.Counter
	add := func(name, help string, n uint64) {
		all = append(all, scrape.Counter{Name: name, Help: help, Value: float64(n)})
	}
	now := o.now.Load()
	if now.traces != nil {
		made, sent := now.spans.Stats(), now.exporter.Stats()
		add("trace_spans_made_total", "Spans that were made, to be sent.", made.Made)
		add("trace_spans_dropped_total", "Spans that were dropped because too many waited to be sent.", made.Dropped)
		add("trace_spans_sent_total", "Spans that the collector has taken.", sent.Sent)
		add("trace_spans_lost_total", "Spans that the collector would not take in time.", sent.Lost)
		add("trace_spans_rejected_total", "Spans that the collector has refused for good.", sent.Rejected)
		add("trace_export_failures_total", "Attempts to send spans that failed.", sent.Failures)
	}
	if now.log != nil {
		st := now.log.Stats()
		add("access_log_lines_total", "Lines for the access log.", st.Lines)
		add("access_log_lost_total", "Lines of the access log that were lost for want of room, or of somewhere to write.", st.Lost)
	}
	return all
}
