// Package metrics counts requests as a Sink of package observe: how many, how they ended, how long they took and how large they were, by direction,
// service, route, peer and protocol. The number of series is bounded: what comes beyond is counted together, under "other".
//
// State is per shard and summed when read. Histograms are Prometheus' native ones (schema 3: each bucket is 2^(1/8) times the one before, so that a
// quantile is wrong by 4.5 % at most), kept as dense as they are used; classic buckets are counted beside them.
package metrics
