// Package etcd is the discovery source that follows a service in etcd (3.4 or later), and what enters this sidecar there.
//
// The layout is a key for each endpoint, below a prefix that the configuration may change:
//
//	/pillion/services/<service>/<id>   {"address": "10.0.0.7:15008", "identity": "spiffe://example.org/orders", "weight": 2, "zone": "a", "mesh": true, "transport": "quic"}
//
// Only address must be there; its port is the service's default if it has none. A value may also be the address alone. Members that are not known are
// left for others. A value that is wrong changes nothing: the endpoint stays as it was under this key.
//
// Each service is read once, at a revision, and watched from there; all of them share one stream. After a lost connection the
// watch goes on where it was, at another member of the cluster if need be; after a compaction the service is read again, and so it is after
// anything that makes no sense, such as the end of a key that nobody knew, or an answer that cannot be read. A member that has lost
// its leader ends the stream, so that a part of the cluster that is cut off is left. A revision that goes backwards means that the cluster has
// lost its state: for half a minute nothing becomes empty for it.
//
// The interface is that of https://etcd.io/docs/v3.4/learning/api/, in messages of few fields that are written here by hand.
package etcd
