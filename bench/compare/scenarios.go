package main

import (
	"fmt"
	"time"

	"github.com/pillion-proxy/pillion/bench/load"
	"github.com/pillion-proxy/pillion/bench/peers"
)

// scenario is one thing that all peers do.
type scenario struct {
	ID    string
	Title string
	kind  peers.Kind
	app   appKind
	// only are the peers that take part; if empty, all. Each costs the smoke test a second and a half.
	only []string
	// load is what is put on the pair; its address, window and meters are filled in. Nil for the scenario of memory, and for what depends on an earlier scenario.
	load func(*bench) (load.Config, error)
	// figures turns what one round saw into the values of metrics.
	figures func(peers.Reading) map[string]float64
	metrics []metric // the first is the one that is drawn
}

// metric is one figure of a scenario. Less is better, unless it has no goal.
type metric struct {
	Key  string `json:"key"`
	Name string `json:"name"`
	Unit string `json:"unit"`
	// Ratio and Limit are the goal, if there is one: at most Ratio times the best peer of the field, or at most Limit.
	Ratio float64 `json:"goal_ratio,omitempty"`
	Limit float64 `json:"goal_limit,omitempty"`
	// All compares with every peer of the field; otherwise with those that understand HTTP.
	All bool `json:"all_peers,omitempty"`
}

// appKind is one of the apps behind the proxies.
type appKind string

const (
	small  appKind = "small"  // 1 KiB over HTTP/1.1
	bulk   appKind = "bulk"   // as many bytes as asked for over HTTP/1.1
	h2c    appKind = "h2c"    // 1 KiB over HTTP/2
	echo   appKind = "echo"   // what it got
	socket appKind = "socket" // what it got, on a WebSocket
	source appKind = "source" // bytes without end
	file   appKind = "file"   // as small, on a Unix socket
	kept   appKind = "kept"   // as small, and may be kept for an hour

	datagrams appKind = "datagrams" // what it got, over UDP
)

// The values that the scenarios are made of.
const (
	answerSize    = 1 << 10  // bytes
	bulkSize      = 64 << 20 // bytes
	fixedRate     = 2000     // requests per second
	capacityShare = 0.7      // of HAProxy's capacity
)

// fixed is a load that needs nothing else.
func fixed(c load.Config) func(*bench) (load.Config, error) {
	return func(*bench) (load.Config, error) { return c, nil }
}

