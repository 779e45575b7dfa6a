// Package httpcache is a shared HTTP cache as a Layer: RFC 9111 with RFC 5861 (stale-while-revalidate, stale-if-error), RFC 8246 (immutable), RFC 9211
// (Cache-Status) and RFC 9213 (targeted fields), and No-Vary-Search. What may be done is decided in package rules; here it is done.
//
// A Cache is the state: made once, for all shards together, it outlives the layers over it. A Layer is the settings: it can be made anew at any time.
//
// # What is stored, and for whom
//
// The primary key of an answer is service, authority and path; under it are variants, chosen by Vary, by the fields in which proxies tell how they are
// called (rules.IsKeyed), and, on the inbound side, by the caller's identity, unless the answer is public. Entries are immutable: what changes is replaced.
//
// # How a miss runs
//
// A request that finds nothing starts a flight: a task of its own that asks the origin with a copy of the request and writes the answer's content into memory. All who
// ask for the same meanwhile wait for its head and then read what there is of its content, each at its own pace and on its own shard; whoever leaves, leaves. An answer that
// turns out not to be for all is handed over to the one whose request it answers, as it is, and the others ask for themselves, at once and, for a while, all who come
// after them. Requests that nobody else could share (with Authorization, with a Range, to a service that has never sent anything that can be stored) go straight
// through, and what comes back is stored on its way, if it may be.
//
// # Invalidation against what is under way
//
// An answer is stored only if its request left after the last invalidation of its key, so that what was read before a change is never kept after it. A flight
// that an invalidation finds under way is joined by nobody any more.
//
// Mutexes here are held by tasks of loops for lookups and lists, never over a wait or a call that waits.
package httpcache
