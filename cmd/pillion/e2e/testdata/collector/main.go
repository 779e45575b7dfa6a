// Command collector is OpenTelemetry's own receiver: it prints each span that it is sent, as JSON.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/receiver/receivertest"
)

// line is one span.
type line struct {
	Service, Name, Kind, Trace, Span, Parent, Status string
	Attributes                                       map[string]any
	Events                                           []string
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

// run serves until SIGTERM: gRPC at the first argument, HTTP at the second.
func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	f := otlpreceiver.NewFactory()
	cfg := f.CreateDefaultConfig()
	if err := confmap.NewFromStringMap(map[string]any{"protocols": map[string]any{
		"grpc": map[string]any{"endpoint": os.Args[1]},
		"http": map[string]any{"endpoint": os.Args[2]},
	}}).Unmarshal(cfg); err != nil {
		return err
	}
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	next, err := consumer.NewTraces(func(_ context.Context, td ptrace.Traces) error {
		mu.Lock()
		defer mu.Unlock()
		return print(out, td)
	})
	if err != nil {
		return err
	}
	r, err := f.CreateTraces(ctx, receivertest.NewNopSettings(f.Type()), cfg, next)
	if err != nil {
		return err
	}
	if err := r.Start(ctx, componenttest.NewNopHost()); err != nil {
		return err
	}
	if err := out.Encode("ready"); err != nil {
		return err
	}
	<-ctx.Done()
	return r.Shutdown(context.Background())
}

func print(out *json.Encoder, td ptrace.Traces) error {
	for _, rs := range td.ResourceSpans().All() {
		service, _ := rs.Resource().Attributes().Get("service.name")
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				l := line{Service: service.AsString(), Name: s.Name(), Kind: s.Kind().String(), Trace: s.TraceID().String(), Span: s.SpanID().String(),
					Parent: s.ParentSpanID().String(), Status: s.Status().Code().String(), Attributes: s.Attributes().AsRaw()}
				for _, e := range s.Events().All() {
					l.Events = append(l.Events, e.Name())
				}
				if err := out.Encode(l); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