// scenarios returns all of them, in the order of the report.
func scenarios() []scenario {
	perRequest := metric{Key: "cpu_us", Name: "CPU per request", Unit: "µs"}
	p50, p99 := metric{Key: "p50_us", Name: "p50", Unit: "µs"}, metric{Key: "p99_us", Name: "p99", Unit: "µs"}
	added50, added99 := metric{Key: "added_p50_us", Name: "added p50", Unit: "µs"}, metric{Key: "added_p99_us", Name: "added p99", Unit: "µs"}
	user := metric{Key: "user_us", Name: "user space per side", Unit: "µs"}
	waits := metric{Key: "waits", Name: "sleeps per request", Unit: ""}
	perSecond := metric{Key: "per_s", Name: "requests/s", Unit: ""}
	perFlow := metric{Key: "per_s", Name: "flows/s", Unit: ""}
	lost := metric{Key: "lost", Name: "datagrams lost", Unit: ""}
	perByte := metric{Key: "cpu_s_gib", Name: "CPU per GiB", Unit: "s"}
	speed := metric{Key: "mib_s", Name: "MiB/s", Unit: ""}
	return []scenario{
		{
			ID: "S1", Title: "64 keep-alive connections, 1 KiB, closed loop", kind: peers.HTTP, app: small,
			load:    fixed(load.Config{Protocol: load.HTTP1, Conns: 64}),
			figures: requests, metrics: []metric{perRequest.ratio(0.65), user.limit(2.5), p50, p99, perSecond, waits},
		},
		{
			ID: "S1unix", Title: "S1 over Unix sockets: from the client to its sidecar, and from the other to the app", kind: peers.Unix, app: file,
			only:    []string{"direct", "pillion", "before", "haproxy-h2", "nginx", "nghttpx"},
			load:    fixed(load.Config{Protocol: load.HTTP1, Conns: 64}),
			figures: requests, metrics: []metric{perRequest, user, p50, p99, perSecond, waits},
		},
		{
			ID: "S1cache", Title: "S1, answered by the cache of the client's side", kind: peers.Cached, app: kept,
			only:    []string{"direct", "pillion", "before", "nginx", "varnish"},
			load:    fixed(load.Config{Protocol: load.HTTP1, Conns: 64}),
			figures: requests, metrics: []metric{perRequest.ratio(1), user, p50, p99, perSecond, waits},
		},
		{
			ID: "S1miss", Title: "S1, through a cache at the client's side that has no answer and may keep none", kind: peers.Cached, app: small,
			only:    []string{"direct", "pillion", "before"},
			load:    fixed(load.Config{Protocol: load.HTTP1, Conns: 64}),
			figures: requests, metrics: []metric{perRequest, user, p50, p99, perSecond, waits},
		},
		{
			ID: "S2", Title: fmt.Sprintf("%d requests/s, open loop, 32 connections", fixedRate), kind: peers.HTTP, app: small,
			load:    fixed(load.Config{Protocol: load.HTTP1, Conns: 32, Rate: fixedRate}),
			figures: requests, metrics: []metric{perRequest.ratio(0.7), added50.ratio(0.8), added99, waits},
		},
		{
			ID: "S3", Title: "one connection, one request after the other", kind: peers.HTTP, app: small,
			load:    fixed(load.Config{Protocol: load.HTTP1, Conns: 1}),
			figures: requests, metrics: []metric{perRequest.ratio(0.55), added50.ratio(0.65), added99, waits},
		},
		{
			ID: "S4", Title: "bulk download, 64 MiB answers on two connections", kind: peers.HTTP, app: bulk,
			load:    fixed(load.Config{Protocol: load.HTTPBulk, Conns: 2, Path: fmt.Sprintf("/%d", bulkSize), Grace: -1}),
			figures: bytes, metrics: []metric{perByte.ratio(0.95).all(), speed},
		},
		{
			ID: "S5", Title: "a new connection for each request, eight at a time", kind: peers.HTTP, app: small,
			load:    fixed(load.Config{Protocol: load.NewConn, Conns: 8}),
			figures: requests, metrics: []metric{perRequest.ratio(1), p50, p99, perSecond},
		},
		{
			ID: "S6", Title: "memory: a fresh pair, then idle client connections", kind: peers.HTTP, app: small,
			metrics: []metric{
				{Key: "idle_mib", Name: "RSS of the pair", Unit: "MiB", Limit: 30},
				{Key: "conn_kib", Name: "RSS per idle connection", Unit: "KiB", Limit: 1},
				{Key: "conn_anon_kib", Name: "heap and stacks per idle connection", Unit: "KiB"},
				{Key: "pss_mib", Name: "PSS of the pair", Unit: "MiB"},
			},
		},
		{
			ID: "S7", Title: "HTTP/2 without TLS in and out, 8 connections of 32 streams", kind: peers.H2C, app: h2c,
			load:    fixed(load.Config{Protocol: load.H2C, Conns: 8, Streams: 32}),
			figures: requests, metrics: []metric{perRequest.ratio(0.9), user, p50, p99, perSecond, waits},
		},
		{
			ID: "S8", Title: "TCP tunnel, bulk on one connection", kind: peers.TCP, app: source,
			load:    fixed(load.Config{Protocol: load.TCPBulk, Conns: 1, Grace: -1}),
			figures: bytes, metrics: []metric{perByte.ratio(0.95).all(), speed},
		},
		{
			ID: "S8rtt", Title: "TCP tunnel, 64 bytes there and back on one connection", kind: peers.TCP, app: echo,
			load:    fixed(load.Config{Protocol: load.TCPEcho, Conns: 1, Size: 64}),
			figures: requests, metrics: []metric{perRequest.ratio(1).all(), added50.ratio(1).all(), added99, waits},
		},
		{
			ID: "S8ws", Title: "WebSockets, 64 bytes there and back on each of 64", kind: peers.WebSocket, app: socket,
			load:    fixed(load.Config{Protocol: load.WebSocket, Conns: 64, Size: 64}),
			figures: requests, metrics: []metric{perRequest.ratio(1), p50, p99, perSecond, waits},
		},
		{
			ID: "U1", Title: "UDP echo, 64 bytes on 64 flows, closed loop", kind: peers.UDP, app: datagrams,
			load:    fixed(load.Config{Protocol: load.UDPEcho, Conns: 64}),
			figures: requests, metrics: []metric{perRequest, p50, p99, perSecond, lost.limit(0.5)},
		},
		{
			ID: "U2", Title: fmt.Sprintf("UDP echo, %d datagrams/s of 64 bytes, open loop, 32 flows", fixedRate), kind: peers.UDP, app: datagrams,
			load:    fixed(load.Config{Protocol: load.UDPEcho, Conns: 32, Rate: fixedRate}),
			figures: requests, metrics: []metric{added50, added99, perRequest, lost.limit(0.5)},
		},
		{
			ID: "U3", Title: "UDP, a new flow for each datagram, eight at a time", kind: peers.UDP, app: datagrams,
			load:    fixed(load.Config{Protocol: load.UDPFlows, Conns: 8}),
			figures: requests, metrics: []metric{perRequest, p50, p99, perFlow, lost.limit(0.5)},
		},
		{
			ID: "S9", Title: "70 % of HAProxy's capacity in S1, open loop, 64 connections", kind: peers.HTTP, app: small,
			load:    atCapacity,
			figures: requests, metrics: []metric{p99.ratio(1).all(), p50, perRequest},
		},
	}
}

