// Command compare sets pillion beside other proxies: the scenarios of scenarios.go, each with every peer of bench/peers, in
// interleaved rounds on this machine.
//
//	go run ./bench/compare                        # everything: about half an hour
//	go run ./bench/compare -scenarios S1,S3 -peers direct,pillion,haproxy-h2 -rounds 7
//	go run ./bench/compare -smoke                 # under three minutes: everything works, and S1's ratio to HAProxy is below 1
//	go run ./bench/compare -hold pillion -scenarios S1   # load until Ctrl-C, for perf, strace and profiles
//	go run ./bench/compare -round 20s -profile cmd/pillion/pillion.pgo   # write anew what the program is built with
//
// It installs the peers that are missing with apt-get if it may, writes a table to standard output, everything it measured to bench/compare/compare.json, and plots to
// compare.svg beside it. A peer that could not be had, or that cannot carry a scenario, is named with the reason.
//
// The figures of a pair are those of the kernel's accounts of its two processes, children included, between the beginning and the end of
// the measured window, and what the load generator saw. Client and app run in this process and are not counted.
// It needs Linux for the accounts.
package main
