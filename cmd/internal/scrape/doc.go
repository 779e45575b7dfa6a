// Package scrape is /metrics: it gives Prometheus what the rooms have counted, in whatever format the scraper asks for (text, OpenMetrics, or
// protobuf, which native histograms need). Nothing is kept here: each scrape asks the rooms.
package scrape
