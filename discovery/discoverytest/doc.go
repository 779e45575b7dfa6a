// Package discoverytest is for tests of sources: a Follower, which keeps what a Watcher of one publishes, and a Proxy, which is put before a real
// server and fails in the ways in which servers and networks do.
package discoverytest
