// Package demo is `pillion demo`: three small apps (web, orders, billing), a sidecar beside each, and a trickle of
// varied traffic through them whose every answer is checked.
//
// All of them are processes of their own, started from the pillion executable, so that what is shown is
// what a user would run: the sidecars are plain `pillion run -c FILE`. The apps use net/http
// and know nothing of pillion; they are any app. What they speak of gRPC is their own, and little: grpc-go would weigh 9 MB in every
// sidecar's executable. (The end-to-end tests use the real one.)
//
//	visitor ─▶ billing's sidecar ═▶ web's sidecar ─▶ web
//	web     ─▶ web's sidecar     ═▶ orders's sidecar ─▶ orders     HTTP_PROXY, Host-routed h2c, a local port
//	orders  ─▶ orders's sidecar  ═▶ billing's sidecar ─▶ billing   Host-routed HTTP/1, a local port
//
// Files: app*.go and ledger.go are the apps, grpc*.go is their gRPC, probe*.go drive and check one kind of traffic each,
// tally.go counts, topology.go writes the sidecars' files, demo.go joins them.
package demo
