package config

import "time"

// Balance says to which endpoint of a service a request goes.
type Balance struct {
	// peak_ewma takes, of two random endpoints, the one where a request is expected to cost less, by latency, requests in flight and failures; least_request the
	// one with fewer in flight; round_robin one after the other. ring_hash and maglev send what has the same key to the same endpoint, as do other sidecars with the
	// same list of endpoints; maglev is the more even one and the faster one, and with ring_hash fewer keys move when endpoints come and go. They use all endpoints: aperture is not for them.
	Policy BalancePolicy `yaml:"policy" default:"peak_ewma" enum:"peak_ewma,least_request,round_robin,ring_hash,maglev"`
	// What ring_hash and maglev go by: header:NAME, cookie:NAME, or client for the client's address. A request that has none goes by load.
	Key KeyFrom `yaml:"key" note:"none"`
	// How much more than its part of the requests in flight an endpoint may get by ring_hash and maglev; what is beyond goes to the next one.
	Bound Percent `yaml:"bound" default:"125%" min:"101%" max:"10000%" none:"true"`
	// How fast peak_ewma forgets a latency.
	Decay time.Duration `yaml:"decay" default:"10s" min:"100ms" max:"10m"`
	// How many times its latency an endpoint counts whose requests all fail, so that one that fails fast attracts nothing.
	Penalty int `yaml:"penalty" default:"10" min:"1" max:"1000"`
	// How long an endpoint that joins or comes back gets less than its part: a tenth at first.
	SlowStart time.Duration `yaml:"slow_start" default:"10s" min:"100ms" max:"1h" none:"true"`
	// near prefers endpoints in this sidecar's zone, while 70 % of those there are usable; of fewer, in proportion. any takes no notice of zones. It is not for ring_hash and maglev.
	Zones ZonePolicy `yaml:"zones" default:"near" enum:"near,any"`
	// How many times as many requests an endpoint in this zone may have in flight as one elsewhere before that one is taken.
	Spill int `yaml:"spill" default:"10" min:"1" max:"1000" none:"true"`
	// How long a stream (CONNECT, TCP, WebSocket) may last, so that long-lived ones are balanced anew. Once it is as old, give or take a tenth, and no byte has passed for
	// a second, the service is told that the client has finished, ends the stream, and the client opens another. It is for clients that do: connection pools, WebSockets that connect again.
	StreamAge time.Duration `yaml:"stream_age" default:"none" min:"1s" max:"720h" none:"true"`
	// Endpoints for which a header of the request asks.
	Subset Subset `yaml:"subset"`
}

// Subset chooses endpoints by a header.
type Subset struct {
	// The header whose value names them.
	Header string `yaml:"header" note:"no subsets"`
	// The label that must have this value, as endpoints have it in a file: "- {address: 10.0.0.7, labels: {version: v2}}".
	Label string `yaml:"label" note:"none"`
	// Where a request goes whose value no endpoint has: to any of them, or to none (no_endpoints).
	Otherwise Otherwise `yaml:"otherwise" default:"any" enum:"any,none"`
}

// Health says when an endpoint is passed over. One to which no connection can be made always is, until one can.
type Health struct {
	// Whether endpoints are asked by themselves: tcp opens a stream to the app, http expects 2xx or 3xx, grpc asks grpc.health.v1. All go through the sidecar there, if there is one.
	Check CheckKind `yaml:"check" default:"none" enum:"none,tcp,http,grpc"`
	// What http asks for.
	Path string `yaml:"path" default:"/"`
	// The service that grpc asks about.
	Service string `yaml:"service" note:"the server as a whole"`
	// The port that is asked for.
	Port uint16 `yaml:"port" note:"the service's port"`
	// The time from one check of an endpoint to the next, give or take a tenth. All are checked within a second of the start.
	Interval time.Duration `yaml:"interval" default:"10s" min:"100ms" max:"1h"`
	// The time that a check may take.
	Timeout time.Duration `yaml:"timeout" default:"2s" min:"10ms" max:"1m"`
	// How many checks in a row must fail until nothing goes there; of the first ones one.
	Unhealthy int `yaml:"unhealthy" default:"3" min:"1" max:"100"`
	// How many checks in a row must succeed until it is used again.
	Healthy int `yaml:"healthy" default:"2" min:"1" max:"100"`
	// Where fewer than this share of the endpoints that can be reached are usable, failed checks and ejections count for nothing.
	Panic Percent `yaml:"panic" default:"50%" min:"1%" max:"100%" none:"true"`
	// When an endpoint that answers badly gets nothing for a while.
	Ejection Ejection `yaml:"ejection"`
}

