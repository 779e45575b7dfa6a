// Package e2e drives whole sidecars, as processes, with software that nobody here wrote, and breaks what lies between them.
// It holds only tests, behind the build tag e2e:
//
//	go test -tags e2e ./cmd/pillion/e2e                      # everything
//	go test -tags e2e ./cmd/pillion/e2e -run Curl            # one kind
//	go test -tags e2e ./cmd/pillion/e2e -race-built          # sidecars that look for data races
//	go test -tags e2e ./cmd/pillion/e2e -run Curl -direct    # without sidecars: does the test itself tell the truth?
//
// Most tests make a pair: the client's sidecar A, the app's sidecar B, a throw-away CA, and between A and B's peer port a link that
// the test can cut, freeze and restore. A test fails if what it drives is not installed. Debian's names are curl,
// redis-server, redis-tools, postgresql and haproxy; grpc-go's interop programs and h2spec are built from the module
// proxy. It runs on Linux and reads memory, descriptors and processor time of the sidecars from /proc.
package e2e