func (m metric) ratio(r float64) metric { m.Ratio = r; return m }
func (m metric) limit(l float64) metric { m.Limit = l; return m }
func (m metric) all() metric            { m.All = true; return m }

// atCapacity is a rate that HAProxy can serve, with a third to spare.
func atCapacity(b *bench) (load.Config, error) {
	perSecond := b.report.median("S1", "haproxy-h2", "per_s")
	if perSecond == 0 {
		return load.Config{}, fmt.Errorf("it needs S1 with haproxy-h2 in the same run")
	}
	return load.Config{Protocol: load.HTTP1, Conns: 64, Rate: capacityShare * perSecond}, nil
}

// requests are the figures of what is counted in requests.
func requests(r peers.Reading) map[string]float64 {
	n := float64(max(r.Load.Answered, 1))
	f := map[string]float64{
		"cpu_us":  micros(r.Used.CPU) / n,
		"user_us": micros(r.Used.User) / n / 2,
		"per_s":   r.Load.Throughput(),
		"lost":    float64(r.Load.Unfinished),
	}
	if r.Used.Waits >= 0 { // less if threads have ended, which take theirs along
		f["waits"] = float64(r.Used.Waits) / n
	}
	for key, q := range map[string]float64{"p50_us": 0.5, "p99_us": 0.99} {
		if d, ok := r.Load.Latency.Quantile(q); ok {
			f[key] = micros(d)
		}
	}
	return f
}

// bytes are the figures of what is counted in bytes.
func bytes(r peers.Reading) map[string]float64 {
	gib := float64(max(r.Load.Bytes, 1)) / (1 << 30)
	return map[string]float64{
		"cpu_s_gib": r.Used.CPU.Seconds() / gib,
		"mib_s":     gib * 1024 / r.Load.Elapsed.Seconds(),
	}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
