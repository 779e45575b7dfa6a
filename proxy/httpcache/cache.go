package httpcache

import (
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/httpcache/disk"
	"github.com/pillion-proxy/pillion/proxy/httpcache/rules"
	"github.com/pillion-proxy/pillion/proxy/httpcache/store"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Config says how much a Cache holds.
type Config struct {
	// Size bounds what is held in memory, in bytes, with all that belongs to it. If zero, 64 MiB.
	Size int64
	// MaxObject bounds one answer, in bytes; larger ones pass through. If zero, a sixteenth of Size.
	MaxObject int64
	// Disk, if not nil, keeps what is stored as well, so that it is found again after memory has let it go, or a restart.
	Disk *disk.Disk
	// Ask, if not nil, sends a question for news (proxy.Request.News) to one Endpoint. Without it what other sidecars tell of changes is not heard.
	Ask func(ep *proxy.Endpoint, req *proxy.Request, resp *proxy.Response) error
}

const (
	defaultSize = 64 << 20
	// passFor is for how long requests for something that could not be shared are not made to wait for each other.
	passFor = 60 * time.Second
	// passErrors is the same for errors.
	passErrors = time.Second
	flightSets = 32 // a power of two
)

// Cache holds answers for all shards. It is safe for concurrent use.
type Cache struct {
	cfg     Config // as New was given it
	store   *store.Store[*resource]
	seed    maphash.Seed
	wall    rules.Time // of the Instant 0
	readers sync.Pool  // of *reader
	calls   sync.Pool  // of *call
	flights [flightSets]flightSet
	indexes atomic.Bool  // some site has places
	purged  atomic.Int64 // rules.Time of the last purge by tag or of all: what was asked for before is not stored

	maxObject atomic.Int64 // bytes

	mu       sync.Mutex
	services map[string]*site
}

// New returns an empty Cache.
func New(cfg Config) *Cache {
	c := &Cache{cfg: cfg, seed: maphash.MakeSeed(), wall: rules.Time(time.Now().UnixNano() - int64(task.Now())), services: make(map[string]*site)}
	c.store = store.New[*resource](store.Config{}, c.evicted)
	c.Resize(cfg.Size, cfg.MaxObject)
	c.readers.New = func() any { return &reader{pool: &c.readers} }
	c.calls.New = func() any { return new(call) }
	return c
}

// Resize changes Config.Size and Config.MaxObject. What is too much then is displaced.
func (c *Cache) Resize(size, maxObject int64) {
	if size == 0 {
		size = defaultSize
	}
	if maxObject == 0 {
		maxObject = size / 16
	}
	c.maxObject.Store(maxObject)
	c.store.Resize(size)
}

// now is the time of a shard's turn.
func (c *Cache) now(s task.Shard) rules.Time { return c.wall + rules.Time(s.Now()) }

// clock is the time itself: never behind that of any shard, as now may be. It orders requests and invalidations.
func (c *Cache) clock(s task.Shard) rules.Time { return max(c.now(s), c.wallNow()) }

// later sets a time, unless a later one is there.
func later(t *atomic.Int64, to rules.Time) {
	for {
		old := t.Load()
		if old >= int64(to) || t.CompareAndSwap(old, int64(to)) {
			return
		}
	}
}

// wallNow is the time, for whoever is on no shard.
func (c *Cache) wallNow() rules.Time { return c.wall + rules.Time(task.Now()) }

// site is what is known of one service. It lives as long as the Cache.
type site struct {
	name     string
	searches atomic.Int32 // paths with a No-Vary-Search
	active   atomic.Bool  // something that can be stored has come from it
	changed  atomic.Int64 // rules.Time of the last unsafe request that passed while it was not active

	counters counters

	places atomic.Pointer[places] // nil unless changes are told by or to peers
	board  atomic.Pointer[board]  // of an app: where they are told; else nil

	mu        sync.Mutex // never held over a wait
	listeners map[source]*listener
	deaf      bool // nobody is asked any more
}

// counters of one service. All count up.
type counters struct {
	hits, stale, validated, misses, collapsed, passed, stored, invalidated, errors atomic.Uint64
	told, heard                                                                    atomic.Uint64 // notices
	bytes                                                                          atomic.Uint64
	reasons                                                                        [len(reasons)]atomic.Uint64
}

// reasons are those that are counted.
var reasons = [...]rules.Reason{rules.Method, rules.Status, rules.NoStore, rules.RequestNoStore, rules.Private, rules.Authorization, rules.SetCookie, rules.VaryAll,
	rules.NoFreshness, rules.Partial, rules.TooLarge, rules.Incomplete, rules.RequestOverrides, rules.GRPC}

func (n *counters) refused(why rules.Reason) {
	for i := range reasons {
		if reasons[i] == why {
			n.reasons[i].Add(1)
			return
		}
	}
}

func (c *Cache) site(name string) *site {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.services[name]
	if s == nil {
		s = &site{name: name}
		c.services[name] = s
	}
	return s
}

// Stats is what a Cache has done, by service.
type Stats struct {
	Bytes     int64
	Max       int64
	Entries   int64
	Evictions uint64
	Services  []ServiceStats
	Disk      *disk.Stats
}

// ServiceStats counts the requests for one service, by what became of them, and the answers that were not stored, by reason.
type ServiceStats struct {
	Name        string
	Hits        uint64 // answered without asking
	Stale       uint64 // of Hits, those that were stale, and allowed to be
	Validated   uint64 // answered from the cache after the origin was asked, and said 304
	Collapsed   uint64 // answered by what another request had asked for
	Misses      uint64 // passed on, with an answer that could be looked for
	Passed      uint64 // passed on, without being looked for
	Stored      uint64 // answers stored
	Invalidated uint64 // keys, by unsafe requests
	Errors      uint64 // requests to the origin that failed
	BytesServed uint64
	Told        uint64 // changes that peers can learn of
	Heard       uint64 // changes that other sidecars have told
	Peers       int    // that wait for news of changes
	Hearing     int    // endpoints that are asked for news of changes
	NotStored   map[string]uint64
}

// Stats returns what there is.
func (c *Cache) Stats() Stats {
	st := c.store.Stats()
	all := Stats{Bytes: st.Bytes, Max: st.Max, Entries: st.Entries, Evictions: st.Evictions, Services: []ServiceStats{}}
	for _, s := range c.sites() {
		n := &s.counters
		one := ServiceStats{Name: s.name, Hits: n.hits.Load(), Stale: n.stale.Load(), Validated: n.validated.Load(), Misses: n.misses.Load(), Collapsed: n.collapsed.Load(),
			Passed: n.passed.Load(), Stored: n.stored.Load(), Invalidated: n.invalidated.Load(), Errors: n.errors.Load(), BytesServed: n.bytes.Load(),
			Told: n.told.Load(), Heard: n.heard.Load(), Hearing: s.hearing(), NotStored: make(map[string]uint64)}
		if b := s.board.Load(); b != nil {
			one.Peers = b.peers()
		}
		for i := range reasons {
			if v := n.reasons[i].Load(); v > 0 {
				one.NotStored[string(reasons[i])] = v
			}
		}
		all.Services = append(all.Services, one)
	}
	if c.cfg.Disk != nil {
		st := c.cfg.Disk.Stats()
		all.Disk = &st
	}
	return all
}

// sites returns the services, sorted by name.
func (c *Cache) sites() []*site {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.SortedFunc(maps.Values(c.services), func(a, b *site) int { return strings.Compare(a.name, b.name) })
}
