package config

import "time"

// Tracing says which spans of requests are sent to an OpenTelemetry collector. Without otlp no request is touched: traceparent passes as it came.
type Tracing struct {
	// The collector: http://127.0.0.1:4318, or https://. Over HTTP /v1/traces is added where there is no path, over gRPC the port is 4317 where there is none. none is no
	// collector, whatever the environment says.
	OTLP string `yaml:"otlp" note:"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, else OTEL_EXPORTER_OTLP_ENDPOINT with /v1/traces, else none" none:"true"`
	// How spans are sent there. Default in the environment: OTEL_EXPORTER_OTLP_TRACES_PROTOCOL, else OTEL_EXPORTER_OTLP_PROTOCOL.
	Protocol TracingProtocol `yaml:"protocol" default:"http/protobuf" enum:"http/protobuf,grpc"`
	// How many of the traces that begin here are recorded; those that began elsewhere are as their root decided. Default in the environment: OTEL_TRACES_SAMPLER with
	// OTEL_TRACES_SAMPLER_ARG.
	Sample Percent `yaml:"sample" default:"5%" min:"0%" max:"100%"`
	// Whether the spans of a request that failed are sent although its trace is not recorded.
	KeepErrors bool `yaml:"keep_errors" default:"true"`
	// The same for a request that took longer than 99 % of its service's.
	KeepSlow bool `yaml:"keep_slow" default:"true"`
	// Whether the B3 header is written beside traceparent. It is read in any case. Default in the environment: OTEL_PROPAGATORS has b3 or b3multi.
	B3 bool `yaml:"b3" default:"false"`
	// Whether a request of the app that says nothing of a trace is linked to the peer's request that it is probably made for: the one with the same X-Request-Id, or
	// one that runs meanwhile. The link says how sure that is (pillion.link.confidence).
	Link bool `yaml:"link" default:"false"`
	// Headers for the collector, as for a key. They are not shown by "pillion check". Those of OTEL_EXPORTER_OTLP_TRACES_HEADERS, else OTEL_EXPORTER_OTLP_HEADERS, go with them.
	Headers HeaderValues `yaml:"headers" note:"none"`
	// The certificates of the authorities that must have signed the collector's, PEM.
	Roots string `yaml:"roots" note:"OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE, else OTEL_EXPORTER_OTLP_CERTIFICATE, else those of the system"`
	// The time that one attempt to send may take. Default in the environment: OTEL_EXPORTER_OTLP_TRACES_TIMEOUT, else OTEL_EXPORTER_OTLP_TIMEOUT.
	Timeout time.Duration `yaml:"timeout" default:"10s" min:"10ms" max:"5m"`
	// The longest time that a span waits for others. Default in the environment: OTEL_BSP_SCHEDULE_DELAY.
	Delay time.Duration `yaml:"delay" default:"5s" min:"10ms" max:"5m"`
}

// AccessLog is a line for each request, stream and flow that has ended.
type AccessLog struct {
	// Which get a line: errors are answers of pillion's own, statuses from 500 on, failures of gRPC, and what was cut; sampled is errors and a share of the others.
	What AccessWhat `yaml:"what" default:"off" enum:"off,errors,sampled,all"`
	// How many of the others, with sampled.
	Share Percent `yaml:"share" default:"1%" min:"0%" max:"100%"`
	// stdout, or a file, which is opened anew at SIGHUP: rotating it is for others.
	To string `yaml:"to" default:"stdout"`
	// text is key=value, json an object for each line. The fields are the same, and listed in the README.
	Format Format `yaml:"format" default:"json" enum:"text,json"`
	// Whether paths keep their query. Values of names that look like secrets are replaced by ***.
	Query bool `yaml:"query" default:"false"`
}

// TracingProtocol is how spans are sent.
type TracingProtocol string

// AccessWhat says which requests get a line.
type AccessWhat string

// The values of the words.
const (
	TracingHTTP TracingProtocol = "http/protobuf"
	TracingGRPC TracingProtocol = "grpc"

	AccessOff     AccessWhat = "off"
	AccessErrors  AccessWhat = "errors"
	AccessSampled AccessWhat = "sampled"
	AccessAll     AccessWhat = "all"
)
