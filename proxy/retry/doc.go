// Package retry is the layer that tries again. It is safe by default: what provably never ran (no connection, REFUSED_STREAM, GOAWAY,
// a sidecar that says so) is repeated whatever it is, idempotent methods (RFC 9110 section 9.2.2) also where a connection broke and
// on 502, 503 and 504. gRPC's UNAVAILABLE, as the whole answer, is among these only with Settings.Unavailable: gRPC has no methods that are known to be
// idempotent. The rest is repeated only with Settings.Unsafe; then each attempt carries one id, by which
// the peer's sidecar makes it run once (package once), and goes to the same Endpoint as the first.
//
// Each attempt goes to another Endpoint while there is one (proxy.Request.Tried), after a pause with jitter; Retry-After is
// honoured. A budget per service, Finagle's (RetryBudget: a share of the requests of the last ten seconds, and a few per second besides), keeps
// retries from becoming the load that they suffer from. Repeated attempts carry AttemptField; a request that comes with it from an app that
// passes fields on is only repeated if it never ran, so that retries of retries add and do not multiply. When all attempts fail, what the last one
// brought is passed on.
//
// A body is kept while it is sent, up to Settings.Body, until the head of an answer is there. One that outgrew it cannot be sent again: if it would
// have been, then the log, Stats.Outgrown and OutgrownField say so. A request without a body costs a count, and allocates nothing.
package retry
