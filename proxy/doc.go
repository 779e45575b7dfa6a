// Package proxy holds the plain types that every room shares: the messages
// (Request, Response, Field, Body), the two long-lived shapes (Stream, Flow), who and where
// (Service, Endpoint, Identity), the one-method interface of the middle (RoundTripper), and the few
// errors on which callers branch. Nothing runs here.
//
// # One call for Exchanges and Streams
//
// Everything passes through RoundTripper. A request that asks for bytes both ways (CONNECT,
// or Upgrade) is an Exchange until the peer agrees; the answer then carries
// a Stream in Response.Stream (2xx to CONNECT, 101 to Upgrade), which the caller relays. So a Stream meets
// the same layers in the same order as an Exchange.
//
// # Whose memory
//
// Strings in a Request are valid until the Exchange is over: until whoever made
// the Request has seen RoundTrip return and closed the Response. Strings in a Response are
// valid until Response.Close. They may point into pooled buffers: who keeps
// one longer (a map key, a log record, a compression table) clones it.
//
// # Teardown
//
// Every way out of an Exchange ends its other half. Who called RoundTrip calls Response.Close exactly
// once after a nil error. Who made the Request calls Request.Cancel.Cancel if its own
// client leaves; who waits at the bottom has registered itself there and ends its half.
package proxy
