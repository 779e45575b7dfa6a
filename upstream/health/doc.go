// Package health keeps what all shards know of the Endpoints of a Service: which are passed over, why, and until when. Package upstream tells it how
// each request ended; package balance asks it before each pick, which costs one load.
//
// An Endpoint is out for one of three reasons:
//
//   - lost: no connection could be made. All shards pass over it at once, first for 100 ms, then twice as long each time up to 10 s. Then one
//     request (or the probe of package upstream) may try; the others pass over it until that one knows.
//   - ejected: it answers badly, by outlier detection with the defaults of Envoy
//     (https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier): 5 failures in a row, or a share of successes that is
//     1.9 standard deviations below the mean of all over 10 s; or, where asked for, a latency that is several times the median. It is out
//     for 30 s times how often it was, at most 5 minutes; at most 10 % of a Service, and one, are out so at a time.
//   - sick: active checks fail. It is out until they succeed again.
//
// Ejected and sick are opinions: where more than half of the Endpoints that can be reached are out for them, all of these are used (panic threshold). Lost is a
// fact, and such an Endpoint is only asked when there is no other.
//
// Success rates are compared only where they differ by 5 % or more: with thousands of requests, one failure more is some standard deviations.
package health
