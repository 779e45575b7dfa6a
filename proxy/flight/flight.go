package flight

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/answer"
	"github.com/pillion-proxy/pillion/proxy/metrics"
	"github.com/pillion-proxy/pillion/proxy/observe"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// AskField in a request asks for its story to be kept, by each sidecar on its way.
const AskField = "Pillion-Why"

const (
	// DefaultKeep is how many stories of each Reason are kept.
	DefaultKeep = 200

	slowest   = 0.99                   // the quantile beyond which a request is slow
	enough    = 500                    // requests of a service, before that means anything
	unnoticed = time.Millisecond       // nobody calls that slow
	relearn   = 256                    // requests, after which the quantile is computed again: a multiple of those that wait in a pace
	forget    = 1 << 16                // requests, after which learning begins anew
	slowEvery = 100 * time.Millisecond // a slow story is kept no more often than this, by each shard
)

// Recorder keeps Stories. Make it with New. Its methods are safe for concurrent use.
type Recorder struct {
	keep   int
	now    func() time.Time
	shards []learnt // by Shard.Index

	mu    sync.Mutex
	kept  map[Reason][]*Story // rings, oldest at next
	next  map[Reason]int
	total map[Reason]uint64
}

// learnt is what a shard knows of how long requests take. Guarded by the shard's lock.
type learnt struct {
	services map[string]*pace // by name; those of Inbound are under "<"
	last     [2]known         // by Direction: most requests are for the service of the one before
	lastSlow task.Instant
}

// known is a pace that was found.
type known struct {
	name string
	of   *pace // nil: none
}

// pace is how long the requests of a service take.
type pace struct {
	limit   time.Duration // 0: not known
	waiting int
	took    [32]time.Duration // that are not in seen yet
	seen    metrics.Histogram
}

// add notes a request.
func (p *pace) add(took time.Duration) {
	p.took[p.waiting] = took
	if p.waiting++; p.waiting < len(p.took) {
		return
	}
	p.waiting = 0
	for _, d := range p.took {
		p.seen.Tally(d)
	}
	if p.seen.Count >= enough && p.seen.Count%relearn == 0 {
		p.limit = max(p.seen.Quantile(slowest), unnoticed)
		if p.seen.Count >= forget {
			p.seen = metrics.Histogram{}
		}
	}
}

var _ observe.Sink = (*Recorder)(nil)

// New returns a Recorder for requests on the shards that keeps the last stories, keep (if zero, DefaultKeep) of each Reason.
func New(shards []task.Shard, keep int) *Recorder {
	if keep == 0 {
		keep = DefaultKeep
	}
	most := 0
	for _, s := range shards {
		most = max(most, s.Index()+1)
	}
	return &Recorder{keep: keep, now: time.Now, shards: make([]learnt, most), kept: make(map[Reason][]*Story), next: make(map[Reason]int), total: make(map[Reason]uint64)}
}

// Begin implements observe.Sink.
func (r *Recorder) Begin(e *observe.Entry) {
	e.Asked = !e.Request.Lacks(proxy.NameOwn) && e.Request.Fields.Has(AskField)
}

// Head implements observe.Sink: an answer whose story will be kept says by which id it is found. Where a sidecar further on has said so already, its id
// is ours too, so that one id finds the stories of all.
func (r *Recorder) Head(e *observe.Entry) {
	if !e.Failed() && !e.Asked {
		return
	}
	if id := e.Response.Fields.Get(answer.IDField); id == "" {
		e.Response.Fields.Add(answer.IDField, answer.RequestID(e.Request))
	} else if e.Request.ID == "" && len(id) <= 128 {
		e.Request.ID = strings.Clone(id)
	}
}

// Done implements observe.Sink.
func (r *Recorder) Done(e *observe.Entry) {
	why := Reason("")
	switch {
	case e.Asked:
		why = Asked
	case e.Failed():
		why = Failed
	}
	if e.Shape == observe.Exchange && r.learn(e) && why == "" {
		why = Slow
	}
	if why != "" {
		answer.RequestID(e.Request)
		r.add(tell(e, why, r.now().Add(-e.Stop.Sub(e.Start))))
	}
}

// learn notes how long the head of the answer took, and reports whether that was slow and its story is wanted.
func (r *Recorder) learn(e *observe.Entry) bool {
	if e.Head == 0 {
		return false
	}
	took := e.Head.Sub(e.Start)
	s := e.Request.Shard
	s.Lock()
	defer s.Unlock()
	l := &r.shards[s.Index()]
	p := l.pace(e)
	if p == nil {
		return false
	}
	p.add(took)
	e.Slow = p.limit != 0 && took > p.limit
	if !e.Slow || l.lastSlow != 0 && e.Stop.Sub(l.lastSlow) < slowEvery {
		return false
	}
	l.lastSlow = e.Stop
	return true
}

// maxServices bounds whose pace is known; services come from the configuration.
const maxServices = 1000

func (l *learnt) pace(e *observe.Entry) *pace {
	name := e.Request.Service.Name
	if e.Direction == observe.Inbound {
		name = "<"
	}
	last := &l.last[e.Direction]
	if last.of != nil && last.name == name {
		return last.of
	}
	p := l.services[name]
	if p == nil && len(l.services) < maxServices {
		if l.services == nil {
			l.services = make(map[string]*pace)
		}
		p = new(pace)
		l.services[name] = p
	}
	*last = known{name, p}
	return p
}

func (r *Recorder) add(s *Story) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total[s.Why]++
	ring := r.kept[s.Why]
	if len(ring) < r.keep {
		r.kept[s.Why] = append(ring, s)
		return
	}
	i := r.next[s.Why]
	ring[i] = s
	r.next[s.Why] = (i + 1) % r.keep
}

// Find returns the stories with this id, the oldest first: a request that passed this sidecar in both directions has two.
func (r *Recorder) Find(id string) []*Story {
	return r.list(func(s *Story) bool { return s.ID == id })
}

// Recent returns the last stories of why, all if empty, n at most, the newest first.
func (r *Recorder) Recent(why Reason, n int) []*Story {
	all := r.list(func(s *Story) bool { return why == "" || s.Why == why })
	slices.Reverse(all)
	return all[:min(n, len(all))]
}

func (r *Recorder) list(want func(*Story) bool) []*Story {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*Story
	for _, ring := range r.kept {
		for _, s := range ring {
			if want(s) {
				all = append(all, s)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *Story) int { return a.At.Compare(b.At) })
	return all
}

// Totals says how many stories there ever were.
func (r *Recorder) Totals() map[Reason]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := make(map[Reason]uint64, len(r.total))
	for why, n := range r.total {
		t[why] = n
	}
	return t
}
