// Package kubernetes is the discovery source that follows the EndpointSlices of a Kubernetes Service.
//
// A Cluster is the way to one API server; a Resolver of it follows one Service: it lists the Service's slices, page by page, and then
// watches them from that version on. A watch that ends is taken up where it ended; history that the server has forgotten (410) is
// listed anew. Slices are merged: each address counts once, a pod that has an address of each family is one Endpoint, and endpoints
// that are terminating but still serving are used while none is ready. Whatever cannot be read changes nothing.
//
// What a slice says beyond addresses and conditions:
//
//   - a port named "pillion" is that of the sidecars;
//   - the labels pillion-proxy/mesh, /transport and /weight, which slices have from their Service, are discovery.Labels. Whom to expect there is
//     not for them to say;
//   - zones, and, where Config.Zone is known, the hints of topology-aware routing: other zones are then the second choice.
//
// The protocol is that of
// https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
// over net/http. k8s.io/client-go would be some 20 MiB of program.
package kubernetes
