package config

import (
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// checkTracing fills what the environment says where the file says nothing, and finds what is wrong. What is wrong in the environment is a warning: it is
// often somebody else's.
func (d *decoder) checkTracing(c *Config) {
	t := &c.Tracing
	if env("SDK_DISABLED") != "true" || d.places["tracing.otlp"] != nil {
		d.tracingEnv(c)
	}
	d.pemFile("tracing.roots", &t.Roots)
	if t.OTLP == "" || d.bad["tracing.otlp"] {
		return
	}
	u, err := url.Parse(t.OTLP)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		if d.places["tracing.otlp"] == nil {
			d.warn(c, "tracing.otlp", "the environment's OTEL_EXPORTER_OTLP_ENDPOINT, %q, is no address as in http://127.0.0.1:4318; there is no tracing", clip(t.OTLP))
			t.OTLP = ""
			return
		}
		d.report(d.places["tracing.otlp"], "tracing.otlp", "%q is no address of a collector; write one, as in http://127.0.0.1:4318", clip(t.OTLP))
		return
	}
	if t.Protocol == TracingHTTP && strings.Trim(u.Path, "/") == "" {
		u.Path = "/v1/traces"
		t.OTLP = u.String()
	}
	if t.Roots != "" && u.Scheme == "http" && d.says("tracing.roots") {
		d.warn(c, "tracing.roots", "has no effect: otlp is http, without a certificate; write https")
	}
}

// env is a variable of OpenTelemetry's specification.
func env(name string) string { return strings.TrimSpace(os.Getenv("OTEL_" + name)) }

// envOTLP is one that there is for all signals, and for traces alone, which counts more.
func envOTLP(name string) string {
	if s := env("EXPORTER_OTLP_TRACES_" + name); s != "" {
		return s
	}
	return env("EXPORTER_OTLP_" + name)
}

// tracingEnv is https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ and
// https://opentelemetry.io/docs/specs/otel/protocol/exporter/.
func (d *decoder) tracingEnv(c *Config) {
	t := &c.Tracing
	written := func(key string) bool { return d.places["tracing."+key] != nil }
	if !written("otlp") && (env("TRACES_EXPORTER") == "" || strings.Contains(env("TRACES_EXPORTER"), "otlp")) {
		if t.OTLP = env("EXPORTER_OTLP_TRACES_ENDPOINT"); t.OTLP == "" && env("EXPORTER_OTLP_ENDPOINT") != "" {
			t.OTLP = strings.TrimRight(env("EXPORTER_OTLP_ENDPOINT"), "/")
			if envOTLP("PROTOCOL") != "grpc" || written("protocol") && t.Protocol == TracingHTTP {
				t.OTLP += "/v1/traces"
			}
		}
	}
	if t.OTLP == "" {
		return
	}
	if p := envOTLP("PROTOCOL"); p != "" && !written("protocol") {
		switch TracingProtocol(p) {
		case TracingHTTP, TracingGRPC:
			t.Protocol = TracingProtocol(p)
		default:
			d.warn(c, "tracing.protocol", "the environment's OTEL_EXPORTER_OTLP_PROTOCOL, %q, is not known here; http/protobuf is used", clip(p))
		}
	}
	if !written("sample") {
		d.sampleEnv(c)
	}
	if p := env("PROPAGATORS"); p != "" && !written("b3") {
		t.B3 = strings.Contains(p, "b3")
	}
	if !written("roots") {
		t.Roots = envOTLP("CERTIFICATE")
		if t.Roots != "" && !filepath.IsAbs(t.Roots) {
			if abs, err := filepath.Abs(t.Roots); err == nil {
				t.Roots = abs
			}
		}
	}
	for _, x := range []struct {
		key, name, text string
		to              *time.Duration
	}{{"timeout", "OTEL_EXPORTER_OTLP_TIMEOUT", envOTLP("TIMEOUT"), &t.Timeout}, {"delay", "OTEL_BSP_SCHEDULE_DELAY", env("BSP_SCHEDULE_DELAY"), &t.Delay}} {
		if written(x.key) || x.text == "" {
			continue
		}
		n, err := strconv.ParseUint(x.text, 10, 31)
		ms := time.Duration(n) * time.Millisecond
		if err != nil || ms < 10*time.Millisecond || ms > 5*time.Minute {
			d.warn(c, "tracing."+x.key, "the environment's %s, %q, is no number of milliseconds from 10 to 300000; %s is used", x.name, clip(x.text), formatDuration(*x.to))
			continue
		}
		*x.to = ms
	}
}

// sampleEnv reads the sampler. All of OpenTelemetry's samplers but the parentbased ones decide without regard for the caller; here the caller always counts.
func (d *decoder) sampleEnv(c *Config) {
	t := &c.Tracing
	sampler, arg := env("TRACES_SAMPLER"), env("TRACES_SAMPLER_ARG")
	switch strings.TrimPrefix(sampler, "parentbased_") {
	case "":
	case "always_on":
		t.Sample = 100
	case "always_off":
		t.Sample = 0
	case "traceidratio":
		share := 1.0
		if arg != "" {
			var err error
			if share, err = strconv.ParseFloat(arg, 64); err != nil || !(share >= 0 && share <= 1) {
				d.warn(c, "tracing.sample", "the environment's OTEL_TRACES_SAMPLER_ARG, %q, is no number from 0 to 1; %s is used", clip(arg), t.Sample)
				return
			}
		}
		t.Sample = Percent(share * 100)
	default:
		d.warn(c, "tracing.sample", "the environment's OTEL_TRACES_SAMPLER, %q, is not known here; %s is used", clip(sampler), t.Sample)
	}
}

// checkAccessLog makes a file's path absolute.
func (d *decoder) checkAccessLog(c *Config) {
	a := &c.AccessLog
	const key = "access_log.to"
	if d.bad[key] || a.To == "stdout" {
		return
	}
	if a.To == "" {
		d.report(d.places[key], key, "is empty; write stdout, or the path of a file")
		return
	}
	if !filepath.IsAbs(a.To) {
		a.To = filepath.Join(d.dir, a.To)
	}
	if a.What != AccessSampled && d.says("access_log.share") {
		d.warn(c, "access_log.share", "has no effect: what is %s, not sampled", a.What)
	}
}
