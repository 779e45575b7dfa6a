// Package limit keeps load where it can be borne. Concurrency bounds the requests that run at a time, at a fixed number or at one that follows the
// latency of what is behind (Gradient2, of Netflix' concurrency-limits): a few more wait, by priority (RFC 9218), and the rest is refused at once with
// 503 and Retry-After, the least important first. Rate bounds the requests per time of a caller, or of whatever a header names, with a token bucket for each
// (as GCRA), and refuses the rest with 429 and Retry-After. Nothing that was refused has run.
//
// Streams count until they are open; answers of type text/event-stream until they begin. All shards of a process share one count: what is behind is one app, or
// one service.
package limit
