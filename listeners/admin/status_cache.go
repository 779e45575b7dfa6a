package admin

import (
	"net/http"
	"strconv"
)

// Cache is the HTTP cache of both directions.
type Cache struct {
	Bytes     int64          `json:"bytes"`
	Max       int64          `json:"max_bytes"`
	Entries   int64          `json:"entries"` // keys
	Evictions uint64         `json:"evictions"`
	Services  []CacheService `json:"services"`
	// Disk is the folder of cache.disk; nil if there is none.
	Disk *CacheDisk `json:"disk,omitempty"`
	// DNS are the answers kept of services with cache: {dns: true}, in a memory of their own.
	DNS []CacheDNS `json:"dns,omitempty"`
}

// CacheDNS is what the DNS answers of one service have done, and how many are kept.
type CacheDNS struct {
	Service string `json:"service"`
	Hits    uint64 `json:"hits"`   // questions answered without asking
	Misses  uint64 `json:"misses"` // looked for in vain
	Entries int    `json:"entries"`
	Bytes   int    `json:"bytes"`
}

// CacheDisk is what the cache keeps in files.
type CacheDisk struct {
	Bytes   int64  `json:"bytes"`
	Max     int64  `json:"max_bytes"`
	Entries int    `json:"entries"`
	Reads   uint64 `json:"reads"`
	Writes  uint64 `json:"writes"`
	Dropped uint64 `json:"dropped"` // not written, because too many waited
	Damaged uint64 `json:"damaged"` // files that did not hold what was written
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
	Told        uint64            `json:"told"`         // changes that peers can learn of
	Heard       uint64            `json:"heard"`        // changes that other sidecars have told
	Peers       int               `json:"peers"`        // that wait for news of changes
	Hearing     int               `json:"hearing"`      // endpoints that are asked for news of changes
	NotStored   map[string]uint64 `json:"not_stored"`   // answers, by reason
}

// CacheEntry is one answer in the cache's memory.
type CacheEntry struct {
	Service  string            `json:"service"`
	URL      string            `json:"url"` // authority and path
	Status   int               `json:"status"`
	Bytes    int64             `json:"bytes"`
	Age      float64           `json:"age_seconds"`
	TTL      float64           `json:"ttl_seconds"` // negative: stale
	Hits     uint64            `json:"hits"`
	Owner    string            `json:"owner,omitempty"` // the only identity that gets it
	Vary     map[string]string `json:"vary,omitempty"`
	Tags     []string          `json:"tags,omitempty"`
	ETag     string            `json:"etag,omitempty"`
	Modified string            `json:"last_modified,omitempty"`
	Partial  bool              `json:"partial,omitempty"`
	NoCache  bool              `json:"validated_always,omitempty"`
}

// CacheList is what /cache answers.
type CacheList struct {
	Entries []CacheEntry `json:"entries"`
	More    bool         `json:"more"` // there are more than were asked for
}

// CachePurge says what is to be forgotten: one of URL (authority and path, of Service if that is not empty), Tag and All.
type CachePurge struct {
	Service, URL, Tag string
	All               bool
}

// CachePurged is what /cache/purge answers.
type CachePurged struct {
	Purged int `json:"purged"` // answers
}

const (
	listed     = 1000 // entries, if nothing is said
	mostListed = 100_000
)

// cache answers what the cache holds: of ?service, of ?url, ?limit of it.
func (s *Server) cache(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	most := listed
	if n, err := strconv.Atoi(q.Get("limit")); err == nil && n > 0 {
		most = min(n, mostListed)
	}
	list := s.cfg.Cache(q.Get("service"), q.Get("url"), most)
	list.Entries = orEmpty(list.Entries)
	s.json(w, http.StatusOK, list)
}

// purge has the cache forget ?url (of ?service), ?tag, or, with ?all=true, everything.
func (s *Server) purge(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	p := CachePurge{Service: q.Get("service"), URL: q.Get("url"), Tag: q.Get("tag"), All: q.Get("all") == "true"}
	n := 0
	for _, given := range []bool{p.URL != "", p.Tag != "", p.All} {
		if given {
			n++
		}
	}
	if n != 1 {
		http.Error(w, "say what to purge: one of url, tag and all=true", http.StatusBadRequest)
		return
	}
	s.json(w, http.StatusOK, CachePurged{Purged: s.cfg.CachePurge(p)})
}
