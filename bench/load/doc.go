// Package load puts load on one target and measures how it answers.
//
// # Usage
//
//	res, err := load.Run(ctx, load.Config{Protocol: load.HTTP1, Addr: "127.0.0.1:8080", Conns: 32, Rate: 2000, Duration: 5 * time.Second})
//	p99, ok := res.Latency.Quantile(0.99)
//
// With a Rate the load is an open loop: requests fall due by a schedule with equal gaps that never waits for answers, and a
// latency counts from the moment at which its request was due, wherever it had to wait. So a target that stalls shows every request that
// the stall has delayed (no "coordinated omission"). Without a Rate it is a closed loop: each of Conns × Streams places
// sends, waits for the whole answer, and sends again; latencies count from the sending.
//
// # What is counted
//
// A run is a warm-up, whose requests are not counted, then the window of Config.Duration, then at most Config.Grace in which answers
// to the window's requests may still come. A request belongs to the window if it was due (closed loop: sent) within it. What has no answer when the
// grace ends is counted as Unfinished, and its age so far is a latency too: leaving it out would flatter the target.
// An answer that is not whole, or not a success, is an error, and no latency.
//
// Meters of the target are read at Config.OnBegin and, after the grace, OnEnd: Result.Answered and Result.Bytes are what they belong to. Throughput is that of the window.
//
// Percentiles are refused where there are too few samples beyond them; see Latency.Quantile.
//
// # How it is made
//
// One worker for each of Config.Threads owns its share of the connections and of the schedule; nothing is shared on the way. A wire
// (wire_*.go) makes requests and finds the ends of answers. A network (net_*.go) moves bytes: epoll on Linux, goroutines elsewhere.
//
// # Limitations
//
// No TLS: what is measured is what apps say to the sidecar beside them. HTTP/1.1 is not pipelined. The generator competes for processors with
// the target if they share a machine; Result.Bottleneck says when its own slowness coloured the figures.
package load
