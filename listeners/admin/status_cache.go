package admin

// Cache is the HTTP cache of both directions.
type Cache struct {
	Bytes     int64          `json:"bytes"`
	Max       int64          `json:"max_bytes"`
	Entries   int64          `json:"entries"` // keys
	Evictions uint64         `json:"evictions"`
	Services  []CacheService `json:"services"`
}

// CacheService counts the requests for one service that the cache has looked at, by what became of them. The app's entry N is app:N.
type CacheService struct {
	Name        string            `json:"name"`
	Hits        uint64            `json:"hits"`         // answered without asking
	Stale       uint64            `json:"stale"`        // of these, with what was stale and might be used
	Validated   uint64            `json:"validated"`    // answered from the cache after the other side has said 304
	Collapsed   uint64            `json:"collapsed"`    // answered by what another request had asked for
	Misses      uint64            `json:"misses"`       // looked for in vain
	Passed      uint64            `json:"passed"`       // not looked for
	Stored      uint64            `json:"stored"`       // answers
	Invalidated uint64            `json:"invalidated"`  // keys
	Errors      uint64            `json:"errors"`       // of requests on the cache's own behalf
	BytesServed uint64            `json:"bytes_served"` // from the cache
	NotStored   map[string]uint64 `json:"not_stored"`   // answers, by reason
}
