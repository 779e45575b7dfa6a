package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

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

// observers are told of every request. They outlive reloads, which replace what tracing and access_log ask for where these have changed.
type observers struct {
	shards  shards
	metrics *metrics.Metrics
	flight  *flight.Recorder
	tap     *tap.Tap
	logger  *slog.Logger
	now     atomic.Pointer[recording]

	// Of start; nil before.
	ctx        context.Context // what is started ends with it
	background func(name string, ctx context.Context, run func(context.Context) error)
}

// recording is what a configuration's tracing and access_log ask for.
type recording struct {
	*traces // nil where it names no collector
	*written
}

// traces are spans, and what sends them.
type traces struct {
	spans    *spans.Spans
	exporter *otlp.Exporter
	stop     context.CancelFunc // nil before it runs
}

// written is the access log; log is nil where it is off.
type written struct {
	log  *accesslog.Log
	stop context.CancelFunc // nil before it runs
}

func newObservers(all shards, cfg *config.Config, log *slog.Logger) (*observers, error) {
	o := &observers{shards: all, metrics: metrics.New(all, 0), flight: flight.New(all, 0), tap: tap.New(cfg.Admin.TapBodies), logger: log}
	r := new(recording)
	var err error
	if r.traces, err = newTraces(cfg, log); err != nil {
		return nil, err
	}
	r.written = newWritten(cfg, log)
	o.now.Store(r)
	return o, nil
}

func newTraces(cfg *config.Config, log *slog.Logger) (*traces, error) {
	t := cfg.Tracing
	if t.OTLP == "" {
		return nil, nil
	}
	x := &traces{spans: spans.New(spans.Config{
		Propagation: tracing.Propagation{Ratio: t.Sample.Share(), B3: t.B3},
		KeepErrors:  t.KeepErrors, KeepSlow: t.KeepSlow, Link: t.Link,
	})}
	var err error
	if x.exporter, err = newExporter(x.spans, cfg, log); err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	return x, nil
}

func newWritten(cfg *config.Config, log *slog.Logger) *written {
	a := cfg.AccessLog
	if a.What == config.AccessOff {
		return new(written)
	}
	return &written{log: accesslog.New(accesslog.Config{
		What: accesslog.What(a.What), Share: a.Share.Share(), Format: accesslog.Format(a.Format), Query: a.Query,
		Open:   func() (io.WriteCloser, error) { return openLog(a.To) },
		Failed: func(err error) { log.Error("the access log cannot be written", "to", a.To, "err", err) },
	})}
}

// start runs what sends and writes.
func (o *observers) start(ctx context.Context, background func(string, context.Context, func(context.Context) error)) {
	o.ctx, o.background = ctx, background
	o.run(o.now.Load())
}

// run runs those parts of r that do not run yet.
func (o *observers) run(r *recording) {
	if t := r.traces; t != nil && t.stop == nil {
		var ctx context.Context
		ctx, t.stop = context.WithCancel(o.ctx)
		o.background("tracing", ctx, t.exporter.Run)
	}
	if w := r.written; w.log != nil && w.stop == nil {
		var ctx context.Context
		ctx, w.stop = context.WithCancel(o.ctx)
		o.background("access log", ctx, w.log.Run)
	}
}

// prepare makes what cfg asks for; what has not changed stays as it is.
func (o *observers) prepare(before, cfg *config.Config) (r *recording, err error) {
	now := o.now.Load()
	r = &recording{now.traces, now.written}
	if !reflect.DeepEqual(before.Tracing, cfg.Tracing) {
		if r.traces, err = newTraces(cfg, o.logger); err != nil {
			return nil, err
		}
	}
	if before.AccessLog != cfg.AccessLog {
		if r.written = newWritten(cfg, o.logger); r.log != nil {
			f, err := openLog(cfg.AccessLog.To)
			if err != nil {
				return nil, fmt.Errorf("access_log: %w", err)
			}
			f.Close()
		}
	}
	return r, nil
}

// lastWords is how long what a reload has replaced goes on for the requests that began before.
const lastWords = time.Minute

// commit puts r into force, for layers that are made from now on.
func (o *observers) commit(r *recording, cfg *config.Config) {
	before := o.now.Swap(r)
	o.tap.SetBodies(cfg.Admin.TapBodies)
	o.run(r)
	if t := before.traces; t != nil && t != r.traces {
		time.AfterFunc(lastWords, t.stop)
	}
	if w := before.written; w.log != nil && w != r.written {
		time.AfterFunc(lastWords, w.stop)
	}
}

// layer follows the requests of one direction.
func (o *observers) layer(d observe.Direction) proxy.Layer {
	sinks, now := []observe.Sink{&usual{o.metrics, o.flight, o.tap}}, o.now.Load()
	if now.traces != nil {
		sinks = append(sinks, now.spans) // behind flight, which says what is slow
	}
	if now.log != nil {
		sinks = append(sinks, now.log)
	}
	return observe.Layer(observe.Config{Direction: d, Shards: o.shards, Sinks: sinks})
}

// usual are the Sinks that each sidecar has, as one, so that none of them is called where it has nothing to do.
type usual struct {
	metrics *metrics.Metrics
	flight  *flight.Recorder
	tap     *tap.Tap
}

// Begin implements observe.Sink.
func (u *usual) Begin(e *observe.Entry) {
	u.metrics.Begin(e)
	u.flight.Begin(e)
	u.tap.Begin(e)
}

// Head implements observe.Sink.
func (u *usual) Head(e *observe.Entry) {
	u.metrics.Head(e)
	u.flight.Head(e)
	u.tap.Head(e)
}

// Done implements observe.Sink.
func (u *usual) Done(e *observe.Entry) {
	u.metrics.Done(e)
	u.flight.Done(e)
	u.tap.Done(e)
}

// trace tells attempts where they stand in a trace; nil where nobody does.
func (o *observers) trace() proxy.Layer {
	now := o.now.Load()
	if now.traces == nil {
		return nil
	}
	return now.spans.Attempts
}

// reopen has files opened anew.
func (o *observers) reopen() {
	if now := o.now.Load(); now.log != nil {
		now.log.Reopen()
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
