// Package xds is the discovery source that asks an Envoy control plane for the endpoints of a cluster, by ADS over gRPC.
//
// A Client holds one stream to the control plane, for all clusters that are watched: it subscribes to each cluster by name (CDS) and, where the
// cluster says so, to its endpoints (EDS); clusters of the type STATIC bring their own. The stream is incremental (delta), or, if that is what is
// configured or the server knows nothing else, one of the state of the world. Resources that are good are taken and acknowledged; a response with a
// resource that is not is refused (NACK) with the reason, and that resource stays as it was.
//
// What goes away:
//
//   - an assignment without endpoints empties the set at once, unless the stream has broken within Config.Grace;
//   - so does the end of a cluster that was there before on the same stream;
//   - what is missing after a reconnect may not have been loaded there yet, and an assignment without which its cluster goes on is half of a change:
//     both are believed after Config.Grace;
//   - a stream that breaks changes nothing.
//
// A cluster that names another assignment keeps its endpoints until that has come (warming). The protocol is
// https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol, the messages those of envoy/service/discovery/v3 and
// envoy/config/{cluster,endpoint,core}/v3, of which only what is used here is read, by protowire: the generated types would be megabytes in
// every sidecar. Not done: TTLs of resources, xdstp:// names, and clusters by DNS.
package xds
