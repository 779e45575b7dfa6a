// Package udp accepts the app's datagrams on a service's own UDP port. Each address that they come from has a Flow to the service, which is
// opened with its first datagram and ends when nothing has come, either way, for a while; answers go to that address only. What a Flow is opened with is
// proxy/datagram; where it goes is not decided here.
//
// One socket belongs to one shard, and so do all its Flows. Three things are bounded: the Flows, of which the one that has been idle for longest gives way
// to a new one; what waits while a Flow is being opened; and the time that an idle Flow lives. A Flow that has asked nothing but DNS questions,
// and has got all its answers, lives for two seconds only, as its client will use another port for the next.
package udp
