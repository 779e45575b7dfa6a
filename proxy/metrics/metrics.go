package metrics

import (
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/observe"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Key says what a Series is about.
type Key struct {
	Direction observe.Direction
	Shape     observe.Shape
	Service   string         // outbound: the one that was called; inbound: empty
	Port      uint16         // inbound: the app entry; 0 if none was named
	Rule      int            // outbound: the route that applied, 0 for none
	Peer      proxy.Identity // whom the request went to or came from; "" without a sidecar there
	Version   proxy.Version  // in which the client speaks; 0 for Streams and Flows
}

// Other is the Service of the Series for all that came when there were too many.
const Other = "other"

// Outcome says how a request ended.
type Outcome struct {
	Status int    // 0 if there was no answer
	Code   string // why pillion answered itself; "" if it did not
	GRPC   int    // -1 if it is no gRPC
	End    observe.End
}

// Failed reports whether the request counts as an error.
func (o Outcome) Failed() bool { return observe.Failed(o.Status, o.Code, o.GRPC, o.End) }

// Series is what was counted for a Key.
type Series struct {
	Key

	// Most requests end like the one before: those that did are counted here until another way comes, or Collect.
	usual  Outcome
	usuals uint64 // not in Outcomes yet

	BytesIn, BytesOut uint64 // from and to the client
	Attempts          uint64 // beyond the first
	// Open are Streams and Flows that are open now.
	Open int64

	Outcomes map[Outcome]uint64
	// Duration is from the first byte of the request to the last of the answer, Head to the head of the answer. Those of Streams and Flows: until they
	// ended, and until they were open.
	Duration, Head Histogram
	// Parts are those of Head, in the order of observe.PartNames, for Exchanges; each counts the requests that had it.
	Parts [len(observe.PartNames)]Histogram
}

// ended counts an Outcome.
func (x *Series) ended(o Outcome) {
	if x.usual != o {
		x.settle()
		x.usual = o
	}
	x.usuals++
}

// settle brings Outcomes up to date.
func (x *Series) settle() {
	if x.usuals > 0 {
		x.Outcomes[x.usual] += x.usuals
		x.usuals = 0
	}
}

// Metrics counts. Make it with New.
type Metrics struct {
	most   int
	shards []shard // by Shard.Index
}

// shard is guarded by its shard's lock.
type shard struct {
	series  map[Key]*Series
	running [2]int64 // by Direction
	last    [2]memo  // by Direction: most requests are like the one before

	// Times wait here, so that the histograms, which are far apart in memory, are gone to with many at once.
	waiting int
	times   [32]times
}

// times are those of one request that are not counted yet.
type times struct {
	of         *Series
	took, head time.Duration // as Series.Duration and Head; head is negative if there was none
	parts      [len(observe.PartNames)]time.Duration
}

// settle counts the times that wait.
func (sh *shard) settle() {
	for i := range sh.times[:sh.waiting] {
		sh.times[i].count()
	}
	sh.waiting = 0
}

// count counts t. Several of its durations are often the same: the turn of a loop has one time.
func (t *times) count() {
	p := placeOf(t.took)
	t.of.Duration.count(&p)
	if t.head < 0 {
		return
	}
	if t.head != t.took {
		p = placeOf(t.head)
	}
	t.of.Head.count(&p)
	for i, d := range t.parts {
		switch {
		case d == t.head && d > 0:
			t.of.Parts[i].count(&p)
		case d > 0:
			t.of.Parts[i].Observe(d)
		}
	}
}

// memo is what a Series was found by. It is compared before a Key is made: the Endpoint and the Peer stand for their identities.
type memo struct {
	of       *Series // nil: none
	shape    observe.Shape
	version  proxy.Version
	rule     int
	service  proxy.Service
	endpoint *proxy.Endpoint
	peer     *proxy.Peer
}

func (m *memo) fits(e *observe.Entry, req *proxy.Request) bool {
	return m.of != nil && m.endpoint == req.Endpoint && m.peer == req.Peer && m.shape == e.Shape && m.version == req.Version && m.rule == req.Rule && m.service == req.Service
}

var _ observe.Sink = (*Metrics)(nil)

// New returns Metrics for requests on the shards, of at most series (if zero, 1,000) for each of them.
func New(shards []task.Shard, series int) *Metrics {
	if series == 0 {
		series = 1000
	}
	most := 0
	for _, s := range shards {
		most = max(most, s.Index()+1)
	}
	return &Metrics{most: series, shards: make([]shard, most)}
}

// Begin implements observe.Sink.
func (m *Metrics) Begin(e *observe.Entry) {
	s := e.Request.Shard
	s.Lock()
	m.shards[s.Index()].running[e.Direction]++
	s.Unlock()
}

// Head implements observe.Sink.
func (m *Metrics) Head(e *observe.Entry) {
	if e.Shape == observe.Exchange {
		return
	}
	s := e.Request.Shard
	s.Lock()
	m.of(e).Open++
	s.Unlock()
}

// Done implements observe.Sink.
func (m *Metrics) Done(e *observe.Entry) {
	s := e.Request.Shard
	s.Lock()
	defer s.Unlock()
	sh := &m.shards[s.Index()]
	sh.running[e.Direction]--
	x := m.of(e)
	x.ended(outcome(e))
	t := &sh.times[sh.waiting]
	*t = times{of: x, took: e.Stop.Sub(e.Start), head: -1}
	if e.Head != 0 {
		t.head = e.Head.Sub(e.Start)
		if e.Shape != observe.Exchange {
			x.Open--
		} else {
			t.parts = e.Parts.All()
		}
	}
	if sh.waiting++; sh.waiting == len(sh.times) {
		sh.settle()
	}
	if trace := &e.Record().Trace; trace.Sampled {
		x.Duration.Exemplar = Exemplar{trace.ID, e.Stop.Sub(e.Start), e.Stop}
		if e.Head != 0 {
			x.Head.Exemplar = Exemplar{trace.ID, e.Head.Sub(e.Start), e.Stop}
		}
	}
	x.BytesIn += uint64(e.BytesIn)
	x.BytesOut += uint64(e.BytesOut)
	x.Attempts += uint64(e.Request.Attempt)
}

// outcome keeps what an app may say within bounds: a status is three digits, and gRPC's codes end at 16.
func outcome(e *observe.Entry) Outcome {
	o := Outcome{Status: e.Status, Code: e.Code, GRPC: e.GRPC, End: e.End}
	if o.Status < 0 || o.Status > 599 {
		o.Status = 599
	}
	if o.GRPC > 16 {
		o.GRPC = 2
	}
	return o
}

// of finds the Series of e, whose shard's lock is held.
func (m *Metrics) of(e *observe.Entry) *Series {
	req := e.Request
	sh := &m.shards[req.Shard.Index()]
	last := &sh.last[e.Direction]
	if last.fits(e, req) {
		return last.of
	}
	k := key(e)
	x := last.of
	if x == nil || x.Key != k {
		if x = sh.series[k]; x == nil {
			x = sh.add(k, m.most)
		}
	}
	*last = memo{x, e.Shape, req.Version, req.Rule, req.Service, req.Endpoint, req.Peer}
	return x
}

func (sh *shard) add(k Key, most int) *Series {
	if len(sh.series) >= most {
		k = Key{Direction: k.Direction, Shape: k.Shape, Service: Other}
		if x := sh.series[k]; x != nil {
			return x
		}
	}
	if sh.series == nil {
		sh.series = make(map[Key]*Series)
	}
	x := &Series{Key: k, Outcomes: make(map[Outcome]uint64)}
	sh.series[k] = x
	return x
}

// key says where e is counted. Its strings are those of the configuration and of certificates, which outlive the request.
func key(e *observe.Entry) Key {
	req := e.Request
	k := Key{Direction: e.Direction, Shape: e.Shape, Version: req.Version}
	if e.Shape != observe.Exchange {
		k.Version = 0
	}
	if e.Direction == observe.Inbound {
		k.Port = req.Service.Port
		if req.Peer != nil {
			k.Peer = req.Peer.Identity
		}
		return k
	}
	k.Service, k.Rule = req.Service.Name, req.Rule
	if req.Endpoint != nil {
		k.Peer = req.Endpoint.Identity
	}
	return k
}

// Totals are the sums over shards.
type Totals struct {
	Series  map[Key]*Series
	Running [2]int64 // by observe.Direction
}

// Collect adds what shard s has counted to t. It is for tasks and callbacks of s; shards are collected one after the other, or t is guarded.
func (m *Metrics) Collect(s task.Shard, t *Totals) {
	s.Lock()
	defer s.Unlock()
	sh := &m.shards[s.Index()]
	sh.settle()
	for _, x := range sh.series {
		x.settle()
	}
	t.Add(&Totals{Series: sh.series, Running: sh.running})
}

// Add adds o, of which it keeps nothing.
func (t *Totals) Add(o *Totals) {
	if t.Series == nil {
		t.Series = make(map[Key]*Series)
	}
	for d, n := range o.Running {
		t.Running[d] += n
	}
	for k, x := range o.Series {
		sum := t.Series[k]
		if sum == nil {
			sum = &Series{Key: k, Outcomes: make(map[Outcome]uint64, len(x.Outcomes))}
			t.Series[k] = sum
		}
		sum.add(x)
	}
}

func (x *Series) add(o *Series) {
	for k, n := range o.Outcomes {
		x.Outcomes[k] += n
	}
	x.Duration.Add(&o.Duration)
	x.Head.Add(&o.Head)
	for i := range x.Parts {
		x.Parts[i].Add(&o.Parts[i])
	}
	x.BytesIn += o.BytesIn
	x.BytesOut += o.BytesOut
	x.Attempts += o.Attempts
	x.Open += o.Open
}
