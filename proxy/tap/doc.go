// Package tap shows requests as they happen, as a Sink of package observe, to whoever watches: filtered, at a bounded rate. Who watches slowly misses
// some, and is told how many; a request never waits for a watcher, and costs nothing while there is none.
package tap
