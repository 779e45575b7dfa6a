// Command scale shows how the cost of a pair of sidecars grows with what is asked of it: connections, configured services, endpoints of a service, Links, the sizes of
// heads and of bodies. One quantity at a time changes; see series.go.
//
//	go run ./bench/scale                          # everything: some five minutes
//	go run ./bench/scale -series connections,links -round 5s
//
// It prints a table for each quantity and writes everything to bench/scale/scale.json and plots to scale.svg beside it. It needs Linux for the kernel's
// accounts, and 25,000 file descriptors for the largest values; what could not be measured is named with the reason.
package main