// Ejection says when an endpoint that answers badly gets nothing for a while. A failure is an answer of 5xx (but 501 and 505), a gRPC status of UNKNOWN, DEADLINE_EXCEEDED, INTERNAL,
// UNAVAILABLE or DATA_LOSS, no answer in time, or one that breaks off.
type Ejection struct {
	// How many failures in a row eject. An answer that breaks off counts twice: no other attempt can hide it from the client.
	Consecutive int `yaml:"consecutive" default:"5" min:"1" max:"10000" none:"true"`
	// The time over which endpoints are compared.
	Interval time.Duration `yaml:"interval" default:"10s" min:"100ms" max:"1h"`
	// How long the first ejection lasts; the n-th one in a row n times as long.
	Base time.Duration `yaml:"base" default:"30s" min:"100ms" max:"1h"`
	// The longest ejection.
	Max time.Duration `yaml:"max" default:"5m" min:"100ms" max:"24h"`
	// How many of the endpoints may be ejected at a time, rounded down, though always one, and never the only one. (Envoy's 10% is one of ten, so that a second one that breaks off its answers
	// would go on.) panic says when ejections count for nothing. none never ejects.
	Share Percent `yaml:"share" default:"30%" min:"0.1%" max:"100%" none:"true"`
	// How many standard deviations below the mean a success rate ejects.
	Deviation Percent `yaml:"deviation" default:"190%" min:"10%" max:"1000%" none:"true"`
	// How many times the median latency ejects. The balancer avoids slow endpoints by itself, unless its policy is round_robin or a hash.
	Latency int `yaml:"latency" default:"none" min:"2" max:"1000" none:"true"`
	// How many endpoints must have had requests to be compared.
	Endpoints int `yaml:"endpoints" default:"5" min:"2" max:"10000"`
	// How many requests each of these must have had in the interval.
	Requests int `yaml:"requests" default:"100" min:"1" max:"1000000"`
}

// Words of a fixed set, and others that are checked.
type (
	// BalancePolicy is how an endpoint is chosen.
	BalancePolicy string
	// ZonePolicy is what zones mean.
	ZonePolicy string
	// Otherwise is where a request goes for which there is no subset.
	Otherwise string
	// CheckKind is how endpoints are checked.
	CheckKind string
	// KeyFrom is what makes requests belong together: header:NAME, cookie:NAME, client, or "" for nothing.
	KeyFrom string
)

// The values of the words.
const (
	PeakEWMA     BalancePolicy = "peak_ewma"
	LeastRequest BalancePolicy = "least_request"
	RoundRobin   BalancePolicy = "round_robin"
	RingHash     BalancePolicy = "ring_hash"
	Maglev       BalancePolicy = "maglev"

	NearZones ZonePolicy = "near"
	AnyZone   ZonePolicy = "any"

	OtherwiseAny  Otherwise = "any"
	OtherwiseNone Otherwise = "none"

	NoCheck   CheckKind = "none"
	CheckTCP  CheckKind = "tcp"
	CheckHTTP CheckKind = "http"
	CheckGRPC CheckKind = "grpc"
)

// Hashes reports whether the policy goes by a key.
func (p BalancePolicy) Hashes() bool { return p == RingHash || p == Maglev }
