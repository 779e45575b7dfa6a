package otlp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/pillion-proxy/pillion/proxy/spans"
)

// Source has what is to be sent.
type Source interface {
	// Ready is told when there is enough to be worth sending before its time.
	Ready() <-chan struct{}
	// Take returns what waits, n spans as the field spans of ScopeSpans. spare is memory for those to come.
	Take(spare []byte) (encoded []byte, n int)
}

// Attribute is one of the resource.
type Attribute struct{ Key, Value string }

// Config says where spans are sent.
type Config struct {
	Source Source
	// URL is the whole address for HTTP, as in http://127.0.0.1:4318/v1/traces. For gRPC only its scheme, host and port count.
	URL string
	// GRPC sends over gRPC.
	GRPC bool
	// TLS is for https. If nil, the system's authorities are believed.
	TLS *tls.Config
	// Headers go with each batch; for gRPC they are metadata.
	Headers []Attribute
	// Resource says who made the spans, Version is that of pillion.
	Resource []Attribute
	Version  string
	// Timeout bounds one attempt. If zero, 10 s.
	Timeout time.Duration
	// Delay is the longest time that a span waits for others. If zero, 5 s.
	Delay time.Duration
	// Backoff is the mean pause before the second attempt, doubled with each further one, to half a minute. If zero, 1 s.
	Backoff time.Duration
	// Patience is how long a batch is tried, before it is dropped. If zero, a minute.
	Patience time.Duration
	Logger   *slog.Logger
}

// Exporter sends spans. Make it with New; Run sends.
type Exporter struct {
	cfg    Config
	to     sender
	before []byte // the Resource, encoded
	scope  []byte

	sent, lost, rejected, failures atomic.Uint64

	// Owned by Run.
	failing     bool
	spare, body []byte // memory for the spans to come, and for the next batch
}

// sender carries one batch. An error that is no *transient is final.
type sender interface {
	send(ctx context.Context, batch []byte) (answer []byte, err error)
	// idle reports whether the last batch is no longer looked at.
	idle() bool
	close()
}

// transient is an error after which it may be tried again, after a pause if the collector asks for one.
type transient struct {
	err   error
	pause time.Duration
}

func (t *transient) Error() string { return t.err.Error() }
func (t *transient) Unwrap() error { return t.err }

// New returns an Exporter.
func New(cfg Config) (*Exporter, error) {
	for _, d := range []struct {
		to    *time.Duration
		deflt time.Duration
	}{{&cfg.Timeout, 10 * time.Second}, {&cfg.Delay, 5 * time.Second}, {&cfg.Backoff, time.Second}, {&cfg.Patience, time.Minute}} {
		if *d.to == 0 {
			*d.to = d.deflt
		}
	}
	x := &Exporter{cfg: cfg}
	var err error
	if x.to, err = newSender(cfg); err != nil {
		return nil, err
	}
	var resource, scope []byte
	for _, a := range cfg.Resource {
		resource = spans.AppendString(resource, 1, a.Key, a.Value)
	}
	x.before = spans.AppendBytes(nil, 1, resource)
	scope = spans.AppendBytes(scope, 1, []byte("pillion"))
	scope = spans.AppendBytes(scope, 2, []byte(cfg.Version))
	x.scope = spans.AppendBytes(nil, 1, scope)
	return x, nil
}

// Stats are counts of spans since the start, but for Failures, which are attempts.
type Stats struct {
	Sent     uint64 // that the collector has taken
	Lost     uint64 // that no collector would take in time
	Rejected uint64 // that the collector took note of, and refused
	Failures uint64
}

// Stats returns the counts.
func (x *Exporter) Stats() Stats {
	return Stats{Sent: x.sent.Load(), Lost: x.lost.Load(), Rejected: x.rejected.Load(), Failures: x.failures.Load()}
}

// lastWords is how long an attempt may still take once Run is to end.
const lastWords = 3 * time.Second

// Run sends until ctx ends and what waits then has been sent, or has had its time.
func (x *Exporter) Run(ctx context.Context) error {
	defer x.to.close()
	tick := time.NewTicker(x.cfg.Delay)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			if x.flush(ctx) < maxIdle {
				x.spare, x.body = nil, nil
			}
		case <-x.cfg.Source.Ready():
			x.flush(ctx)
		}
	}
	x.flush(ctx)
	return nil
}

const (
	maxIdle  = 64 << 10 // bytes: batches that are smaller, and no hurry, want no memory to be kept for the next
	maxSpare = 1 << 20  // bytes that are kept otherwise, of each of two
)

