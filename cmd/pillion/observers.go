package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strings"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/cmd/internal/otlp"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/accesslog"
	"github.com/pillion-proxy/pillion/proxy/flight"
	"github.com/pillion-proxy/pillion/proxy/metrics"
	"github.com/pillion-proxy/pillion/proxy/observe"
	"github.com/pillion-proxy/pillion/proxy/spans"
	"github.com/pillion-proxy/pillion/proxy/tap"
	"github.com/pillion-proxy/pillion/proxy/tracing"
)

// observers are told of every request. They outlive reloads.
type observers struct {
	shards   shards
	metrics  *metrics.Metrics
	flight   *flight.Recorder
	tap      *tap.Tap
	spans    *spans.Spans   // nil where the configuration names no collector
	exporter *otlp.Exporter // nil without spans
	log      *accesslog.Log // nil where the configuration says off
}

func newObservers(all shards, cfg *config.Config, log *slog.Logger) (*observers, error) {
	o := &observers{shards: all, metrics: metrics.New(all, 0), flight: flight.New(all, 0), tap: tap.New(cfg.Admin.TapBodies)}
	if t := cfg.Tracing; t.OTLP != "" {
		o.spans = spans.New(spans.Config{
			Propagation: tracing.Propagation{Ratio: t.Sample.Share(), B3: t.B3},
			KeepErrors:  t.KeepErrors, KeepSlow: t.KeepSlow, Link: t.Link,
		})
		var err error
		if o.exporter, err = newExporter(o.spans, cfg, log); err != nil {
			return nil, fmt.Errorf("tracing: %w", err)
		}
	}
	if a := cfg.AccessLog; a.What != config.AccessOff {
		o.log = accesslog.New(accesslog.Config{
			What: accesslog.What(a.What), Share: a.Share.Share(), Format: accesslog.Format(a.Format), Query: a.Query,
			Open:   func() (io.WriteCloser, error) { return openLog(a.To) },
			Failed: func(err error) { log.Error("the access log cannot be written", "to", a.To, "err", err) },
		})
	}
	return o, nil
}

// layer follows the requests of one direction.
func (o *observers) layer(d observe.Direction) proxy.Layer {
	sinks := []observe.Sink{o.metrics, o.flight, o.tap}
	if o.spans != nil {
		sinks = append(sinks, o.spans) // behind flight, which says what is slow
	}
	if o.log != nil {
		sinks = append(sinks, o.log)
	}
	return observe.Layer(observe.Config{Direction: d, Shards: o.shards, Sinks: sinks})
}

// trace tells attempts where they stand in a trace; nil where nobody does.
func (o *observers) trace() proxy.Layer {
	if o.spans == nil {
		return nil
	}
	return o.spans.Attempts
}

// reopen has files opened anew.
func (o *observers) reopen() {
	if o.log != nil {
		o.log.Reopen()
	}
}

// openLog opens what the access log is written to.
func openLog(to string) (io.WriteCloser, error) {
	if to == "stdout" {
		return stdout{}, nil
	}
	return os.OpenFile(to, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
}

// stdout stays open.
type stdout struct{}

func (stdout) Write(p []byte) (int, error) { return os.Stdout.Write(p) }
func (stdout) Close() error                { return nil }

func newExporter(from otlp.Source, cfg *config.Config, log *slog.Logger) (*otlp.Exporter, error) {
	t := cfg.Tracing
	x := otlp.Config{
		Source: from, URL: t.OTLP, GRPC: t.Protocol == config.TracingGRPC,
		Resource: resource(cfg.Service, os.Getenv), Version: version().Version,
		Timeout: t.Timeout, Delay: t.Delay, Logger: log,
	}
	headers := os.Getenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS")
	if headers == "" {
		headers = os.Getenv("OTEL_EXPORTER_OTLP_HEADERS")
	}
	x.Headers = pairs(headers)
	for _, h := range t.Headers {
		x.Headers = append(x.Headers, otlp.Attribute{Key: h.Name, Value: h.Value})
	}
	if t.Roots != "" {
		pem, err := os.ReadFile(t.Roots)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", t.Roots)
		}
		x.TLS = &tls.Config{RootCAs: roots}
	}
	return otlp.New(x)
}

// resource says who makes spans: what the environment says of it, as OpenTelemetry defines that, and the rest.
func resource(service string, env func(string) string) []otlp.Attribute {
	all := pairs(env("OTEL_RESOURCE_ATTRIBUTES"))
	set := func(key, value string, replace bool) {
		for i := range all {
			if all[i].Key == key {
				if replace {
					all[i].Value = value
				}
				return
			}
		}
		all = append(all, otlp.Attribute{Key: key, Value: value})
	}
	if name := env("OTEL_SERVICE_NAME"); name != "" {
		set("service.name", name, true)
	}
	set("service.name", service, false)
	if host, err := os.Hostname(); err == nil {
		set("host.name", host, false)
	}
	set("telemetry.sdk.name", "pillion", false)
	set("telemetry.sdk.language", "go", false)
	set("telemetry.sdk.version", version().Version, false)
	return all
}

// pairs reads key=value,key=value with %XX for what cannot be written, the form of W3C Baggage. What is none of it is left out.
func pairs(s string) []otlp.Attribute {
	var all []otlp.Attribute
	for _, one := range strings.Split(s, ",") {
		key, value, ok := strings.Cut(one, "=")
		key = strings.TrimSpace(key)
		plain, err := url.PathUnescape(strings.TrimSpace(value))
		if ok && key != "" && err == nil {
			all = append(all, otlp.Attribute{Key: key, Value: plain})
		}
	}
	return all
}
