// Package file is the discovery source that reads Endpoints from a YAML or JSON file and follows its changes.
//
// The file is a list. An item is an address, or an object with an address and whatever differs from the defaults:
//
//   - 10.0.0.7
//   - 10.0.0.8:15008
//   - address: "[2001:db8::1]:15008"
//     identity: spiffe://example.org/orders
//     weight: 2
//     zone: a
//   - {address: "unix:/run/orders.sock", mesh: false}
//
// The file is looked at every second, by its content, so that writing in place, an atomic replacement and Kubernetes' mounted
// ConfigMaps all work. A new content is used once it is seen twice, a moment apart, so that half a file is not taken for a
// whole one. A file with any mistake, or none, or an empty one, changes nothing: the last good set stays, and every mistake is
// reported as file:line:column. No endpoints at all is written [].
package file
