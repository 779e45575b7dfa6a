package health

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Service is what all shards know of the Endpoints of one Service. It outlives reloads.
type Service struct {
	cfg atomic.Pointer[Config]
	// version changes whenever an Endpoint goes out, or comes back before its time.
	version atomic.Uint64
	next    atomic.Int64 // when rates are compared next; 0 before the first request

	mu     sync.Mutex // never held over a wait or a call
	known  map[Key]*Endpoint
	old    map[Key]*Endpoint // of the set before: a shard may be late
	from   []proxy.Endpoint  // the set that was given last, and
	all    []*Endpoint       // what is known of each
	full   task.Instant      // nobody can be ejected before: too many are
	probes int
	stats  Stats
}

// Stats counts what has happened to the Endpoints of a Service.
type Stats struct {
	Lost         uint64 // connections that could not be made
	Ejected      uint64 // Endpoints that were ejected
	Spared       uint64 // that were not, because too many were out
	Checks       uint64 // active checks
	FailedChecks uint64
}

// New returns a Service without Endpoints.
func New(c Config) *Service {
	s := &Service{known: make(map[Key]*Endpoint)}
	s.Configure(c)
	return s
}

// Configure replaces the Config. What is known stays.
func (s *Service) Configure(c Config) {
	c = c.fill()
	s.cfg.Store(&c)
}

func (s *Service) config() *Config { return s.cfg.Load() }

func (s *Service) consecutive() int {
	if n := s.config().Consecutive; n > 0 {
		return n
	}
	return math.MaxInt
}

// Panic is the share of usable Endpoints below which opinions are ignored; 0 is none.
func (s *Service) Panic() float64 { return max(0, s.config().Panic) }

// Version changes whenever an Endpoint goes out, or comes back before its time.
func (s *Service) Version() uint64 { return s.version.Load() }

// Stats returns what was counted.
func (s *Service) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Update takes a new full set, and returns what is known of each Endpoint, in its order. Who is not in the set is forgotten. The result is not changed later.
func (s *Service) Update(set []proxy.Endpoint, now task.Instant) []*Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	if Same(set, s.from) {
		return s.all
	}
	var joined task.Instant // who is there from the start did not join
	if s.from != nil {
		joined = now
	}
	known := make(map[Key]*Endpoint, len(set))
	all := make([]*Endpoint, len(set))
	for i := range set {
		k := KeyOf(&set[i])
		e := s.known[k]
		if e == nil {
			e = s.old[k]
		}
		if e == nil {
			e = &Endpoint{service: s}
			e.since.Store(int64(joined))
		}
		known[k], all[i] = e, e
	}
	s.old = s.known
	s.known, s.from, s.all, s.full = known, set, all, 0
	s.version.Add(1)
	return all
}

// Of returns what is known of ep: of the set that Update was given, or one of its own that nobody else hears of.
func (s *Service) Of(ep *proxy.Endpoint) *Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := KeyOf(ep)
	if e := s.known[k]; e != nil {
		return e
	}
	if e := s.old[k]; e != nil {
		return e
	}
	return &Endpoint{service: s}
}

// Same reports whether a and b are the same set: not only equal.
func Same(a, b []proxy.Endpoint) bool {
	return len(a) == len(b) && (a == nil) == (b == nil) && (len(a) == 0 || &a[0] == &b[0])
}

// Known reports whether e is of the present set.
func (s *Service) Known(e *Endpoint) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.all, e)
}

// eject puts e out, if not too many are.
func (s *Service) eject(e *Endpoint, now task.Instant, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ejectLocked(e, now, why)
}

func (s *Service) ejectLocked(e *Endpoint, now task.Instant, why string) {
	c := s.config()
	if e.ejected > now || c.Share < 0 || len(s.all) < 2 {
		return
	}
	if s.full > now || s.room(now) <= 0 {
		s.stats.Spared++
		return
	}
	s.stats.Ejected++
	e.times++
	e.ejected = now.Add(min(c.Most, c.Base*time.Duration(e.times)))
	e.why = why
	e.sumUp()
}

// room is how many more may be ejected. If there is none it notes until when. mu is held.
func (s *Service) room(now task.Instant) int {
	n, first := 0, forever
	for _, e := range s.all {
		if e.ejected > now {
			n++
			first = min(first, e.ejected)
		}
	}
	room := max(1, int(s.config().Share*float64(len(s.all)))) - n
	if room <= 0 {
		s.full = first
	}
	return room
}

// compare ends an Interval: it ejects outliers.
func (s *Service) compare(now task.Instant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.config()
	var rates, latencies []float64
	var busy []*Endpoint
	for _, e := range s.all {
		n, f, sum := e.requests.Swap(0), e.failures.Swap(0), e.latency.Swap(0)
		if e.times > 0 && e.ejected <= now && n > 0 && f == 0 {
			e.times--
		}
		if int(n) < c.MinRequests || e.ejected > now {
			continue
		}
		busy = append(busy, e)
		rates = append(rates, 1-min(1, float64(f)/float64(n)))
		latencies = append(latencies, float64(sum)/float64(n))
	}
	if len(busy) < c.MinEndpoints {
		return
	}
	if c.Deviation > 0 {
		mean, least := bound(rates, c.Deviation)
		for i, e := range busy {
			if rates[i] < least && rates[i] < mean-minGap {
				s.ejectLocked(e, now, "a lower success rate than the others")
			}
		}
	}
	if c.Latency > 0 {
		sorted := slices.Clone(latencies)
		slices.Sort(sorted)
		most := c.Latency * sorted[len(sorted)/2]
		for i, e := range busy {
			if latencies[i] > most && latencies[i] > float64(leastLatency) {
				s.ejectLocked(e, now, "a higher latency than the others")
			}
		}
	}
}

// leastLatency is what nobody is ejected for.
const leastLatency = 5 * time.Millisecond

// bound returns the mean of rates, and what lies n standard deviations below.
func bound(rates []float64, n float64) (mean, least float64) {
	for _, r := range rates {
		mean += r / float64(len(rates))
	}
	var variance float64
	for _, r := range rates {
		variance += (r - mean) * (r - mean) / float64(len(rates))
	}
	return mean, mean - n*math.Sqrt(variance)
}