// flush sends what waits, and returns how many bytes that were.
func (x *Exporter) flush(ctx context.Context) int {
	encoded, n := x.cfg.Source.Take(x.spare)
	if x.spare = nil; n == 0 {
		x.spare = encoded
		return 0
	}
	size := len(encoded)
	batch := x.batch(x.body[:0], encoded)
	x.body = nil
	if cap(encoded) <= maxSpare {
		x.spare = encoded
	}
	err := x.deliver(ctx, batch, n)
	x.tell(err, n)
	if err == nil && cap(batch) <= maxSpare && x.to.idle() {
		x.body = batch
	}
	return size
}

// batch appends an ExportTraceServiceRequest to b.
func (x *Exporter) batch(b, encoded []byte) []byte {
	const schema = "https://opentelemetry.io/schemas/1.37.0"
	scope := len(x.scope) + len(encoded) + protowire.SizeTag(3) + protowire.SizeBytes(len(schema))
	resource := len(x.before) + protowire.SizeTag(2) + protowire.SizeBytes(scope)
	b = slices.Grow(b, protowire.SizeTag(1)+protowire.SizeBytes(resource))
	b = protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.BytesType), uint64(resource))
	b = append(b, x.before...)
	b = protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.BytesType), uint64(scope))
	b = append(append(b, x.scope...), encoded...)
	return protowire.AppendString(protowire.AppendTag(b, 3, protowire.BytesType), schema)
}

const maxBackoff = 30 * time.Second

// deliver sends a batch, again where that may help. The end of ctx ends the pauses: there is one attempt more.
func (x *Exporter) deliver(ctx context.Context, batch []byte, n int) error {
	end := time.Now().Add(x.cfg.Patience)
	pause := x.cfg.Backoff
	for {
		answer, err := x.try(ctx, batch)
		if err == nil {
			return x.read(answer, n)
		}
		x.failures.Add(1)
		var t *transient
		if ctx.Err() != nil || !errors.As(err, &t) {
			return err
		}
		wait := max(t.pause, time.Duration((0.5+rand.Float64())*float64(pause)))
		if time.Now().Add(wait).After(end) {
			return err
		}
		x.complain(err)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		pause = min(2*pause, maxBackoff)
	}
}

// try is one attempt, which the end of ctx does not interrupt but bounds.
func (x *Exporter) try(ctx context.Context, batch []byte) ([]byte, error) {
	one, cancel := context.WithTimeout(context.WithoutCancel(ctx), x.cfg.Timeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(lastWords, cancel) })
	defer stop()
	return x.to.send(one, batch)
}

// read counts what an ExportTraceServiceResponse says.
func (x *Exporter) read(answer []byte, n int) error {
	rejected, text := partial(answer)
	rejected = min(rejected, uint64(n))
	x.sent.Add(uint64(n) - rejected)
	x.rejected.Add(rejected)
	if rejected > 0 || text != "" {
		return &refusal{fmt.Errorf("the collector refused %d of %d spans: %s", rejected, n, text)}
	}
	return nil
}

// refusal is what a collector says of a batch that it has taken.
type refusal struct{ error }

// partial reads partial_success.
func partial(b []byte) (rejected uint64, text string) {
	each(b, func(field protowire.Number, _ uint64, inner []byte) {
		if field != 1 {
			return
		}
		each(inner, func(field protowire.Number, n uint64, v []byte) {
			switch field {
			case 1:
				rejected = n
			case 2:
				text = string(v)
			}
		})
	})
	return rejected, text
}

// each calls f for every varint and every field of bytes in b, to the first that cannot be read.
func each(b []byte, f func(field protowire.Number, n uint64, v []byte)) {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return
		}
		b = b[n:]
		var value uint64
		var v []byte
		switch kind {
		case protowire.VarintType:
			value, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			v, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(field, kind, b)
		}
		if n < 0 {
			return
		}
		f(field, value, v)
		b = b[n:]
	}
}

// tell counts and logs how a batch of n went.
func (x *Exporter) tell(err error, n int) {
	var r *refusal
	switch {
	case err == nil && x.failing:
		x.failing = false
		x.cfg.Logger.Info("the collector takes spans again", "to", x.cfg.URL)
	case err == nil:
	case errors.As(err, &r):
		x.complain(err)
	default:
		x.lost.Add(uint64(n))
		x.complain(err)
	}
}

// complain logs err, unless the attempt before failed too.
func (x *Exporter) complain(err error) {
	if !x.failing {
		x.cfg.Logger.Warn("spans could not be sent; they wait, and are dropped when there are too many", "to", x.cfg.URL, "err", err)
	}
	x.failing = true
}
