// Package peers starts the contenders that bench/compare sets side by side: pairs of proxies, one beside the client
// and one beside the app, that all do the same work on loopback,
//
//	client → A → mutual TLS 1.3 → B → app
//
// Each peer is a file of Go, which says what it can carry and how it is started, and its configuration as a template,
// in which comments say what was chosen for speed and where the peer's own documentation recommends it. What
// all have in common: one worker on each side, which on two cores that also run the client and the app costs every peer the least
// CPU per request; the same certificates (ECDSA P-256, checked by both sides against one root); TLS_AES_128_GCM_SHA256, which is what Go
// picks; no access log; connections and links that stay open.
//
// The package measures what the kernel accounts to the processes of a pair, children included. It does not
// generate load. Starting pairs works wherever the peers do, measuring them on Linux only.
package peers
