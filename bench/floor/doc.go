// Command floor shows what the pair of sidecars costs beside a pair of HAProxy, in the same
// minutes on the same machine.
//
// Both pairs do the same work: 64 keep-alive HTTP/1.1 connections in a closed loop, answers of 1 KiB,
// client → A → HTTP/2 over mutual TLS 1.3 → B → app, all on loopback. The figure is the CPU that the
// two processes of a pair spend per request, user and system, from the kernel's accounting
// (the CPU-time clock of each process), because it survives a noisy machine. Client and app run in this
// process and are not counted. Rounds of the pairs are interleaved; the medians decide.
//
//	go run ./bench/floor            # 7 rounds of 5 s
//	go run ./bench/floor -smoke     # under a minute; exit status 1 unless pillion is below HAProxy
//	go run ./bench/floor -json out.json
//
// It needs Linux, and haproxy in the PATH (apt-get install haproxy). What HAProxy is told, and why, is in
// haproxy.cfg.
package main
