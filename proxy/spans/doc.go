// Package spans makes the spans of a distributed trace from what package observe tells: one for each Exchange, Stream and Flow, and one below it for each
// attempt at an Endpoint. They are encoded at once, as OTLP's protobuf has them (opentelemetry/proto/trace/v1/trace.proto), on the request's shard and without
// garbage, and wait in a bounded queue for whoever sends them.
//
// Names and attributes are those of OpenTelemetry's semantic conventions for HTTP, RPC and networks (https://opentelemetry.io/docs/specs/semconv/), and some of pillion's
// own, which begin with "pillion.". Queries, fields and contents are not in them.
package spans
