package config

import "time"

// CacheStore is the memory of the HTTP cache.
type CacheStore struct {
	// How much it holds in all, with everything that belongs to an answer. What is wanted least goes first.
	Size int64 `yaml:"size" default:"64MiB" min:"1MiB" max:"1024GiB"`
	// The largest answer that is kept; 0B is a sixteenth of size. Larger ones pass through.
	MaxObject int64 `yaml:"max_object" default:"0B" min:"0B" max:"1024GiB"`
	// A folder, for this sidecar alone, in which answers are kept as well: for more of them than memory holds, and over restarts. Damaged files are found out, and are as if they were not there.
	Disk string `yaml:"disk" note:"memory only"`
	// How much the folder holds.
	DiskSize int64 `yaml:"disk_size" default:"1GiB" min:"1MiB" max:"1024GiB"`
}

// Caching says what of a service's answers is kept, as a shared cache by RFC 9111: nothing that the service does not allow.
type Caching struct {
	// auto leaves a service alone until it has sent an answer that says how long it is fresh, or by what it can be validated, and may be stored; from then on it is like on. on looks at
	// every request, and makes those for the same thing wait for one answer. off keeps nothing.
	Mode CacheMode `yaml:"mode" default:"auto" enum:"auto,on,off"`
	// The part of the time since Last-Modified for which an answer is fresh that does not say how long it is; a day at most. 0% guesses nothing.
	Heuristic Percent `yaml:"heuristic" default:"0%" min:"0%" max:"100%"`
	// How long after its freshness an answer may stand in where the service cannot be reached or answers 500, 502, 503 or 504. An answer that says so itself
	// (stale-if-error, must-revalidate) is believed instead.
	StaleIfError time.Duration `yaml:"stale_if_error" default:"0s" min:"0s" max:"720h"`
	// Unary gRPC methods whose answers are kept, and for how long, as in {/shop.Prices/Get: 30s}: for who asks the same, with the same metadata but for what is about time and trace. Only answers with status 0 are. It is so whatever the mode.
	GRPC MethodTTLs `yaml:"grpc" note:"none"`
	// DNS answers among the datagrams that come to this service's own UDP port (protocol: udp) are kept for as long as they say, and given to who asks the same. For the service as a whole only.
	DNS bool `yaml:"dns" default:"false"`
}

// AppCaching is Caching, for the answers of this sidecar's own app.
type AppCaching struct {
	// As that of a service's cache; here nothing is kept unless it is asked for.
	Mode CacheMode `yaml:"mode" default:"off" enum:"auto,on,off"`
	// The part of the time since Last-Modified for which an answer is fresh that does not say how long it is; a day at most. 0% guesses nothing.
	Heuristic Percent `yaml:"heuristic" default:"0%" min:"0%" max:"100%"`
	// How long after its freshness an answer may stand in where the app cannot be reached or answers 500, 502, 503 or 504.
	StaleIfError time.Duration `yaml:"stale_if_error" default:"0s" min:"0s" max:"720h"`
	// Unary gRPC methods whose answers are kept, and for how long, as in {/shop.Prices/Get: 30s}: for who asks the same, with the same metadata but for what is about time and trace. Only answers with status 0 are. It is so whatever the mode.
	GRPC MethodTTLs `yaml:"grpc" note:"none"`
}

// MethodTTLs are gRPC methods and how long their answers are kept, in the order of the file.
type MethodTTLs []MethodTTL

// MethodTTL is one of MethodTTLs.
type MethodTTL struct {
	Method string // as a path: "/shop.Prices/Get"
	TTL    time.Duration
}

// CacheMode is when answers are kept.
type CacheMode string

// The modes of a cache.
const (
	CacheAuto CacheMode = "auto"
	CacheOn   CacheMode = "on"
	CacheOff  CacheMode = "off"
)
