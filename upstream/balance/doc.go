// Package balance picks one Endpoint of a Service for each request. One Balancer belongs to one shard and one Service; it is used under the shard's lock.
// What it knows of loads and latencies is that shard's own experience; which Endpoints are usable all shards learn from each other, through package health.
// A pick allocates nothing and costs the same for 5 Endpoints as for 5,000.
//
// # Policies
//
//   - PeakEWMA, the default: the better of two random ones ("power of two choices": Mitzenmacher), by what a request there is expected
//     to cost: latency to the head of the answer times the requests in flight. The latency is an average with exponential decay that jumps
//     to a peak at once (Finagle's PeakEwma, https://twitter.github.io/finagle/guide/Clients.html; also linkerd2-proxy's), and the cost grows with the share of
//     failures (the failure penalty), so that an Endpoint that fails fast attracts nothing. Who has not answered yet gets one request at a time.
//   - LeastRequest: the same with requests in flight alone.
//   - RoundRobin: one after the other; with weights, by a sequence of low discrepancy (Weyl's, with the golden ratio).
//   - RingHash (Karger et al.; Ketama's 100 points for each) and Maglev (Eisenbud et al., NSDI 2016): requests with the same key go to the
//     same Endpoint, also those of other sidecars, while none has more than Bound times its part of the load (Mirrokni et al., "Consistent Hashing with
//     Bounded Loads"); then to the next in its order, as when the Endpoint is out. A request without a key goes by LeastRequest.
//
// All but PeakEWMA and LeastRequest, which draw and then compare, give each Endpoint a part in proportion to its weight; those two draw so.
//
// # Whom there is to choose from
//
// Those of the lowest Priority, while any of them can be reached and at least half of these are not ejected or sick; else those of the next. If no Priority
// has that many, all that can be reached of the first that has any; if there is none, any. Within a Priority those of this sidecar's own zone come first
// (but not for RingHash and Maglev), while 70 % of them are usable; of fewer, in proportion; and a single request goes elsewhere where the near one
// has Spill times as much in flight. Who joins, or comes back, begins with a tenth of its part, which grows for as long as SlowStart says.
//
// Streams are counted apart from Exchanges, because an open one says little about load: a new Stream goes where, of two, fewer are open.
package balance
