// Package datagram makes a Flow of a Stream, and says how a Flow is asked for.
//
// A Flow is opened as an Exchange, so that it meets the same layers: a request with Upgrade proxy.ConnectUDP (RFC 9298) whose Path names the target, as
// NewRequest makes it. The answer, 101, carries a Stream of capsules (RFC 9297), or a Flow where the link has datagrams of its own; Of
// makes one of either:
//
//	req := datagram.NewRequest(shard, service, client)
//	err := handler.RoundTrip(req, &resp)      // then, if resp.Status is 101:
//	flow := datagram.Of(shard, &resp, stats)  // nil if there is none
//	... flow.Send, flow.Receive ...
//	flow.Close()
//	resp.Close()                              // once Receive has returned an error
//
// The one who answers sets Response.Flow; the codecs hand it, with the caller's Stream, to their Config.Datagrams, which makes a Flow of the Stream with New and
// relays the two.
//
// Of the capsules DATAGRAM is understood, with the context 0, which is the payload of a UDP packet (RFC 9298 section 5). Other types and contexts are
// skipped, as both RFCs demand.
package datagram
