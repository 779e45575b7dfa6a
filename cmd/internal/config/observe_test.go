package config

import (
	"strings"
	"testing"
	"time"
)

// TestTracingEnvironment: OpenTelemetry's variables are the defaults, and what is wrong with them is no mistake of the file.
func TestTracingEnvironment(t *testing.T) {
	type vars = map[string]string
	usual := Tracing{Protocol: TracingHTTP, Sample: 5, KeepErrors: true, KeepSlow: true, Timeout: 10 * time.Second, Delay: 5 * time.Second}
	with := func(f func(*Tracing)) Tracing {
		x := usual
		f(&x)
		return x
	}
	const there = "EXPORTER_OTLP_ENDPOINT"
	at := func(x *Tracing) { x.OTLP = "http://c:4318/v1/traces" }
	for _, x := range []struct {
		name    string
		env     vars
		file    string
		want    Tracing
		warning string
	}{
		{"nothing", nil, "", usual, ""},
		{"an address", vars{there: "http://c:4318"}, "", with(at), ""},
		{"with a path", vars{there: "http://c:4318/x/"}, "", with(func(x *Tracing) { x.OTLP = "http://c:4318/x/v1/traces" }), ""},
		{"of traces", vars{there: "http://d:1", "EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/here"}, "", with(func(x *Tracing) { x.OTLP = "http://c:4318/here" }), ""},
		{"grpc", vars{there: "http://c:4317", "EXPORTER_OTLP_PROTOCOL": "grpc"}, "", with(func(x *Tracing) { x.OTLP, x.Protocol = "http://c:4317", TracingGRPC }), ""},
		{"the file counts more", vars{there: "http://d:1", "EXPORTER_OTLP_PROTOCOL": "grpc", "TRACES_SAMPLER": "always_on"},
			"tracing: {otlp: \"http://c:4318\", protocol: http/protobuf, sample: 5%}", with(at), ""},
		{"none", vars{there: "http://c:4318"}, "tracing: {otlp: none}", usual, ""},
		{"disabled", vars{there: "http://c:4318", "SDK_DISABLED": "true"}, "", usual, ""},
		{"another exporter", vars{there: "http://c:4318", "TRACES_EXPORTER": "none"}, "", usual, ""},
		{"sampler", vars{there: "http://c:4318", "TRACES_SAMPLER": "parentbased_traceidratio", "TRACES_SAMPLER_ARG": "0.25"}, "",
			with(func(x *Tracing) { at(x); x.Sample = 25 }), ""},
		{"all", vars{there: "http://c:4318", "TRACES_SAMPLER": "always_on"}, "", with(func(x *Tracing) { at(x); x.Sample = 100 }), ""},
		{"no share", vars{there: "http://c:4318", "TRACES_SAMPLER": "traceidratio", "TRACES_SAMPLER_ARG": "2"}, "", with(at), "OTEL_TRACES_SAMPLER_ARG"},
		{"no sampler", vars{there: "http://c:4318", "TRACES_SAMPLER": "jaeger_remote"}, "", with(at), "OTEL_TRACES_SAMPLER"},
		{"b3 and times", vars{there: "http://c:4318", "PROPAGATORS": "tracecontext,b3", "EXPORTER_OTLP_TIMEOUT": "2000", "BSP_SCHEDULE_DELAY": "100"}, "",
			with(func(x *Tracing) { at(x); x.B3, x.Timeout, x.Delay = true, 2*time.Second, 100*time.Millisecond }), ""},
		{"no time", vars{there: "http://c:4318", "EXPORTER_OTLP_TIMEOUT": "10s"}, "", with(at), "OTEL_EXPORTER_OTLP_TIMEOUT"},
		{"no address", vars{there: "c:4318"}, "", usual, "OTEL_EXPORTER_OTLP_ENDPOINT"},
		{"no protocol", vars{there: "http://c:4318", "EXPORTER_OTLP_PROTOCOL": "http/json"}, "", with(at), "OTEL_EXPORTER_OTLP_PROTOCOL"},
	} {
		t.Run(x.name, func(t *testing.T) {
			for k, v := range x.env {
				t.Setenv("OTEL_"+k, v)
			}
			c, err := read("pillion.yaml", t.TempDir(), []byte("service: web\n"+x.file+"\n"), Flags{})
			if err != nil {
				t.Fatal(err)
			}
			if got := c.Tracing; got.OTLP != x.want.OTLP || got.Protocol != x.want.Protocol || got.Sample != x.want.Sample || got.B3 != x.want.B3 || got.Timeout != x.want.Timeout || got.Delay != x.want.Delay {
				t.Errorf("got  %+v\nwant %+v", got, x.want)
			}
			if x.warning == "" && len(c.Warnings) > 0 || x.warning != "" && (len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0].Text, x.warning)) {
				t.Errorf("warnings %v, want %q", c.Warnings, x.warning)
			}
		})
	}
}
