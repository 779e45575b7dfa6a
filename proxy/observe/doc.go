// Package observe is the outermost layer of both stacks: it follows each Exchange, Stream and Flow from its first decision to its last byte, and
// tells Sinks (metrics, log, tap, spans, flight recorder) what there is to say. It measures once for all of them. Sinks run on the
// request's shard and must not wait; a sidecar without Sinks has no such layer.
package observe
