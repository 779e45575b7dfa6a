// Package otlp sends spans to a collector in OpenTelemetry's protocol (https://opentelemetry.io/docs/specs/otlp/), over HTTP or gRPC, in protobuf. What is sent has been
// encoded by who made it: this package puts the resource around it, and sends it in batches, again where that may help. It runs on one ordinary goroutine; what it is given
// while a collector does not answer waits in its source, which is bounded.
package otlp
