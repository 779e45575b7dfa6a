// Package discovery answers where a Service runs. A source of Endpoints implements Resolver, one method, in a folder
// of its own; a Watcher keeps one Resolver running for one Service and holds the last good answer, which upstream reads without
// waiting. Nothing here runs on a shard.
//
// Sets are always whole, never deltas, and immutable: who gets one may keep it and must not change it.
package discovery
